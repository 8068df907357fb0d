"""Layers of decoder and tower that compute the same in fewer steps and keep less for the backward pass.

    adapters         layer and LoRA update in one                      train/acceleration/fused_linear.py
    MLPs             SwiGLU, or the tower's GELU, with what follows    train/acceleration/fused_linear.py
    linear layers    float32 on a CPU: oneDNN's products               train/acceleration/fused_linear.py
    RMS norms        input kept, normalised rows computed again        train/acceleration/rms_norm.py

Only what is known to compute the same is replaced: DoRA, 4-bit layers, adapters with dropout and other activations stay
with their library, and a compiled model fuses for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation, SiLUActivation
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.phi3.modeling_phi3 import Phi3MLP, Phi3RMSNorm

from phisight.train.acceleration.fused_linear import Adapter, fused_linear
from phisight.train.acceleration.rms_norm import rms_norm

Forward = Callable[..., Tensor]


@contextmanager
def fused_layers(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Within the block the layers run fused, if that is wanted; names and weights stay as they are."""
    forwards = fused_forwards(model) if wanted else {}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def fused_forwards(model: nn.Module) -> dict[nn.Module, Forward]:
    """What each module that can be fused is to run; one that a fused module reads the weights of is not called then."""
    forwards = {module: _forward_of(module) for module in model.modules()}
    return {module: forward for module, forward in forwards.items() if forward is not None}


def _forward_of(module: Any) -> Forward | None:
    if _is_plain_adapter(module):
        return _adapted(module)
    if type(module) is nn.Linear:
        return _plain(module)
    if type(module) is Phi3RMSNorm:
        return lambda states: rms_norm(states, module.weight, module.variance_epsilon)
    if type(module) is Phi3MLP and isinstance(module.activation_fn, (nn.SiLU, SiLUActivation)):
        return _mlp(module, module.gate_up_proj, module.down_proj, "swiglu")
    if type(module) is CLIPMLP and isinstance(module.activation_fn, QuickGELUActivation):
        return _mlp(module, module.fc1, module.fc2, "quick_gelu")
    return None


def _mlp(module: Any, first: Any, second: Any, activation: str) -> Forward | None:
    """The first layer by itself, the activation with the second one."""
    if type(second) is not nn.Linear and not _is_plain_adapter(second):
        return None
    as_written: Forward = type(module).forward

    def forward(states: Tensor) -> Tensor:
        layer, adapter = getattr(second, "base_layer", second), _adapter(second)
        if _steps_aside(second) or (adapter and not _one_type(states, layer.weight)):
            return as_written(module, states)
        return fused_linear(first(states), layer.weight, layer.bias, adapter, activation)

    return forward


def _plain(module: nn.Linear) -> Forward:
    """oneDNN's products where they help; in other types torch takes them by itself."""

    def forward(states: Tensor) -> Tensor:
        if states.device.type != "cpu" or states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(states, module.weight, module.bias)
        return fused_linear(states, module.weight, module.bias)

    return forward


def _adapted(module: Any) -> Forward:
    as_written: Forward = type(module).forward

    def forward(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer, adapter = module.base_layer, _adapter(module)
        if args or kwargs or _steps_aside(module) or not _one_type(states, layer.weight):
            return as_written(module, states, *args, **kwargs)
        return fused_linear(states, layer.weight, layer.bias, adapter)

    return forward


def _one_type(states: Tensor, weight: Tensor) -> bool:
    """Whether all parts compute in one type: under autocast, or where weights, adapter and states are float32."""
    device = states.device.type
    return torch.is_autocast_enabled(device) or states.dtype == weight.dtype == torch.float32


def _is_plain_adapter(module: Any) -> bool:
    """A layer of PEFT's LoRA as the paper has it: one adapter, no dropout, no bias, no variant."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or type(module.base_layer) is not nn.Linear or module.fan_in_fan_out:
        return False
    names = module.active_adapters
    if len(names) != 1 or len(module.lora_A) != 1 or module.lora_variant:
        return False
    return isinstance(module.lora_dropout[names[0]], nn.Identity) and module.lora_B[names[0]].bias is None


def _adapter(module: Any) -> Adapter | None:
    if not hasattr(module, "base_layer"):
        return None
    (name,) = module.active_adapters
    return Adapter(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name])


def _steps_aside(module: Any) -> bool:
    """Whether an adapter is switched off or merged at the moment."""
    return hasattr(module, "base_layer") and (module.disable_adapters or module.merged)
