"""What a GPU computes in one kernel, computed on a CPU: values and gradients as the library has them."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from phisight.core.settings import LoraSettings, TrainSettings
from phisight.model.attention import attend_by_sample
from phisight.train.acceleration import fused_linear, one_kernel, rms_norm, rotary_attention
from phisight.train.acceleration.patch import fused_layers
from phisight.train.trainable.methods import apply_method

GPU_BRANCHES = (fused_linear, rms_norm, rotary_attention)


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choices that a GPU's tensors bring about; the chains themselves run as written."""
    for module in GPU_BRANCHES:
        monkeypatch.setattr(module, "on_gpu", lambda _: True)


def loss_and_gradients(model: Any, batch: dict[str, Any], *, fused: bool) -> dict[str, Tensor]:
    model.zero_grad()
    with fused_layers(model, wanted=fused):
        loss = model(**batch, skip_logits=True).loss
        loss.backward()
    return {"loss": loss.detach(), **{n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}}


def token_batch(model: Any, *, packed: bool) -> dict[str, Any]:
    ids = torch.randint(10, model.config.vocab_size - 10, (1, 24), generator=torch.Generator().manual_seed(0))
    ids[ids == model.config.image_token_id] = 10
    batch: dict[str, Any] = {"input_ids": ids, "labels": ids.clone()}
    if packed:
        lengths = (10, 14)
        batch |= {"position_ids": torch.cat([torch.arange(n) for n in lengths])[None], "sample_lengths": lengths}
    return batch


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.usefixtures("as_on_gpu")
def test_a_step_is_the_librarys(model: Any, method: str, *, packed: bool) -> None:
    trained = apply_method(model, TrainSettings.model_validate({"method": method}), LoraSettings())
    for name, one in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    if packed:
        attend_by_sample(trained)
    batch = token_batch(trained, packed=packed)
    written, fused = (loss_and_gradients(trained, batch, fused=wanted) for wanted in (False, True))
    assert written.keys() == fused.keys()
    assert len(written) > 5
    for name, value in written.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("as_on_gpu")
def test_keys_and_values_go_into_a_cache(model: Any) -> None:
    ids = token_batch(model, packed=False)["input_ids"]
    whole = model(input_ids=ids).logits[:, -1]
    with fused_layers(model, wanted=True), torch.no_grad():
        first = model(input_ids=ids[:, :-1], use_cache=True)
        last = model(input_ids=ids[:, -1:], past_key_values=first.past_key_values, use_cache=True).logits[:, -1]
    torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-5)


def test_chains_are_compiled_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def compiler(chain: Any, **options: Any) -> Any:
        seen.append(options)
        return lambda states: chain(states) + 1

    chain = one_kernel.one_kernel(lambda states: states * 2)
    monkeypatch.setattr(torch, "compile", compiler)
    assert chain(torch.ones(1)) == 2
    assert not seen
    monkeypatch.setattr(one_kernel, "on_gpu", lambda _: True)
    assert [float(chain(torch.ones(1))) for _ in range(2)] == [3, 3]
    assert seen == [{}]


def test_without_a_compiler_chains_run_as_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def compiler(_: Any, **__: Any) -> Any:
        def fails(*_: Any) -> Any:
            calls.append(1)
            raise RuntimeError("no C compiler")

        return fails

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(one_kernel, "on_gpu", lambda _: True)
    chain = one_kernel.one_kernel(lambda states: states * 2)
    with caplog.at_level(logging.WARNING):
        assert [float(chain(torch.ones(1))) for _ in range(3)] == [2, 2, 2]
    assert len(calls) == 1
    assert [record.message for record in caplog.records if "no C compiler" in record.message]
