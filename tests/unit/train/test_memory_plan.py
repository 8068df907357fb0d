"""The plan: memory within 15 % of what training takes, tokens and steps as they will be."""

from typing import Any

import pytest
import torch

from phisight.core.geometry import image_tokens
from phisight.core.recipe import recipe_from
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from phisight.train.acceleration.patch import fused_layers
from phisight.train.estimate.memory_plan import Batch, image_token_table, memory_of
from phisight.train.trainable.methods import apply_method
from tests.helpers.peak_memory import peak_of_the_second_step

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"examples": 4, "tokens": 150},
    "wider": {"examples": 2, "tokens": 256, "hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 640}
    | {"num_attention_heads": 8, "num_key_value_heads": 4},
}
TRAINED = 40


def batch_of(config: Any, examples: int, tokens: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(20, 40, (examples, tokens))
    ids[:, 3 : 3 + image_tokens(112, 112, 1, 112)] = config.image_token_id
    labels = torch.full_like(ids, -100)
    labels[:, -TRAINED:] = ids[:, -TRAINED:]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.randn(examples, 2, 3, 112, 112),
        "image_sizes": torch.tensor([[112, 112]] * examples),
    }


def measured_peak(model: Any, inputs: dict[str, torch.Tensor], accumulate: int) -> int:
    """Most bytes of tensors in the second step, parameters and optimizer counted."""

    def backward() -> None:
        for _ in range(accumulate):
            model(**inputs, skip_logits=True).loss.backward()

    return peak_of_the_second_step(model, backward)


@pytest.mark.slow
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("full", {"train_tower": True}),
        ("full", {"accumulate": 2}),
        ("lora", {}),
        ("lora", {"from_layer": 2}),
        ("full", {"from_layer": 1}),
        ("dora", {}),
        ("lora", {"gradient_checkpointing": True}),
        ("projector", {}),
    ],
)
def test_memory_is_within_fifteen_per_cent(size: str, method: str, more: dict[str, Any]) -> None:
    shape = dict(SHAPES[size])
    examples, tokens = shape.pop("examples"), shape.pop("tokens")
    config = tiny_config(tiny_processor(["What is shown?"] * 3).tokenizer, **shape)
    config._attn_implementation = "sdpa"
    recipe = recipe_from({"train": {"method": method, "batch_size": examples, **more}})
    model: Any = apply_method(tiny_model(config), recipe.train, recipe.lora)
    model.train()
    if recipe.train.gradient_checkpointing:
        base = model.get_base_model()
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    planned = memory_of(model, config, Batch(examples, tokens, TRAINED, 2), recipe).peak
    with fused_layers(model, wanted=True):
        measured = measured_peak(model, batch_of(config, examples, tokens), recipe.train.accumulate)
    assert planned == pytest.approx(measured, rel=0.15)


def test_tokens_at_each_limit() -> None:
    rows = [{"image_width": width, "image_height": 100} for width in (100, 100, 400)]
    one, four = image_token_table(rows, [4, 1, 4], 336)
    assert (one.num_crops, one.median, one.largest) == (1, 313, 313)
    assert (four.num_crops, four.median, four.largest) == (4, image_tokens(100, 100, 4), image_tokens(100, 100, 4))
    assert four.median == 757
