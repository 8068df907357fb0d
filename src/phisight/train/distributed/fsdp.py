"""FSDP2 for the Trainer: weights, gradients and optimizer in shards over the processes of ``torchrun``.

Checkpoints hold whole weights in the official layout and the whole optimizer state, so that one process loads them, and
any number of processes goes on from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from phisight.core.environment import world_size
from phisight.core.errors import SettingsError
from phisight.model.number_head import NumberHead, attach_head, head_of

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def sharding(wanted: bool) -> dict[str, Any]:
    """Arguments of the Trainer; each decoder and tower layer is a unit of its own."""
    if not wanted:
        return {}
    if world_size() == 1:
        raise SettingsError(
            "train.fsdp shards over several processes and this is the only one; start with "
            "`torchrun --nproc-per-node N -m phisight train RECIPE.yaml`, or set train.fsdp to false"
        )
    config = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "FULL_STATE_DICT"}
    return {"fsdp": True, "fsdp_config": config}


def shard_on_cpu(accelerator: Accelerator, options: dict[str, Any]) -> None:
    """Turn sharding on where the processes compute on CPUs.

    accelerate looks at its FSDP plugin only where there are accelerators, and would go on unsharded without a word.
    """
    state: Any = accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**options)


def full_state_dict(model: Any) -> dict[str, Tensor]:
    """State dict with whole tensors on the CPU of the first process, empty on the others; called by all of them."""
    weights: dict[str, Tensor] = _arrived(get_model_state_dict(model, options=_WHOLE))
    return weights


def unsharded_copy(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """A model with adapters whose own tensors lie in shards, made anew on this process's CPU from ``full_state_dict``.

    No other process is needed. The number head stays where it is: ``weights`` are those without it.
    """
    from peft import get_peft_model

    base = model.get_base_model()
    copy = get_peft_model(type(base)(deepcopy(base.config)), deepcopy(model.peft_config["default"]))
    copy.load_state_dict(weights, strict=True, assign=True)
    return copy


@contextmanager
def unsharded_head(model: Any) -> Iterator[None]:
    """Within it a whole copy of the number head hangs on a sharded model: answers ask the head outside of the model's
    own pass, which alone brings shards together. Called by all processes.
    """
    head = head_of(model)
    if head is None:
        yield
        return
    stored = head.state_dict().items()
    values = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in stored}
    known = [values[f"known_{place}"] for place in range(len(head.fields))]
    scale = (values[name] for name in ("centre", "spread", "logarithmic"))
    whole = NumberHead(values["inner.weight"].shape[1], head.fields, known, *scale)
    whole.load_state_dict(values, strict=True)
    attach_head(model, whole)
    try:
        yield
    finally:
        attach_head(model, head)


def save_optimizer(model: Any, optimizer: Any, path: Path, *, write: bool) -> None:
    """The whole optimizer state by names of parameters, in one file; called by all processes, written by one."""
    state = _arrived(get_optimizer_state_dict(model, optimizer, options=_WHOLE))
    if write:
        torch.save(state, path)


def load_optimizer(model: Any, optimizer: Any, path: Path) -> None:
    """Give each process its shard of the state that ``save_optimizer`` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=StateDictOptions(full_state_dict=True))


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor in the shards of a parameter, where it has any; called by all processes."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


def _arrived(state: Any) -> Any:
    """Tensors that are still on their way (on a CPU nothing else waits for them) as plain ones."""
    if isinstance(state, dict):
        return {name: _arrived(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_arrived(value) for value in state]
    return state.wait() if isinstance(state, AsyncCollectiveTensor) else state
