"""The decoder's attention with queries and keys turned in one kernel, and their gradients written into one tensor.

    qkv[B, T, (H + 2 K) d] --turned, split--> q[B, H, T, d], k[B, K, T, d], v[B, K, T, d] --attention back end--> o_proj

As the library writes it, turning takes eight passes over memory, and the backward pass of the three slices fills three
tensors as large as qkv and adds them up.

Source: the library's ``Phi3Attention.forward``; Su et al. 2021, RoFormer, equation 34.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.phi3.modeling_phi3 import eager_attention_forward

from phisight.train.acceleration.one_kernel import on_gpu, one_kernel


def turning_attention(module: Any) -> Callable[..., Any]:
    """Forward pass of a ``Phi3Attention``; the library's where heads turn in part."""
    original: Callable[..., Any] = type(module).forward

    def forward(
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        cos, sin = position_embeddings
        if cos.shape[-1] != module.head_dim:
            return cast(
                tuple[Tensor, Tensor | None],
                original(
                    module,
                    hidden_states,
                    position_embeddings=position_embeddings,
                    attention_mask=attention_mask,
                    past_key_values=past_key_values,
                    **kwargs,
                ),
            )
        config = module.config
        heads = config.num_attention_heads, config.num_key_value_heads
        query, key, value = turned(module.qkv_proj(hidden_states), cos, sin, *heads)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, module.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=module.attention_dropout if module.training else 0.0,
            scaling=module.scaling,
            sliding_window=getattr(config, "sliding_window", None),
            **kwargs,
        )
        return module.o_proj(output.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights

    return forward


def turned(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """qkv [B, T, (heads + 2 key_heads) d] to queries, keys (turned) and values, [B, heads, T, d] each.

    ``cos`` and ``sin`` [B or 1, T, d] hold each angle twice, as the rotary embedding gives them.
    """
    if not torch.is_grad_enabled():
        return _split(qkv, cos, sin, heads, key_heads)
    return cast(
        tuple[Tensor, Tensor, Tensor],
        _Turned.apply(qkv, cos, sin, heads, key_heads),  # type: ignore[no-untyped-call]
    )


def _split(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values are a view of ``qkv``. Batch and positions go as one axis, so that one kernel serves all batch sizes."""
    batch, length = qkv.shape[:2]
    states = qkv.view(batch * length, heads + 2 * key_heads, -1)
    angles = (one.expand(batch, -1, -1).reshape(batch * length, 1, -1) for one in (cos, sin))
    turn = _turn if on_gpu(qkv) else _turn_in_place
    both = turn(states[:, : heads + key_heads], *angles).view(batch, length, heads + key_heads, -1)
    value = states[:, heads + key_heads :].view(batch, length, key_heads, -1)
    return both[:, :, :heads].transpose(1, 2), both[:, :, heads:].transpose(1, 2), value.transpose(1, 2)


class _Turned(Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, key_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = qkv.dtype
        query, key, value = _split(qkv, cos, sin, heads, key_heads)
        return query, key, value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_query: Tensor, of_key: Tensor, of_value: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        grads = (of_query.transpose(1, 2), of_key.transpose(1, 2), of_value.transpose(1, 2))
        turn_back = _turn_back if on_gpu(of_query) else _turn_back_in_place
        of_qkv = turn_back(*grads, cos[:, :, None], sin[:, :, None])
        return of_qkv.flatten(2).to(ctx.dtype), None, None, None, None


@one_kernel
def _turn(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[B T, n, d] turned by the angles [B T, 1, d]."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


def _turn_in_place(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``_turn`` without a kernel of its own: the halves are added to what is there, in two passes over memory."""
    turned = states * cos
    (first, second), (sin_first, sin_second) = states.chunk(2, dim=-1), sin.chunk(2, dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sin_first, value=-1)
    turned_second.addcmul_(first, sin_second)
    return turned


@one_kernel
def _turn_back(of_query: Tensor, of_key: Tensor, of_value: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Gradients [B, T, n, d] of turned queries and keys, and of values, to those of qkv [B, T, all heads, d]."""
    grads = torch.cat((of_query, of_key), dim=2)
    first, second = (grads * sin).chunk(2, dim=-1)
    return torch.cat((grads * cos + torch.cat((second, -first), dim=-1), of_value), dim=2)


def _turn_back_in_place(of_query: Tensor, of_key: Tensor, of_value: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``_turn_back`` without a kernel of its own; see ``_turn_in_place``."""
    grads, heads = torch.cat((of_query, of_key), dim=2), of_query.shape[2] + of_key.shape[2]
    of_qkv = grads.new_empty(*grads.shape[:2], heads + of_value.shape[2], grads.shape[3], dtype=of_value.dtype)
    turned = grads * cos
    (first, second), (sin_first, sin_second) = grads.chunk(2, dim=-1), sin.chunk(2, dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sin_second)
    turned_second.addcmul_(first, sin_first, value=-1)
    of_qkv[:, :, :heads] = turned
    of_qkv[:, :, heads:] = of_value
    return of_qkv
