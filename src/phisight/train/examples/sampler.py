"""The order of an epoch: batches of like length, as random as the padding bound lets them be.

    permutation of (seed, epoch) --pools of P steps, each sorted by length--> steps --shuffled--> micro-batches

A step's examples are the same however it is cut into micro-batches and ranks. P is the smallest power of two whose
padding stays under ``PADDING_BOUND``: where lengths hardly differ, steps are drawn at random and only sorted within.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from phisight.core.seeding import named_seed

PADDING_BOUND = 0.05
"""Share of a batch's tokens that may be padding."""

Lengths = NDArray[np.int64]


def padding_share(lengths: Lengths, order: Lengths, batch_size: int) -> float:
    """Padding as a share of all tokens when ``order`` is cut into batches that are padded to their longest example."""
    starts = np.arange(0, len(order), batch_size)
    sizes = np.diff(np.append(starts, len(order)))
    padded = np.maximum.reduceat(lengths[order], starts) @ sizes
    return 1.0 - float(lengths.sum() / padded)


def epoch_order(lengths: Lengths, step_size: int, pool: int, seed: int) -> Lengths:
    """int64[N] places of examples: ``step_size`` after each other make a step, sorted by length within it.

    What does not fill a step comes last and is drawn at random, so that no length is always in the small step.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(lengths))
    whole = len(drawn) // step_size * step_size
    pooled = [_by_length(some, lengths) for some in _cut(drawn[:whole], step_size * pool)]
    steps = np.concatenate([*pooled, drawn[:0]]).reshape(-1, step_size)
    shuffled = steps[generator.permutation(len(steps))].ravel()
    return np.concatenate([shuffled, _by_length(drawn[whole:], lengths)]).astype(np.int64)


def smallest_pool(lengths: Lengths, step_size: int, seed: int) -> int:
    """Steps that are sorted together so that padding stays under the bound; at most all of them.

    Counted with a whole step as one batch, the most padding there can be: micro-batches do not change the order.
    """
    pool, steps = 1, max(1, len(lengths) // step_size)
    while pool < steps:
        if padding_share(lengths, epoch_order(lengths, step_size, pool, seed), step_size) < PADDING_BOUND:
            break
        pool *= 2
    return pool


class LengthSampler(Sampler[int]):
    """Places of examples for an epoch, a function of lengths, step size, seed and epoch alone."""

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self.lengths: Lengths = np.asarray(lengths, dtype=np.int64)
        self.step_size = step_size
        self.seed = seed
        self.epoch = 0
        self.pool = smallest_pool(self.lengths, step_size, named_seed(seed, "epoch-0"))

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        seed = named_seed(self.seed, f"epoch-{self.epoch}")
        yield from epoch_order(self.lengths, self.step_size, self.pool, seed).tolist()


class LongestFirst(Sampler[int]):
    """Places of examples by length: the order in which a split is evaluated, the same in every epoch."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths: Lengths = np.asarray(lengths, dtype=np.int64)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        yield from _by_length(np.arange(len(self.lengths)), self.lengths).tolist()


class Padding:
    """Tokens that batches held, and how many of them were padding; counted where the batch lies, read when asked."""

    def __init__(self) -> None:
        self._tokens: Tensor | int = 0
        self._slots = 0

    def count(self, batch: Mapping[str, Tensor]) -> None:
        """A batch more: its ``attention_mask`` int64[B, T], or without one no padding."""
        mask = batch.get("attention_mask")
        self._tokens = self._tokens + (batch["input_ids"].numel() if mask is None else mask.sum())
        self._slots += batch["input_ids"].numel()

    def counts(self) -> tuple[int, int]:
        """Tokens and slots so far."""
        return int(self._tokens), self._slots

    def restore(self, tokens: int, slots: int) -> None:
        """Go on from earlier counts."""
        self._tokens, self._slots = tokens, slots

    def share(self) -> float:
        """Padding as a share of all tokens so far."""
        return 1.0 - float(self._tokens) / self._slots if self._slots else 0.0


def _cut(places: Lengths, size: int) -> list[Lengths]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _by_length(places: Lengths, lengths: Lengths) -> Lengths:
    """Longest first: a step that does not fit into memory fails at its first micro-batch."""
    return places[np.argsort(-lengths[places], kind="stable")]
