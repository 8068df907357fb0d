"""LongRoPE with the choice between short and long factors made for each sample.

The library's class decides once for the whole batch and overwrites a buffer; here the decision is a ``where``, so that
a short row's answer does not change because a long one stands beside it, nor a packed sample's because of the others
in its row, and nothing is mutated.

Source of the formula: the official ``Phi3SuScaledRotaryEmbedding``; the frequencies come from the library.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from phisight.model.configuration import Phi3VConfig


class LongRotaryEmbedding(Phi3RotaryEmbedding):
    """Positions int64[B, T] to cos and sin [B, T, head width], computed in float32."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        self.original_length = config.original_length
        self.by_batch = config.rope_switch == "batch"
        if self.original_length is not None:
            self.long_inv_freq = nn.Buffer(self.long_frequencies(), persistent=False)

    def long_frequencies(self) -> Tensor:
        """Inverse frequencies under the long factors, float32[head width / 2]."""
        assert self.original_length is not None
        frequencies, _ = ROPE_INIT_FUNCTIONS[self.rope_type](self.config, None, seq_len=self.original_length + 1)
        assert isinstance(frequencies, Tensor)
        return frequencies

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` gives dtype and device only."""
        frequencies = self.inv_freq.float()
        if self.original_length is not None:
            last = position_ids.amax().expand_as(position_ids) if self.by_batch else last_positions(position_ids)
            long = (last + 1 > self.original_length)[..., None]
            frequencies = torch.where(long, self.long_inv_freq.float(), frequencies)
        angles = position_ids[..., None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return (
            (angles.cos() * self.attention_scaling).to(x.dtype),
            (angles.sin() * self.attention_scaling).to(x.dtype),
        )


def last_positions(position_ids: Tensor) -> Tensor:
    """Positions int64[B, T] to the highest position of each one's sample, int64[B, T]; a 0 starts a sample."""
    sample = (position_ids == 0).cumsum(-1)
    highest = torch.zeros_like(position_ids[:, :1]).expand(-1, position_ids.shape[1] + 1)
    return highest.scatter_reduce(-1, sample, position_ids, "amax").gather(-1, sample)
