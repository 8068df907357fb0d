"""4-bit weights below adapters; bitsandbytes computes on a CPU too."""

import copy
import sys
from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.estimate.memory_plan import stored_bytes
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.module_groups import count_parts
from phisight.train.trainable.quantize import merge_quantized, quantize_decoder

pytest.importorskip("bitsandbytes", reason="the extra quantize is not installed")

QLORA = TrainSettings(method="qlora")
LORA = LoraSettings(rank=4)


@pytest.fixture
def small(model: Any) -> Any:
    return quantize_decoder(copy.deepcopy(model)).to("cpu")


def test_the_decoder_shrinks_and_nothing_else(model: Any, small: Any) -> None:
    before, after = model.state_dict(), dict(small.named_parameters())
    for name, value in after.items():
        packed = "model.layers." in name and name.endswith("_proj.weight")
        assert (value.dtype == torch.uint8) == packed, name
        if not packed:
            assert torch.equal(value, before[name])
    assert sum(part.frozen + part.trained for part in count_parts(small)) == sum(p.numel() for p in model.parameters())


def test_the_plan_counts_the_bytes_that_are_held(model: Any, small: Any) -> None:
    held = 0
    for value in small.parameters():
        state = getattr(value, "quant_state", None)
        tensors = [state.absmax, state.state2.absmax] if state else []
        held += value.nbytes + sum(one.nbytes for one in tensors)
    planned = sum(stored_bytes(name, one.requires_grad_(False), "qlora") for name, one in model.named_parameters())
    assert planned == pytest.approx(held, rel=0.01)


def test_answers_stay_near_those_of_full_precision(model: Any, small: Any, batch: Any) -> None:
    exact, near = model(**batch).logits, small(**batch).logits
    assert 0 < (near - exact).norm() / exact.norm() < 0.2


def test_training_moves_adapters_and_merging_keeps_the_answers(small: Any, batch: Any) -> None:
    wrapped = apply_method(small, QLORA, LORA)
    optimizer = torch.optim.AdamW([one for one in wrapped.parameters() if one.requires_grad], lr=1e-3)
    losses = []
    for _ in range(5):
        loss = wrapped(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    with torch.no_grad():
        tuned = wrapped(**batch).logits
        merged = merge_quantized(wrapped)
        assert torch.allclose(merged(**batch).logits, tuned, atol=1e-4)
    assert {value.dtype for value in merged.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert not any("lora" in name or "quant" in name for name in merged.state_dict())


def test_an_evaluation_in_between_leaves_the_gradients(small: Any, batch: Any) -> None:
    wrapped = apply_method(small, QLORA, LORA)
    wrapped.train()
    wrapped(**batch).loss.backward()
    before = {name: one.grad.clone() for name, one in wrapped.named_parameters() if one.grad is not None}
    with torch.no_grad():
        wrapped.eval()(**batch)
    wrapped.zero_grad()
    wrapped.train()(**batch).loss.backward()
    after = {name: one.grad for name, one in wrapped.named_parameters() if one.grad is not None}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_bitsandbytes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SettingsError, match="qlora needs bitsandbytes"):
        quantize_decoder(model)
