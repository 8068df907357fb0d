"""The same numbers in every mode: checkpointing, attention, compiled, bfloat16."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StaticCache

from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from tests.helpers import small_model

Model = Phi3VisionForConditionalGeneration


@pytest.fixture
def batch(processor: Phi3VProcessor) -> dict[str, Tensor]:
    return dict(
        processor(
            text=["<|image_1|>What?", "a text"],
            images=[[small_model.image(1, 160, 100)], []],
            padding=True,
            return_tensors="pt",
        )
    )


def step(model: Model, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one training step."""
    model.zero_grad()
    loss = model(**batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def checkpoint(model: Model, reentrant: bool) -> None:
    """Recent releases of the library renamed the method and warn about the former name."""
    name = "activation_checkpointing_enable"
    enable = getattr(model, name) if hasattr(model, name) else model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(model: Model, batch: dict[str, Tensor], reentrant: bool) -> None:
    model.train()
    loss, gradients = step(model, batch)
    checkpoint(model, reentrant)
    assert model.model.layers[0].gradient_checkpointing
    assert model.model.vision_embed_tokens.img_processor.vision_model.encoder.layers[0].gradient_checkpointing
    model.enable_input_require_grads()
    again, gradients_again = step(model, batch)
    assert torch.equal(loss, again)
    assert gradients.keys() <= gradients_again.keys() or not reentrant
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_again[name], gradient, msg=name)


def test_checkpointing_saves_activations(model: Model, batch: dict[str, Tensor]) -> None:
    def kept(model: Model) -> int:
        sizes: list[int] = []

        def count(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(**batch, labels=batch["input_ids"])
        return sum(sizes)

    before = kept(model.train())
    checkpoint(model, False)
    assert kept(model) < before / 2


def test_eager_equals_sdpa(batch: dict[str, Tensor]) -> None:
    real = batch["attention_mask"].bool()
    eager, sdpa = (small_model.model(attention=one)(**batch).logits[real] for one in ("eager", "sdpa"))
    torch.testing.assert_close(eager, sdpa, atol=2e-5, rtol=0)


def test_bfloat16(model: Model, batch: dict[str, Tensor]) -> None:
    real = batch["attention_mask"].bool()
    exact = model(**batch).logits[real]
    half = model.to(torch.bfloat16)
    output = half(**batch, labels=batch["input_ids"])
    assert output.logits.dtype == torch.bfloat16
    assert (output.logits[real].float() - exact).abs().mean() < 0.05 * exact.std()
    output.loss.backward()
    assert half.model.vision_embed_tokens.sub_GN.grad is not None
    assert half.generate(**batch, max_new_tokens=3, do_sample=False).shape[1] == batch["input_ids"].shape[1] + 3


def test_rotary_tables_stay_float32_in_bfloat16(model: Model) -> None:
    positions = torch.arange(200)[None]
    exact, _ = model.model.rotary_emb(torch.zeros(1), positions)
    half = model.to(torch.bfloat16)
    cos, _ = half.model.rotary_emb(torch.zeros(1), positions)
    # The tables were made in float32; casting the module rounds its buffers, so the model is loaded in its type.
    fresh = small_model.model()
    torch.testing.assert_close(exact, fresh.model.rotary_emb(torch.zeros(1), positions)[0])
    assert (cos - exact).abs().max() < 1.0


@pytest.fixture
def compiled() -> Iterator[Any]:
    """torch.compile without falling back; the tracing backend needs no C++ compiler."""
    torch._dynamo.reset()
    yield lambda module: torch.compile(module, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("length", [60, 120])
def test_the_compiled_decoder_equals_eager(model: Model, compiled: Any, length: int) -> None:
    embeds = torch.linspace(-1, 1, 2 * length * 32).sin().reshape(2, length, 32) * 0.01
    mask = torch.ones(2, length, dtype=torch.long)
    with torch.no_grad():
        eager = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
        fast = compiled(model)(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(fast, eager, atol=2e-5, rtol=0)


@pytest.mark.slow
def test_a_compiled_step_with_a_static_cache_equals_eager(
    model: Model, processor: Phi3VProcessor, compiled: Any
) -> None:
    prompt = processor(text="<|image_1|>What?", images=small_model.image(1, 160, 100), return_tensors="pt")
    length = prompt["input_ids"].shape[1]
    token = torch.tensor([[7]])
    position = torch.tensor([[length]])

    def decode(step: Any) -> Tensor:
        cache = StaticCache(config=model.config, max_cache_len=length + 4)
        with torch.no_grad():
            model(**prompt, past_key_values=cache, use_cache=True)
            logits: Tensor = step(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True).logits
        return logits

    torch.testing.assert_close(decode(compiled(model)), decode(model), atol=2e-5, rtol=0)
