"""Where the model computes: one device, one replica per rank (DDP, by accelerate), or shards over the ranks (FSDP2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin
from torch import Tensor
from torch.distributed.tensor import DTensor

from phisight.core.environment import world_size
from phisight.core.settings import TrainSettings
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.distributed.fsdp import require_ranks, shard

_LOG = logging.getLogger(__name__)


class Placement:
    """A model on its device, wrapped for the ranks there are.

    accelerate neither scales the loss nor casts nor counts steps here: the training step does, where it can be read.
    """

    def __init__(self, model: Any, train: TrainSettings) -> None:
        self.sharded = train.fsdp
        if self.sharded:
            require_ranks()
        if torch.cuda.device_count() > 1 and world_size() == 1:
            _LOG.warning(
                "%d GPUs are visible and one is used; torchrun --nproc-per-node N -m phisight train uses N",
                torch.cuda.device_count(),
            )
        # Without CUDA it is the CPU, never an accelerator that nothing here was tested on.
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            device_placement=False,
            mixed_precision="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # A batch without images computes the image part all the same: see ImageEmbedding.zero.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
        )
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.ranks: int = self.accelerator.num_processes
        self._bf16 = computes_bfloat16(train)
        if not getattr(model, "is_loaded_in_4bit", False):  # moving would quantize it again
            model.to(self.device)
        self.unwrapped = model
        if self.sharded:
            shard(model)
        self.model: Any = model if self.sharded or self.ranks == 1 else self.accelerator.prepare(model)

    def autocast(self) -> torch.autocast:
        """Arithmetic in bfloat16 where that is safe, if the recipe asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    def gradient_sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are reduced over the ranks in the backward pass of the last micro-batch only."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch on the device of the model; see ``on_device``."""
        return on_device(self.device, batch)


def on_device(device: torch.device, batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch with its tensors on a device; other entries are passed on as they are."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def norm_value(norm: Any) -> float:
    """A gradient's norm as a number, on every rank; called by all of them."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
