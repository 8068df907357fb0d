"""Some of the decoder's layers: the lower ones once, the upper ones in every step.

Source: the loop of the library's ``Phi3Model.forward``, without a key-value cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask


def run_layers(
    decoder: Any,
    hidden: Tensor,
    first: int,
    last: int,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Hidden states [B, T, D] before layer ``first`` to those before layer ``last`` (not normalised)."""
    if position_ids is None:
        position_ids = torch.arange(hidden.shape[1], device=hidden.device)[None]
    make_mask = create_causal_mask if decoder.config.sliding_window is None else create_sliding_window_causal_mask
    mask = make_mask(
        config=decoder.config,
        inputs_embeds=hidden,
        attention_mask=attention_mask,
        past_key_values=None,
        position_ids=position_ids,
    )
    turns = decoder.rotary_emb(hidden, position_ids=position_ids)
    for layer in decoder.layers[first:last]:
        hidden = layer(
            hidden,
            attention_mask=mask,
            position_ids=position_ids,
            position_embeddings=turns,
            use_cache=False,
            **kwargs,
        )
    return hidden
