"""Whole layers of decoder and tower as one function each, to predict with a small model on a CPU.

    rows -> norm -> queries, keys, values -> attention -> products + rows -> norm -> MLP + rows

In a small model a step of a few answers takes as long to find its way through modules as to compute. The functions call
the same operations one after the other, on weights that are packed once, and add the residual within the products.
Gradients, autocast, other types and other attention back ends go module by module, as the library does.

Sources: the library's ``Phi3DecoderLayer.forward`` and ``CLIPEncoderLayer.forward``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm, scaled_dot_product_attention
from transformers.activations import QuickGELUActivation, SiLUActivation
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer, Phi3RMSNorm

from phisight.train.acceleration.fused_linear import ACTIVATIONS, PackedLinear
from phisight.train.acceleration.rotary_attention import turned

Forward = Callable[..., Any]


def prediction_layer(module: Any) -> Forward | None:
    """The forward pass of a layer that is known, all of whose parts are plain and float32; None for any other."""
    if type(module) is Phi3DecoderLayer and isinstance(module.mlp.activation_fn, (nn.SiLU, SiLUActivation)):
        inner = (module.self_attn.qkv_proj, module.self_attn.o_proj, module.mlp.gate_up_proj, module.mlp.down_proj)
        norms = (module.input_layernorm, module.post_attention_layernorm)
        return _decoder_layer(module) if _plain(inner, norms, Phi3RMSNorm) else None
    if type(module) is CLIPEncoderLayer and isinstance(module.mlp.activation_fn, QuickGELUActivation):
        attention = module.self_attn
        inner = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        norms = (module.layer_norm1, module.layer_norm2)
        return _tower_layer(module) if _plain((*inner, module.mlp.fc1, module.mlp.fc2), norms, nn.LayerNorm) else None
    return None


def _plain(linears: tuple[Any, ...], norms: tuple[Any, ...], norm: type[nn.Module]) -> bool:
    kinds = all(type(one) is nn.Linear for one in linears) and all(type(one) is norm for one in norms)
    return kinds and all(one.weight.dtype == torch.float32 for one in (*linears, *norms))


def _predicts(module: nn.Module, config: Any, states: Tensor) -> bool:
    """Whether the function computes what the module would: no gradients, one type, sdpa."""
    return (
        not torch.is_grad_enabled()
        and not module.training
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and config._attn_implementation == "sdpa"
        and not torch.is_autocast_enabled("cpu")
    )


def _decoder_layer(module: Any) -> Forward:
    original: Callable[..., Tensor] = type(module).forward
    attention, config = module.self_attn, module.self_attn.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    before, between = module.input_layernorm, module.post_attention_layernorm
    qkv_proj, o_proj = PackedLinear(attention.qkv_proj), PackedLinear(attention.o_proj)
    gate_up_proj, down_proj = PackedLinear(module.mlp.gate_up_proj), PackedLinear(module.mlp.down_proj)
    swiglu = ACTIVATIONS["swiglu"].apply

    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        if kwargs or not _predicts(module, config, hidden_states) or not _turns_whole(position_embeddings, attention):
            return original(
                module,
                hidden_states,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **kwargs,
            )
        shape = hidden_states.shape
        rows = hidden_states.reshape(-1, shape[-1])
        normed = rms_norm(rows, before.weight.shape, before.weight, before.variance_epsilon)
        qkv = qkv_proj.product(normed).view(*shape[:2], -1)
        cos, sin = position_embeddings
        query, key, value = turned(qkv, cos, sin, heads, key_heads)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, attention.layer_idx)
        states = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=attention_mask is None and shape[1] > 1,
            scale=attention.scaling,
            enable_gqa=heads != key_heads,
        )
        rows = o_proj.added(states.transpose(1, 2).reshape(len(rows), -1), rows)
        normed = rms_norm(rows, between.weight.shape, between.weight, between.variance_epsilon)
        return down_proj.added(swiglu(gate_up_proj.product(normed)), rows).view(shape)

    return forward


def _turns_whole(position_embeddings: Any, attention: Any) -> bool:
    """Whether whole heads turn."""
    return position_embeddings is not None and position_embeddings[0].shape[-1] == attention.head_dim


def _tower_layer(module: Any) -> Forward:
    original: Callable[..., Tensor] = type(module).forward
    attention, config = module.self_attn, module.self_attn.config
    before, between = module.layer_norm1, module.layer_norm2
    qkv_proj = PackedLinear(attention.q_proj, attention.k_proj, attention.v_proj)
    out_proj = PackedLinear(attention.out_proj)
    fc1, fc2 = PackedLinear(module.mlp.fc1), PackedLinear(module.mlp.fc2)
    quick_gelu = ACTIVATIONS["quick_gelu"].apply

    def forward(hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        if kwargs or attention_mask is not None or not _predicts(module, config, hidden_states):
            return original(module, hidden_states, attention_mask, **kwargs)
        shape = hidden_states.shape
        rows = hidden_states.reshape(-1, shape[-1])
        normed = layer_norm(rows, before.normalized_shape, before.weight, before.bias, before.eps)
        parts = qkv_proj.product(normed).view(*shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        states = scaled_dot_product_attention(query, key, value, scale=attention.scale)
        rows = out_proj.added(states.transpose(1, 2).reshape(len(rows), -1), rows)
        normed = layer_norm(rows, between.normalized_shape, between.weight, between.bias, between.eps)
        return fc2.added(quick_gelu(fc1.product(normed)), rows).view(shape)

    return forward
