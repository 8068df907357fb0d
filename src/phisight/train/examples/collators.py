"""Examples to a batch, padded or packed; masks come from lengths, never from token values (pad and end may be one id).

Collator          one row per example, padded on the right
PackingCollator   one row for all examples, without padding; each attends to itself alone

    input_ids       a a a a b b c c c       [1, T]
    position_ids    0 1 2 3 0 1 0 1 2       [1, T]
    sample_lengths  4, 2, 3                 and cu_seq_lens 0, 4, 6, 9 for flash attention
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from phisight.model.loss import IGNORED
from phisight.train.examples.dataset import Example

PADDING_VALUES: dict[Literal["label_weights", "numbers"], float] = {"label_weights": 0.0, "numbers": torch.nan}
"""Tensors that an example may have with one value per token, and what pads them."""


class Collator:
    """Pads ids on the right with ``pad_token_id``, labels with -100 and crops with zeros."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch of B examples with N images.

        Returns:
            int64[B, T] ids, mask and labels; what ``stack_images`` returns, or hidden states [B, T, D] and the layer
            before which they are; float[B, T] label weights and numbers where the examples have them.
        """
        ids = [example["input_ids"] for example in examples]
        masks = [torch.ones_like(one) for one in ids]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence(masks, batch_first=True),
            "labels": pad_sequence([e["labels"] for e in examples], batch_first=True, padding_value=IGNORED),
            **self._images(examples),
            **{
                name: pad_sequence([e[name] for e in examples], batch_first=True, padding_value=padding)
                for name, padding in PADDING_VALUES.items()
                if name in examples[0]
            },
        }

    @staticmethod
    def _images(examples: Sequence[Example]) -> dict[str, Any]:
        if "trunk_states" in examples[0]:
            states = pad_sequence([e["trunk_states"] for e in examples], batch_first=True)
            return {"trunk_states": states, "first_layer": examples[0]["first_layer"]}
        return stack_images(examples)


class PackingCollator:
    """Concatenates the examples of a micro-batch into one row.

    The first label of each example is -100: no token of the same example precedes it.
    """

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch of one row.

        Returns:
            int64[1, T] ids, positions and labels; lengths of the samples; what ``stack_images`` returns, or hidden
            states [1, T, D]; float[1, T] label weights and numbers where the examples have them.
        """
        lengths = [len(example["input_ids"]) for example in examples]
        labels = torch.cat([example["labels"] for example in examples])
        starts = torch.tensor([0, *lengths]).cumsum(0)
        labels[starts[:-1]] = IGNORED
        ends = starts.to(torch.int32)
        return {
            "input_ids": torch.cat([example["input_ids"] for example in examples])[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "labels": labels[None],
            "sample_lengths": tuple(lengths),
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
            **{name: torch.cat([e[name] for e in examples])[None] for name in PADDING_VALUES if name in examples[0]},
            **self._images(examples),
        }

    @staticmethod
    def _images(examples: Sequence[Example]) -> dict[str, Any]:
        if "trunk_states" in examples[0]:
            states = torch.cat([example["trunk_states"] for example in examples])
            return {"trunk_states": states[None], "first_layer": examples[0]["first_layer"]}
        return stack_images(examples)


def stack_images(examples: Sequence[Example]) -> dict[str, Any]:
    """float32[N, crops, 3, S, S] pixels or [N, crops, n, n, 4V] features, and int64[N, 2] sizes; {} without images."""
    with_images = [e for e in examples if "image_sizes" in e]
    if not with_images:
        return {}
    name: Literal["image_features", "pixel_values"] = (
        "image_features" if "image_features" in with_images[0] else "pixel_values"
    )
    images = [one for example in with_images for one in example[name]]
    return {
        name: pad_sequence(images, batch_first=True),
        "image_sizes": torch.cat([example["image_sizes"] for example in with_images]),
    }


def drop_redundant_mask(batch: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The batch without its attention mask where causal attention and padding on the right make it redundant.

    No token attends to what follows it, so none attends to padding; without a mask the kernels skip half of the work.
    The mask remains where it counts positions (rows that could switch to the long rotary factors), and for flash
    attention, which uses it to remove padding.
    """
    mask = batch.get("attention_mask")
    needed = config._attn_implementation not in ("sdpa", "eager", "sdpa_by_sample")
    if mask is None or needed or (config.original_length is not None and mask.shape[1] > config.original_length):
        return dict(batch)
    return {name: value for name, value in batch.items() if name != "attention_mask"}
