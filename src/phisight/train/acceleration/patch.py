"""Fused forwards for the layers of decoder and tower: the same result in fewer operations and saved tensors.

    adapters         layer and LoRA update in one                      train/acceleration/fused_linear.py
    MLPs             SwiGLU, or the tower's GELU, with what follows    train/acceleration/fused_linear.py
    linear layers    float32 on a CPU: oneDNN's products               train/acceleration/fused_linear.py
    last layer       queries from the first label on                   model/attention.py
    attention        queries and keys turned at once                   train/acceleration/rotary_attention.py
    RMS norms        input saved, normalized rows recomputed           train/acceleration/rms_norm.py
    whole layers     to predict with a small model on a CPU            train/acceleration/prediction_layers.py

Only layers known to compute the same are patched: DoRA, 4-bit layers, adapters with dropout and other activations keep
the library's forward, and a compiled model is fused by the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation, SiLUActivation
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.phi3.modeling_phi3 import Phi3Attention, Phi3DecoderLayer, Phi3MLP, Phi3RMSNorm

from phisight.core.settings import TrainSettings
from phisight.generate.lanes import stays_in_caches
from phisight.model.attention import QUERIES_FROM, layer_from
from phisight.train.acceleration.fused_linear import ONE_DNN, Adapter, PackedLinear, fused_linear
from phisight.train.acceleration.prediction_layers import prediction_layer
from phisight.train.acceleration.rms_norm import rms_norm
from phisight.train.acceleration.rotary_attention import turning_attention

Forward = Callable[..., Any]


def fuses(train: TrainSettings) -> bool:
    """Whether layers run fused: ``auto`` says so on a CPU, where it was measured; the compiler and Liger fuse alone."""
    if train.compile or train.liger:
        return False
    return train.fused == "on" or (train.fused == "auto" and not torch.cuda.is_available())


@contextmanager
def fused_layers(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Inside the block the layers run fused, if wanted; names and weights do not change."""
    forwards = fused_forwards(model) if wanted else {}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def fuse_for_prediction(model: nn.Module) -> None:
    """Fused layers for good, on a CPU, where they were measured: float32 products are oneDNN's.

    A small model has a second copy of its weights, packed for these products, and each of its layers is one function.
    """
    if torch.cuda.is_available():
        return
    for module, forward in fused_forwards(model, pack=ONE_DNN and stays_in_caches(model)).items():
        module.forward = forward


def fused_forwards(model: nn.Module, *, pack: bool = False) -> dict[nn.Module, Forward]:
    """Fused forward of each module that has one; a module whose weights another one reads is not called itself.

    ``pack``: Whether float32 weights are packed.
    """
    forwards = {module: _forward_of(module, pack=pack) for module in model.modules()}
    return {module: forward for module, forward in forwards.items() if forward is not None}


def _forward_of(module: Any, *, pack: bool) -> Forward | None:
    if pack and (forward := prediction_layer(module)) is not None:
        return forward
    if _is_plain_adapter(module):
        return _adapted(module)
    if type(module) is nn.Linear:
        return _plain(module, pack=pack)
    if type(module) is Phi3RMSNorm:
        return lambda states: rms_norm(states, module.weight, module.variance_epsilon)
    if type(module) is Phi3DecoderLayer and module.self_attn.layer_idx == module.config.num_hidden_layers - 1:
        return _last(module)
    if type(module) is Phi3Attention:
        return turning_attention(module)
    if type(module) is Phi3MLP and isinstance(module.activation_fn, (nn.SiLU, SiLUActivation)):
        return _mlp(module, module.gate_up_proj, module.down_proj, "swiglu", pack=pack)
    if type(module) is CLIPMLP and isinstance(module.activation_fn, QuickGELUActivation):
        return _mlp(module, module.fc1, module.fc2, "quick_gelu", pack=pack)
    return None


def _mlp(module: Any, first: Any, second: Any, activation: str, *, pack: bool) -> Forward | None:
    """First layer, then activation and second layer fused."""
    if type(second) is not nn.Linear and not _is_plain_adapter(second):
        return None
    original: Callable[..., Tensor] = type(module).forward
    packed = _packed(second) if pack else None

    def forward(states: Tensor) -> Tensor:
        layer, adapter = getattr(second, "base_layer", second), _adapter(second)
        if _adapter_inactive(second) or (adapter and not _same_dtype(states, layer.weight)):
            return original(module, states)
        return fused_linear(first(states), layer.weight, layer.bias, adapter, activation, packed)

    return forward


def _last(module: Any) -> Forward | None:
    """The last decoder layer: nobody reads what it makes of the positions before the first label.

    None with dropout: its draws are for all positions, so that a seed would give another run.
    """
    drops = any(isinstance(one, nn.Dropout) and one.p > 0 for one in module.modules())
    if drops or module.self_attn.attention_dropout > 0:
        return None
    original: Callable[..., Tensor] = type(module).forward

    def forward(hidden_states: Tensor, *args: Any, queries_from: int = 0, **kwargs: Any) -> Tensor:
        if not queries_from or args or kwargs.get("past_key_values") is not None:
            return original(module, hidden_states, *args, **kwargs)
        return layer_from(module, hidden_states, queries_from, **kwargs)

    setattr(forward, QUERIES_FROM, True)
    return forward


def _plain(module: nn.Linear, *, pack: bool) -> Forward:
    """oneDNN's products where they help; for other dtypes torch uses them by itself."""
    packed = _packed(module) if pack else None

    def forward(states: Tensor) -> Tensor:
        if states.device.type != "cpu" or states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(states, module.weight, module.bias)
        return fused_linear(states, module.weight, module.bias, packed=packed)

    return forward


def _packed(module: Any) -> PackedLinear | None:
    """The weight of a plain layer in float32, packed; None of any other."""
    plain = type(module) is nn.Linear and module.weight.dtype == torch.float32
    return PackedLinear(module) if plain else None


def _adapted(module: Any) -> Forward:
    original: Callable[..., Tensor] = type(module).forward

    def forward(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer, adapter = module.base_layer, _adapter(module)
        if args or kwargs or _adapter_inactive(module) or not _same_dtype(states, layer.weight):
            return original(module, states, *args, **kwargs)
        return fused_linear(states, layer.weight, layer.bias, adapter)

    return forward


def _same_dtype(states: Tensor, weight: Tensor) -> bool:
    """Whether all parts compute in one dtype: under autocast, or where weights, adapter and states are float32."""
    device = states.device.type
    return torch.is_autocast_enabled(device) or states.dtype == weight.dtype == torch.float32


def _is_plain_adapter(module: Any) -> bool:
    """Whether a layer is PEFT's LoRA as in the paper: one adapter, no dropout, no bias, no variant."""
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


def _adapter_inactive(module: Any) -> bool:
    """Whether a layer's adapter is disabled or merged at the moment."""
    return hasattr(module, "base_layer") and (module.disable_adapters or module.merged)
