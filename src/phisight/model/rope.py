"""LongRoPE with the choice between short and long factors made for each sample.

The library's class decides once for the whole batch and overwrites a buffer; here the decision is a ``where``, so the
result for a short row does not depend on a long row beside it, nor that of a packed sample on the others in its row,
and nothing is mutated.

Shapes: B batch, T text position, H head width

Source of the formula: the official ``Phi3SuScaledRotaryEmbedding``; the frequencies come from the library.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from phisight.model.configuration import Phi3VConfig


class LongRotaryEmbedding(Phi3RotaryEmbedding):
    """Positions int64[B, T] to cos and sin [B, T, H], computed in float32."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        self.original_length = config.original_length
        self.by_batch = config.rope_switch == "batch"
        if self.original_length is not None:
            self.long_inv_freq = nn.Buffer(self.long_frequencies(), persistent=False)

    def long_frequencies(self) -> Tensor:
        """Inverse frequencies under the long factors, float32[H / 2]."""
        assert self.original_length is not None
        frequencies, _ = ROPE_INIT_FUNCTIONS[self.rope_type](self.config, None, seq_len=self.original_length + 1)
        assert isinstance(frequencies, Tensor)
        return frequencies

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cos and sin in the dtype of ``x``, which is read for dtype and device only."""
        frequencies = self.inv_freq.float()
        if self.original_length is not None:
            if self.by_batch:
                last_BT = position_ids.amax().expand_as(position_ids)
            else:
                last_BT = last_position_per_sample(position_ids)
            is_long_BT1 = (last_BT + 1 > self.original_length)[..., None]
            frequencies = torch.where(is_long_BT1, self.long_inv_freq.float(), frequencies)
        angles = position_ids[..., None].float() * frequencies
        angles_BTH = torch.cat((angles, angles), dim=-1)
        return (
            (angles_BTH.cos() * self.attention_scaling).to(x.dtype),
            (angles_BTH.sin() * self.attention_scaling).to(x.dtype),
        )


def last_position_per_sample(position_ids: Tensor) -> Tensor:
    """Highest position int64[B, T] of the sample that each token belongs to; a position of 0 starts a sample."""
    sample_BT = (position_ids == 0).cumsum(-1)
    highest = torch.zeros_like(position_ids[:, :1]).expand(-1, position_ids.shape[1] + 1)
    return highest.scatter_reduce(-1, sample_BT, position_ids, "amax").gather(-1, sample_BT)


def positions_without_padding(config: Phi3VConfig, mask_BT: Tensor, new_tokens: int) -> Tensor | None:
    """Positions int64[B, new_tokens] that count real tokens only, where padding could switch to the long factors.

    Attention is relative, so it matters only there; elsewhere, and under ``rope_switch: batch``, None lets the library
    count every token, as the official code does.
    """
    limit = config.original_length
    if limit is None or mask_BT.shape[1] <= limit or config.rope_switch == "batch":
        return None
    return (mask_BT.long().cumsum(-1) - 1).clamp(min=0)[:, -new_tokens:]


def crosses_original_length(config: Any, input_ids: Tensor, mask: Tensor | None, new_tokens: int | None) -> bool:
    """Whether the new tokens of a generation step bring some row from the short to the long factors."""
    limit = config.original_length
    if limit is None or new_tokens is None or input_ids.shape[1] <= limit:
        return False
    lengths = mask.sum(-1) if mask is not None and mask.ndim == 2 else torch.tensor([input_ids.shape[1]])
    if config.rope_switch == "batch":
        lengths = lengths.max()[None]
    return bool(((lengths > limit) & (lengths - new_tokens <= limit)).any())
