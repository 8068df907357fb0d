"""Where the model computes: the CPU where there is no CUDA, one GPU without torchrun, quantized models untouched."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from phisight.core.errors import SettingsError
from phisight.core.settings import TrainSettings
from phisight.train.acceleration.product_types import watched_products
from phisight.train.distributed import fsdp
from phisight.train.distributed.placement import Placement


class Immovable(nn.Linear):
    """Counts how often it is moved."""

    is_loaded_in_4bit = True
    moved = 0

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.moved += 1
        return super().to(*args, **kwargs)


def test_another_accelerator_than_cuda_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    placement = Placement(nn.Linear(2, 2), TrainSettings())
    assert placement.device == torch.device("cpu")
    assert (placement.rank, placement.ranks) == (0, 1)
    assert placement.model is placement.unwrapped


def test_several_gpus_without_torchrun_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with caplog.at_level(logging.WARNING):
        Placement(nn.Linear(2, 2), TrainSettings())
    assert "4 GPUs are visible and one is used; torchrun" in caplog.text


def test_a_quantized_model_is_never_moved() -> None:
    model = Immovable(2, 2)
    Placement(model, TrainSettings(method="qlora"))
    assert model.moved == 0
    model.is_loaded_in_4bit = False
    Placement(model, TrainSettings())
    assert model.moved == 1


def test_a_batch_keeps_what_is_no_tensor() -> None:
    placement = Placement(nn.Linear(2, 2), TrainSettings())
    batch = {"input_ids": torch.ones(1, 3), "sample_lengths": (1, 2), "first_layer": 2}
    moved = placement.to_device(batch)
    assert moved.keys() == batch.keys()
    assert (moved["sample_lengths"], moved["first_layer"]) == ((1, 2), 2)


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_arithmetic_is_that_of_the_recipe(bf16: bool, dtype: torch.dtype) -> None:
    model = nn.Linear(2, 2)
    placement = Placement(model, TrainSettings(bf16=bf16))
    with placement.autocast():
        assert model(torch.ones(1, 2)).dtype == dtype
    assert model(torch.ones(1, 2)).dtype == torch.float32


def test_sharding_needs_several_processes() -> None:
    with pytest.raises(SettingsError, match="torchrun"):
        Placement(nn.Linear(2, 2), TrainSettings(fsdp=True))


def test_shards_compute_in_bfloat16_and_keep_float32(model: Any, batch: dict[str, Any], tmp_path: Path) -> None:
    """FSDP2 with autocast: products in bfloat16, parameters and gradients in float32, values as unsharded."""

    def step(one: Any) -> tuple[float, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16), watched_products(one) as products:
            loss = one(**batch).loss
        loss.backward()
        assert products.share(torch.bfloat16) > 0.9
        weight = one.model.layers[0].self_attn.qkv_proj.weight
        assert (weight.dtype, weight.grad.dtype) == (torch.float32, torch.float32)
        full = weight.grad.full_tensor() if isinstance(weight.grad, DTensor) else weight.grad
        return float(loss.detach()), full.clone()

    whole = step(copy.deepcopy(model))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        fsdp.shard(model)
        assert isinstance(model.model.layers[0].self_attn.qkv_proj.weight, DTensor)
        sharded = step(model)
    finally:
        dist.destroy_process_group()
    assert sharded[0] == pytest.approx(whole[0], rel=1e-6)
    torch.testing.assert_close(sharded[1], whole[1])
