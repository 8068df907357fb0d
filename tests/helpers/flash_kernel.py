"""Flash attention's kernels by their reference: calls are checked as the kernels would, and computed by torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class VarlenKernel:
    """The kernel's reference: checks a call as the kernel would, and attends sample by sample."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int,
        max_seqlen_k: int, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
        **_: Any,
    ) -> Tensor:  # fmt: skip
        assert q.dim() == k.dim() == v.dim() == 3, "[tokens, heads, width]"
        assert {one.dtype for one in (q, k, v)} == {torch.bfloat16}, "the kernel knows half precision only"
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        ends = cu_seqlens_q.tolist()
        lengths = [after - before for before, after in pairwise(ends)]
        assert ends[0] == 0
        assert ends[-1] == len(q)
        assert max(lengths) == max_seqlen_q == max_seqlen_k
        assert causal
        assert dropout_p == 0.0
        self.calls.append(lengths)
        samples = zip(*(torch.split(one, lengths) for one in (q, k, v)), strict=True)
        attend: Any = nn.functional.scaled_dot_product_attention
        out = [attend(*(x.transpose(0, 1) for x in one), is_causal=True, scale=softmax_scale) for one in samples]
        return torch.cat([one.transpose(0, 1) for one in out])


def whole_images(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False
) -> Tensor:
    """The kernel for rows of one length, [B, T, N, H]: the tower's, whose patches all see each other."""
    assert {one.dtype for one in (q, k, v)} == {torch.bfloat16}
    assert not causal, "a packed row goes to the varlen kernel"
    assert dropout_p == 0.0
    turned = [one.transpose(1, 2) for one in (q, k, v)]
    out = nn.functional.scaled_dot_product_attention(turned[0], turned[1], turned[2], scale=softmax_scale)
    return out.transpose(1, 2)
