"""FSDP2: weights, gradients and optimizer state sharded over the ranks of ``torchrun``, by torch's ``fully_shard``.

Checkpoints hold full weights in the official layout and the full optimizer state, so that one process loads them, and
any number of ranks continues from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer

from phisight.core.environment import world_size
from phisight.core.errors import SettingsError
from phisight.model.attention import inside_adapters
from phisight.model.number_head import NumberHead, attach_head, head_of

LAYERS = (Phi3DecoderLayer, CLIPEncoderLayer)
"""Modules that are gathered one at a time."""
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def require_ranks() -> None:
    """SettingsError where this process is the only one."""
    if world_size() == 1:
        raise SettingsError(
            "train.fsdp shards over several processes and this is the only one; start with "
            "`torchrun --nproc-per-node N -m phisight train RECIPE.yaml`, or set train.fsdp to false"
        )


def shard(model: Any) -> None:
    """Shard a model, with adapters or without, over all ranks, in place.

    Each decoder and tower layer is a unit of its own, gathered for its own forward and backward pass; so are embeddings
    and head unless they share their weights; the root holds the rest. Quantized weights stay whole on every rank.
    """
    base = inside_adapters(model)
    whole = {one for one in model.parameters() if not one.is_floating_point()}
    options: Any = {"ignored_params": whole} if whole else {}
    for module in base.modules():
        if isinstance(module, LAYERS):
            fully_shard(module, **options)
    if base.lm_head.weight is not base.model.embed_tokens.weight:
        fully_shard(base.model.embed_tokens, **options)
        fully_shard([base.model.norm, base.lm_head], reshard_after_forward=False, **options)
    fully_shard(model, **options)
    register_fsdp_forward_method(model, "generate")


def full_state_dict(model: Any) -> dict[str, Tensor]:
    """State dict with full tensors on the CPU of rank zero, empty on the others; called by all ranks."""
    weights: dict[str, Tensor] = _completed(get_model_state_dict(model, options=_FULL))
    return weights


def unsharded_copy(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """An unsharded copy of a model with adapters, on this rank's CPU, from the ``full_state_dict`` without number head.

    No other rank is needed.
    """
    from peft import get_peft_model

    base = model.get_base_model()
    copy = get_peft_model(type(base)(deepcopy(base.config)), deepcopy(model.peft_config["default"]))
    copy.load_state_dict(weights, strict=True, assign=True)
    return copy


@contextmanager
def unsharded_head(model: Any) -> Iterator[None]:
    """Inside, an unsharded copy of the number head is attached to a sharded model: answers call the head outside of the
    model's forward pass, which alone gathers shards. Called by all ranks.
    """
    head = head_of(model)
    if head is None:
        yield
        return
    stored = head.state_dict().items()
    values = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in stored}
    known = [values[f"known_{index}"] for index in range(len(head.fields))]
    scale = (values[name] for name in ("centre", "spread", "logarithmic"))
    whole = NumberHead(values["inner.weight"].shape[1], head.fields, known, *scale)
    whole.load_state_dict(values, strict=True)
    attach_head(model, whole)
    try:
        yield
    finally:
        attach_head(model, head)


def save_optimizer(model: Any, optimizer: Any, path: Path, *, write: bool) -> None:
    """The full optimizer state by parameter names, in one file; called by all ranks, written by one."""
    state = _completed(get_optimizer_state_dict(model, optimizer, options=_FULL))
    if write:
        torch.save(state, path)


def load_optimizer(model: Any, optimizer: Any, path: Path) -> None:
    """Load the shard of each rank from the state that ``save_optimizer`` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=StateDictOptions(full_state_dict=True))


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A full tensor sharded like a parameter, where that is sharded; called by all ranks."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


def _completed(state: Any) -> Any:
    """Tensors of pending collectives (on a CPU nothing else waits for them) as plain ones."""
    if isinstance(state, dict):
        return {name: _completed(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_completed(value) for value in state]
    return state.wait() if isinstance(state, AsyncCollectiveTensor) else state
