"""A packed row under both packages of flash attention, whose kernels a reference stands in for on a CPU."""

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import modeling_flash_attention_utils

from phisight.model.attention import FLASH, attend_by_sample
from phisight.train.examples.collators import PackingCollator
from phisight.train.examples.dataset import ExampleSet
from tests.helpers.flash_kernel import VarlenKernel, whole_images


@pytest.fixture
def varlen(monkeypatch: pytest.MonkeyPatch) -> VarlenKernel:
    """Both packages of flash attention, as the library imports them."""
    kernel = VarlenKernel()
    for name in ("flash_attn_interface", "flash_attn"):
        planted: Any = types.ModuleType(name)
        planted.flash_attn_varlen_func, planted.flash_attn_func = kernel, whole_images
        planted.flash_attn_with_kvcache = lambda *_, **__: pytest.fail("training keeps no cache")
        monkeypatch.setitem(sys.modules, name, planted)
    padding: Any = types.ModuleType("flash_attn.bert_padding")
    padding.pad_input = padding.unpad_input = lambda *_, **__: pytest.fail("a packed row has no padding")
    monkeypatch.setitem(sys.modules, "flash_attn.bert_padding", padding)
    monkeypatch.setattr(modeling_flash_attention_utils, "is_flash_attn_2_available", lambda **_: True)
    monkeypatch.setattr(modeling_flash_attention_utils, "_loaded_implementation", None)
    return kernel


def loss_of(model: Any, batch: dict[str, Any], attention: str) -> tuple[float, Tensor]:
    model.zero_grad()
    model.config._attn_implementation = model.model.config._attn_implementation = attention
    attend_by_sample(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    return float(loss.detach()), model.model.layers[0].self_attn.qkv_proj.weight.grad.clone()


@pytest.mark.parametrize("attention", FLASH)
def test_a_packed_row_reaches_the_kernel_with_its_lengths(
    attention: str, model: Any, examples: ExampleSet, varlen: VarlenKernel
) -> None:
    batch = PackingCollator()([examples[index] for index in range(4)])
    expected, gradient = loss_of(model, batch, "sdpa")
    loss, found = loss_of(model, batch, attention)
    assert varlen.calls == [list(batch["sample_lengths"])] * len(model.model.layers)
    assert loss == pytest.approx(expected, rel=2e-3)
    torch.testing.assert_close(found, gradient, rtol=0.05, atol=0.02 * float(gradient.abs().max()))
