"""Examples to one padded batch; masks from lengths, never from token values (padding and end can be one id)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from phisight.model.labels import IGNORED
from phisight.train.examples.dataset import Example


class Collator:
    """Pads ids on the right with ``pad_token_id``, labels with -100 and crops with zeros."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """int64[B, T] ids, mask and labels; float32[N, crops, 3, S, S] pixels or [N, crops, n, n, 4V] features of
        N pictures, int64[N, 2] sizes; or hidden states [B, T, D] and the layer before which they stand.
        """
        ids = [example["input_ids"] for example in examples]
        masks = [torch.ones_like(one) for one in ids]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence(masks, batch_first=True),
            "labels": pad_sequence([e["labels"] for e in examples], batch_first=True, padding_value=IGNORED),
            **stacked_pictures(examples),
            **_numbers(examples),
        }


def _numbers(examples: Sequence[Example]) -> dict[str, Tensor]:
    """What numbers are learned from: float32[B, T] weights, 0 where padded; float64[B, T] numbers, NaN where padded."""
    found = {}
    if "label_weights" in examples[0]:
        found["label_weights"] = pad_sequence([e["label_weights"] for e in examples], batch_first=True)
    if "numbers" in examples[0]:
        found["numbers"] = pad_sequence([e["numbers"] for e in examples], batch_first=True, padding_value=torch.nan)
    return found


def stacked_pictures(examples: Sequence[Example]) -> dict[str, Any]:
    """Pixels with sizes, or what is stored in their place: features with sizes, or hidden states."""
    if "trunk_states" in examples[0]:
        states = pad_sequence([e["trunk_states"] for e in examples], batch_first=True)
        return {"trunk_states": states, "first_layer": examples[0]["first_layer"]}
    shown = [e for e in examples if "image_sizes" in e]
    if not shown:
        return {}
    name: Literal["image_features", "pixel_values"] = (
        "image_features" if "image_features" in shown[0] else "pixel_values"
    )
    pictures = [one for example in shown for one in example[name]]
    return {
        name: pad_sequence(pictures, batch_first=True),
        "image_sizes": torch.cat([example["image_sizes"] for example in shown]),
    }


def without_needless_mask(batch: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The batch without its mask where causal attention and padding on the right make it say nothing.

    No token sees what comes after it, so none sees padding; without a mask the kernels skip half of the work. The mask
    stays where positions are counted by it (rows that could outgrow the short rotary factors), and for flash attention,
    which leaves padding out by it.
    """
    mask = batch.get("attention_mask")
    by_mask = config._attn_implementation not in ("sdpa", "eager", "sdpa_by_sample")
    if mask is None or by_mask or (config.original_length is not None and mask.shape[1] > config.original_length):
        return dict(batch)
    return {name: value for name, value in batch.items() if name != "attention_mask"}
