"""Examples to one row without padding: positions start again at each, none sees another.

    input_ids       a a a a b b c c c       [1, T]
    position_ids    0 1 2 3 0 1 0 1 2       [1, T]
    sample_lengths  4, 2, 3                 and cu_seq_lens 0, 4, 6, 9 for flash attention

The first label of each example is -100: nothing before it predicts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from phisight.model.labels import IGNORED
from phisight.train.examples.collators import stacked_pictures
from phisight.train.examples.dataset import Example

PER_TOKEN: tuple[Literal["label_weights", "numbers"], ...] = ("label_weights", "numbers")
"""What an example may carry for each of its tokens."""


class PackingCollator:
    """Puts the examples of a micro-batch into one row."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """int64[1, T] ids, positions and labels; lengths of the samples; pictures as ``Collator`` gives them, or hidden
        states [1, T, D].
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
            **{name: torch.cat([e[name] for e in examples])[None] for name in PER_TOKEN if name in examples[0]},
            **self._pictures(examples),
        }

    @staticmethod
    def _pictures(examples: Sequence[Example]) -> dict[str, Any]:
        if "trunk_states" in examples[0]:
            states = torch.cat([example["trunk_states"] for example in examples])
            return {"trunk_states": states[None], "first_layer": examples[0]["first_layer"]}
        return stacked_pictures(examples)
