"""Bootstrap resamples as counts: how often each group was drawn, shared by every figure over as many groups.

    counts uint8[resamples, G] --matrix product with sums per group--> sums of every resample at once
    mean, root, R2: functions of means; median: the rows around the middle alone; macro F1: counts of (truth, answer)

A group (the photos of one product) is drawn as a whole, so rows of one product never pass for independent ones; with
every row a group of its own the draws are those of ``scipy.stats.bootstrap`` with the same generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Counts = NDArray[np.uint8]

_CELLS = 2_000_000
"""Numbers in memory at once while resampling."""
_CACHED_BYTES = 128_000_000
"""Most memory of counts that are cached for the next figure."""
_DEVIATIONS = 8.0
"""Standard deviations around the middle in which a resample's median is looked for; outside it is found, too."""


@dataclass(frozen=True)
class Resamples:
    """Draws of ``groups`` groups out of as many, with replacement; a function of these three numbers alone."""

    groups: int
    number: int
    seed: int

    def chunks(self) -> Iterator[Counts]:
        """uint8[some, groups] each: how often each group was drawn, ``number`` resamples in all."""
        step = max(1, _CELLS // self.groups)
        if self.groups * self.number > _CACHED_BYTES:
            yield from self._drawn(step)
            return
        counts = _cached(self)
        for start in range(0, self.number, step):
            yield counts[start : start + step]

    def _drawn(self, step: int) -> Iterator[Counts]:
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.number, step):
            some = min(step, self.number - start)
            drawn = generator.integers(0, self.groups, (some, self.groups))
            drawn += self.groups * np.arange(some)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=some * self.groups)
            yield counts.reshape(some, self.groups).astype(np.uint8)


@lru_cache(maxsize=4)
def _cached(resamples: Resamples) -> Counts:
    return np.concatenate(list(resamples._drawn(max(1, _CELLS // resamples.groups))))


def resampled(reduce: Callable[..., Any], columns: tuple[Array, ...], codes: Codes, resamples: Resamples) -> Array:
    """float64[resamples]: a figure of every resample of columns float64[n] whose rows have group ``codes`` int64[n].

    Figures of this module are computed from counts; any other ``reduce(*columns, axis)``, whatever the order of its
    rows, from the rows drawn.
    """
    if isinstance(reduce, OfMeans | Median | OfCells):
        return reduce.resampled(columns, codes, resamples)
    indices = np.arange(len(codes))
    drawn = (np.repeat(indices, counts[codes]) for chunk in resamples.chunks() for counts in chunk)
    return np.asarray([float(reduce(*(column[rows] for column in columns), axis=-1)) for rows in drawn])


def _per_group(values: Array, codes: Codes, groups: int) -> Array:
    """float64[groups]: sums of values float64[n]."""
    return np.asarray(np.bincount(codes, weights=values, minlength=groups), np.float64)


@dataclass(frozen=True)
class OfMeans:
    """A figure that follows from means over rows: ``figure(*means of terms(*columns))``."""

    terms: Callable[..., tuple[Array, ...]]
    figure: Callable[..., Any]

    def __call__(self, *columns: Array, axis: int = -1) -> Any:
        """The figure of columns float64[..., n] along ``axis``."""
        return self.figure(*(term.mean(axis=axis) for term in self.terms(*columns)))

    def resampled(self, columns: tuple[Array, ...], codes: Codes, resamples: Resamples) -> Array:
        """float64[resamples]: the figure of each."""
        terms = [np.ones(len(codes)), *self.terms(*columns)]
        sums = np.stack([_per_group(term, codes, resamples.groups) for term in terms], axis=-1)
        found = np.concatenate([counts.astype(np.float64) @ sums for counts in resamples.chunks()])
        return np.asarray(self.figure(*(found[:, 1:] / found[:, :1]).T), float)


@dataclass(frozen=True)
class Median:
    """The middle value, or the mean of the two in the middle."""

    def __call__(self, values: Array, axis: int = -1) -> Any:
        """The median of values float64[..., n] along ``axis``."""
        return np.median(values, axis=axis)

    def resampled(self, columns: tuple[Array, ...], codes: Codes, resamples: Resamples) -> Array:
        """float64[resamples]: the median of each, from counts of the rows around the middle and a sum of the others."""
        (values,), rows = columns, len(codes)
        order = np.argsort(values, kind="stable")
        sizes = _per_group(np.ones(rows), codes, resamples.groups)
        reach = int(_DEVIATIONS * np.sqrt((sizes**2).sum()) / 2) + 1
        low, high = max(0, rows // 2 - reach), min(rows, rows // 2 + reach + 1)
        outside = order[:low]
        below = _per_group(np.ones(len(outside)), codes[outside], resamples.groups)
        middle, near = order[low:high], values[order[low:high]]
        found = []
        for counts in resamples.chunks():
            exact = counts.astype(np.float64)
            start, drawn = exact @ below, (exact @ sizes).astype(np.int64)
            reached = start[:, None] + counts[:, codes[middle]].cumsum(axis=1, dtype=np.int64)
            ranks = (drawn - 1) // 2, drawn // 2
            inside = (start <= ranks[0]) & (reached[:, -1] > ranks[1])
            positions = [np.minimum((reached <= rank[:, None]).sum(axis=1), len(near) - 1) for rank in ranks]
            medians = (near[positions[0]] + near[positions[1]]) / 2
            for one in np.flatnonzero(~inside):
                medians[one] = np.median(np.repeat(values, counts[one][codes]))
            found.append(medians)
        return np.concatenate(found)


@dataclass(frozen=True)
class OfCells:
    """A figure of two columns of codes that follows from how often each pair of them occurs.

    ``figure(left, right, counts)`` takes the pairs' codes float64[K] and counts float64[..., K].
    """

    figure: Callable[[Array, Array, Array], Any]

    def __call__(self, left: Array, right: Array, axis: int = -1) -> Any:
        """The figure of columns float64[..., n] along ``axis``."""
        left, right = np.moveaxis(left, axis, -1), np.moveaxis(right, axis, -1)
        (pairs, cells), shape = _cells(left, right), left.shape
        counts = [np.bincount(one, minlength=pairs.shape[1]) for one in cells.reshape(-1, shape[-1])]
        return self.figure(pairs[0], pairs[1], np.asarray(counts, float).reshape(*shape[:-1], -1))

    def resampled(self, columns: tuple[Array, ...], codes: Codes, resamples: Resamples) -> Array:
        """float64[resamples]: the figure of each."""
        pairs, cells = _cells(*columns)
        size = pairs.shape[1]
        found = [np.bincount(cells, counts[codes], size) for chunk in resamples.chunks() for counts in chunk]
        return np.asarray(self.figure(pairs[0], pairs[1], np.asarray(found)), float)


def _cells(left: Array, right: Array) -> tuple[Array, Codes]:
    """Codes float64[2, K] of the pairs that occur, and the pair of each row int64[..., n]."""
    pairs, cells = np.unique(np.stack([left.ravel(), right.ravel()]), axis=1, return_inverse=True)
    return pairs, cells.reshape(left.shape)
