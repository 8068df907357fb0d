"""The order of an epoch and its micro-batches: similar lengths together, as random as the padding bound allows.

    permutation of (seed, epoch) --pools of P steps, each sorted by length--> steps --shuffled--> micro-batches

A step's examples are the same however it is divided into micro-batches and ranks: micro-batch j of a step is number
j // ranks of rank j % ranks. P is the smallest power of two whose padding stays under ``PADDING_BOUND``: where lengths
hardly differ, steps are drawn at random and only sorted within.

Every rank gets the same number of micro-batches, so no rank waits for one that has finished. Where the last step of an
epoch has too few examples, a rank gets a dummy example, whose labels are -100: index i as ``-1 - i``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from phisight.core.seeding import named_seed
from phisight.model.loss import IGNORED

PADDING_BOUND = 0.05
"""Share of a batch's tokens that may be padding."""
DUMMY_VALUES = {"labels": IGNORED, "label_weights": 0.0, "numbers": torch.nan}
"""Tensors of an example that take part in the loss, and their values in a dummy example."""

IntArray = NDArray[np.int64]


def padding_share(lengths: IntArray, order: IntArray, batch_size: int) -> float:
    """Padding as a share of all tokens when ``order`` is cut into batches padded to their longest example."""
    starts = np.arange(0, len(order), batch_size)
    sizes = np.diff(np.append(starts, len(order)))
    padded = np.maximum.reduceat(lengths[order], starts) @ sizes
    return 1.0 - float(lengths.sum() / padded)


def epoch_order(lengths: IntArray, step_size: int, pool: int, seed: int) -> IntArray:
    """Indices int64[N] of examples: each ``step_size`` of them make a step, sorted by length within it.

    The incomplete step comes last and is drawn at random, so that no length is always in it.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(lengths))
    whole = len(drawn) // step_size * step_size
    pooled = [_by_length(some, lengths) for some in _cut(drawn[:whole], step_size * pool)]
    steps = np.concatenate([*pooled, drawn[:0]]).reshape(-1, step_size)
    shuffled = steps[generator.permutation(len(steps))].ravel()
    return np.concatenate([shuffled, _by_length(drawn[whole:], lengths)]).astype(np.int64)


def smallest_pool(lengths: IntArray, step_size: int, seed: int) -> int:
    """Steps that are sorted together so that padding stays under the bound; at most all of them.

    Measured with a whole step as one batch, the most padding possible: micro-batches do not change the order.
    """
    pool, steps = 1, max(1, len(lengths) // step_size)
    while pool < steps:
        if padding_share(lengths, epoch_order(lengths, step_size, pool, seed), step_size) < PADDING_BOUND:
            break
        pool *= 2
    return pool


class LengthSampler(Sampler[int]):
    """Indices of an epoch, a function of lengths, step size, seed and epoch alone."""

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self.lengths: IntArray = np.asarray(lengths, dtype=np.int64)
        self.step_size = step_size
        self.seed = seed
        self.epoch = 0
        self.pool = smallest_pool(self.lengths, step_size, named_seed(seed, "epoch-0"))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is iterated."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        seed = named_seed(self.seed, f"epoch-{self.epoch}")
        yield from epoch_order(self.lengths, self.step_size, self.pool, seed).tolist()


class LongestFirst(Sampler[int]):
    """Indices by length: the order in which a split is evaluated, the same in every epoch."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths: IntArray = np.asarray(lengths, dtype=np.int64)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Changes nothing."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        yield from _by_length(np.arange(len(self.lengths)), self.lengths).tolist()


class StepBatches(Sampler[list[int]]):
    """Indices of each micro-batch of one rank, a function of order, epoch, rank and ranks alone.

    Iteration starts at micro-batch ``start``, so that a resumed run opens no image again.
    """

    def __init__(self, order: LengthSampler | LongestFirst, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.ranks = ranks
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and the micro-batch of it that comes first."""
        self.order.set_epoch(epoch)
        self.start = start

    def __len__(self) -> int:
        """Micro-batches of a whole epoch."""
        return math.ceil(math.ceil(len(self.order) / self.batch_size) / self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        indices = list(self.order)
        for micro_batch in range(self.start, len(self)):
            first = (micro_batch * self.ranks + self.rank) * self.batch_size
            yield indices[first : first + self.batch_size] or [-1 - indices[-1]]

    def real_indices(self, epoch: int, micro_batch: int) -> list[int]:
        """Indices of the examples of one micro-batch of an epoch, without the dummy example."""
        now, self.order.epoch = (self.order.epoch, self.start), epoch
        self.start = 0
        batches = list(self)
        self.order.epoch, self.start = now
        return [index for index in batches[micro_batch] if index >= 0]


class InEpochs(Sampler[list[tuple[int, int]]]):
    """Batches whose indices carry the epoch, for examples that differ from epoch to epoch."""

    def __init__(self, batches: StepBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches:
            yield [(index, self.batches.order.epoch) for index in batch]


class WithDummies(Dataset[Any]):
    """Examples by index, or by index and epoch; at ``-1 - index`` the same as a dummy example."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, asked: int | tuple[int, int]) -> Any:
        index, epoch = asked if isinstance(asked, tuple) else (asked, None)
        real = index if index >= 0 else -1 - index
        example = self.examples[real] if epoch is None else self.examples.in_epoch(real, epoch)
        return example if index >= 0 else _dummy(cast(dict[str, Any], example))


def _dummy(example: dict[str, Any]) -> dict[str, Any]:
    """The example, or the sides of a pair, without a part in the loss."""
    sides = {"sides": [_dummy(side) for side in example["sides"]]} if "sides" in example else {}
    dummy = {name: torch.full_like(example[name], value) for name, value in DUMMY_VALUES.items() if name in example}
    return {**example, **dummy, **sides}


def _cut(indices: IntArray, size: int) -> list[IntArray]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _by_length(indices: IntArray, lengths: IntArray) -> IntArray:
    """Longest first: a step that does not fit into memory fails at its first micro-batch."""
    return indices[np.argsort(-lengths[indices], kind="stable")]
