"""RMS norm as one autograd function: it saves its input and one number per row, but not the normalized row.

Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization; types as in the library's ``Phi3RMSNorm``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from phisight.train.acceleration.one_kernel import on_gpu


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``weight`` [D] times x / sqrt(mean(x^2) + epsilon), [..., D]; computed in float32.

    On a GPU it is torch's one kernel, where weight and states are of one type; so it is in float32 without gradients.
    """
    plain = x.dtype == torch.float32 and not torch.is_grad_enabled()
    if (on_gpu(x) or plain) and x.dtype == weight.dtype:
        with torch.autocast(x.device.type, enabled=False):
            return torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)
    return cast(Tensor, _RmsNorm.apply(x, weight, epsilon))  # type: ignore[no-untyped-call]


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        normal, grad = x.float() * scale, grad.float()
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * normal).reshape(-1, x.shape[-1]).sum(0).to(weight.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_normal = grad * weight
            along = (of_normal * normal).mean(-1, keepdim=True)
            of_x = of_normal.sub_(normal.mul_(along)).mul_(scale).to(x.dtype)
        return of_x, of_weight, None
