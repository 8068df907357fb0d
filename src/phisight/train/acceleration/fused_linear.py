"""A linear layer, its adapter and the activation before it as one autograd function.

    a = activation(x);  y = a W^T + b + scale (a A^T) B^T

As separate modules, each operation saves a tensor for the backward pass and reads memory once more. Here only x and
a A^T are saved (the activation is recomputed), the adapter's output is added in place, and under autocast an adapter
computes in the dtype of its layer. In float32 on x86 CPUs the products are oneDNN's: torch uses MKL there, which is
slower on processors of other makers than Intel.

Sources: Hu et al. 2021, LoRA, equation 3; Shazeer 2020, SwiGLU; Hendrycks and Gimpel 2016, the sigmoid form of GELU.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn.functional import linear, silu

from phisight.train.acceleration.one_kernel import on_gpu, one_kernel

ONE_DNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
)
"""Whether float32 products on the CPU are oneDNN's."""
TYPICAL_ROWS = 64
"""Rows that a packed weight's layout is chosen for."""


class Activation(NamedTuple):
    """A function of pre-activations [n, F'] and its backward pass: (gradient, pre-activations) to gradient."""

    apply: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, Tensor], Tensor]


def _swiglu(states: Tensor) -> Tensor:
    if on_gpu(states):
        return _swiglu_chain(states)
    gate, up = states.chunk(2, dim=-1)
    return silu(gate).mul_(up)


def _swiglu_back(grad: Tensor, states: Tensor) -> Tensor:
    if on_gpu(states):
        return _swiglu_back_chain(grad, states)
    gate, up = states.chunk(2, dim=-1)
    both = torch.empty_like(states)
    of_gate, of_up = both.chunk(2, dim=-1)
    torch.mul(grad, silu(gate), out=of_up)
    of_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
    return both


def _quick_gelu(states: Tensor) -> Tensor:
    return (states * 1.702).sigmoid_().mul_(states)


def _quick_gelu_back(grad: Tensor, states: Tensor) -> Tensor:
    share = (states * 1.702).sigmoid_()
    through: Tensor = torch.ops.aten.sigmoid_backward(grad * states, share)
    return through.mul_(1.702).add_(grad * share)


@one_kernel
def _swiglu_chain(states: Tensor) -> Tensor:
    gate, up = states.chunk(2, dim=-1)
    return silu(gate) * up


@one_kernel
def _swiglu_back_chain(grad: Tensor, states: Tensor) -> Tensor:
    gate, up = states.float().chunk(2, dim=-1)
    share, wide = gate.sigmoid(), grad.float()
    of_gate = wide * up * share * (1 + gate * (1 - share))
    return torch.cat((of_gate, wide * gate * share), dim=-1).to(grad.dtype)


ACTIVATIONS = {"swiglu": Activation(_swiglu, _swiglu_back), "quick_gelu": Activation(_quick_gelu, _quick_gelu_back)}
"""``swiglu`` halves the width: [n, 2F], gate before up, to [n, F]."""


class Adapter(NamedTuple):
    """A low-rank update of a layer's weights: scale x up @ down."""

    down: Tensor
    """A, [rank, in]."""
    up: Tensor
    """B, [out, rank]."""
    scale: float


class PackedLinear:
    """Linear layers that read the same rows, side by side, in the layout of oneDNN's products.

    The copy of their weights is made anew when one has changed. Products lay a weight out each time, which for few rows
    takes a quarter of their time. No gradients.

    Args:
        layers: Of float32, all with a bias or none.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        self._weights: list[Tensor] = [layer.weight for layer in layers]
        self._biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        self._packed = self._weights[0].detach()
        self._bias: Tensor | None = None
        self._versions: list[int] = []

    def product(self, rows: Tensor) -> Tensor:
        """[n, in] to a new tensor [n, out of all layers]."""
        self._repack()
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise.default(rows, self._packed, self._bias, "none", [], ""))

    def added(self, rows: Tensor, others: Tensor) -> Tensor:
        """``product`` plus [n, out], in one operation."""
        self._repack()
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise.binary(rows, others, self._packed, self._bias, "add"))

    def _repack(self) -> None:
        versions = [one._version for one in (*self._weights, *self._biases)]
        if versions == self._versions:
            return
        with torch.no_grad():
            weight = self._weights[0] if len(self._weights) == 1 else torch.cat(self._weights)
            self._bias = torch.cat(self._biases) if self._biases else None
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), TYPICAL_ROWS)
        self._versions = versions


def fused_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adapter: Adapter | None = None,
    activation: str | None = None,
    packed: PackedLinear | None = None,
) -> Tensor:
    """[..., in] (of ``swiglu`` [..., 2 in]) to [..., out], in the dtype of autocast, or else of ``x``.

    Args:
        x: Before the activation.
        weight: [out, in].
        bias: [out] or None.
        adapter: Added to the layer.
        activation: A name of ``ACTIVATIONS`` or None.
        packed: The same layer; read where no gradient is wanted.
    """
    if adapter is None and not torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type):
        rows = x.reshape(-1, x.shape[-1])
        inputs = ACTIVATIONS[activation].apply(rows) if activation else rows
        out = product(inputs, weight.t(), bias) if packed is None else packed.product(inputs)
        return out.view(*x.shape[:-1], weight.shape[0])  # nothing is saved for a backward pass
    down, up, scale = adapter or (None, None, 0.0)
    return cast(Tensor, _Layer.apply(x, weight, bias, down, up, scale, activation))  # type: ignore[no-untyped-call]


class _Layer(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor | None,
        up: Tensor | None,
        scale: float,
        activation: str | None,
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        inputs = ACTIVATIONS[activation].apply(rows) if activation else rows
        cast_weight, cast_down, cast_up = weight.to(dtype), None, None
        out = product(inputs, cast_weight.t(), bias if bias is None else bias.to(dtype))
        narrow = None
        if down is not None and up is not None:
            cast_down, cast_up = down.to(dtype), up.to(dtype)
            narrow = product(inputs, cast_down.t())
            out.addmm_(narrow, cast_up.t(), alpha=scale)
        keeps = activation or weight.requires_grad or down is not None
        ctx.save_for_backward(rows if keeps else None, narrow, cast_weight, cast_down, cast_up)
        ctx.scale, ctx.activation = scale, activation
        ctx.given = x.shape, x.dtype, weight.dtype, weight.dtype if down is None else down.dtype
        return out.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> tuple[Tensor | None, ...]:
        rows, narrow, weight, down, up = ctx.saved_tensors
        shape, dtype, weight_dtype, adapter_dtype = ctx.given
        wants_x, wants_weight, wants_bias, wants_down, wants_up, *_ = ctx.needs_input_grad
        grad = grad.reshape(-1, grad.shape[-1]).to(weight.dtype)
        of_x: Any = None
        of_weight = of_bias = of_down = of_up = None
        of_narrow: Any = None if down is None else product(grad, up).mul_(ctx.scale)
        if wants_weight or wants_down:
            inputs = ACTIVATIONS[ctx.activation].apply(rows) if ctx.activation else rows
            of_weight = _weight_gradient(grad, inputs).to(weight_dtype) if wants_weight else None
            of_down = torch.mm(of_narrow.t(), inputs).to(adapter_dtype) if wants_down else None
            del inputs
        if wants_up:
            of_up = torch.mm(narrow.t().mul(ctx.scale), grad).t().to(adapter_dtype)
        if wants_bias:
            of_bias = grad.sum(0).to(weight_dtype)
        if wants_x:
            of_x = product(grad, weight)
            if of_narrow is not None:
                of_x.addmm_(of_narrow, down)
            if ctx.activation:
                of_x = ACTIVATIONS[ctx.activation].back(of_x, rows)
            of_x = of_x.view(shape).to(dtype)
        return of_x, of_weight, of_bias, of_down, of_up, None, None


def _weight_gradient(grad: Tensor, inputs: Tensor) -> Tensor:
    """[out, in]; for narrow layers by torch's own product, which is faster on a transposed narrow matrix."""
    narrow = min(grad.shape[1], inputs.shape[1]) < 512
    return torch.mm(grad.t(), inputs) if narrow else product(grad.t(), inputs)


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """[n, k] times [k, m], plus [m]: a new tensor [n, m]; no gradients."""
    if ONE_DNN and left.dtype == torch.float32 and left.device.type == "cpu":
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], ""))
    return linear(left, right.t(), bias)
