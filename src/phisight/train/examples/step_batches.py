"""A step's examples, cut into the micro-batches of each process.

    epoch order  --step_size after each other--> steps --batch_size after each other--> batches
    batch j of a step: micro-batch j // ranks of process j % ranks

Every process gets the same number of micro-batches, so none waits for a partner that has finished. Where the last step
of an epoch does not reach for all, a process gets an example that does not count: its place p as ``-1 - p``, its labels
-100.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import Dataset, Sampler

from phisight.model.labels import IGNORED
from phisight.train.examples.sampler import LengthSampler, LongestFirst

UNCOUNTED = {"labels": IGNORED, "label_weights": 0.0, "numbers": torch.nan}
"""What an example holds that would count in the loss, and the value with which it does not."""


class StepBatches(Sampler[list[int]]):
    """Places of examples for each micro-batch of one process, a function of order, epoch, rank and ranks alone."""

    def __init__(self, order: LengthSampler | LongestFirst, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.ranks = ranks

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.order) / self.batch_size) / self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        places = list(self.order)
        for micro_batch in range(len(self)):
            start = (micro_batch * self.ranks + self.rank) * self.batch_size
            yield places[start : start + self.batch_size] or [-1 - places[-1]]

    def counted(self, epoch: int, micro_batch: int) -> list[int]:
        """Places of the examples that count in one micro-batch of an epoch."""
        kept, self.order.epoch = self.order.epoch, epoch
        batches = list(self)
        self.order.epoch = kept
        return [place for place in batches[micro_batch] if place >= 0]


class Countable(Dataset[Any]):
    """Examples by place; at ``-1 - place`` the one that does not count."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Any:
        if place >= 0:
            return self.examples[place]
        example = cast(dict[str, Any], self.examples[-1 - place])
        nothing = {name: torch.full_like(example[name], value) for name, value in UNCOUNTED.items() if name in example}
        return {**example, **nothing}
