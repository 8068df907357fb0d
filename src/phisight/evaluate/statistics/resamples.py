"""Bootstrap resamples as counts: how often each row was drawn, shared by every figure over as many rows.

    counts uint8[resamples, n] --matrix product with columns--> sums of every resample at once
    mean, root, R2: functions of means; median: the rows around the middle alone; macro F1: counts of (truth, answer)

A figure of counts is the figure of the rows drawn, to rounding. The draws are those of ``scipy.stats.bootstrap`` with
the same generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.uint8]

_CELLS = 2_000_000
"""Numbers in memory at once while resampling."""
_CACHED_BYTES = 128_000_000
"""Most memory of counts that are cached for the next figure."""
_DEVIATIONS = 8.0
"""Standard deviations around the middle in which a resample's median is looked for; outside it is found, too."""


@dataclass(frozen=True)
class Resamples:
    """Draws of ``rows`` rows out of as many, with replacement; a function of these three numbers alone."""

    rows: int
    number: int
    seed: int

    def chunks(self) -> Iterator[Counts]:
        """uint8[some, rows] each: how often each row was drawn, ``number`` resamples in all."""
        step = max(1, _CELLS // self.rows)
        if self.rows * self.number > _CACHED_BYTES:
            yield from self._drawn(step)
            return
        counts = _cached(self)
        for start in range(0, self.number, step):
            yield counts[start : start + step]

    def _drawn(self, step: int) -> Iterator[Counts]:
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.number, step):
            chunk = [self._count(generator) for _ in range(min(step, self.number - start))]
            yield np.stack(chunk)

    def _count(self, generator: np.random.Generator) -> Counts:
        return np.bincount(generator.integers(0, self.rows, self.rows), minlength=self.rows).astype(np.uint8)


@lru_cache(maxsize=1)
def _cached(resamples: Resamples) -> Counts:
    return np.concatenate(list(resamples._drawn(max(1, _CELLS // resamples.rows))))


def resampled(reduce: Callable[..., Any], columns: tuple[Array, ...], resamples: Resamples) -> Array:
    """float64[resamples]: a figure of every resample of columns float64[n].

    Figures of this module are computed from counts; any other ``reduce(*columns, axis)``, whatever the order of its
    rows, from the rows drawn.
    """
    if isinstance(reduce, OfMeans | Median | OfCells):
        return reduce.resampled(columns, resamples)
    indices = np.arange(resamples.rows)
    found = []
    for counts in resamples.chunks():
        drawn = np.stack([np.repeat(indices, one) for one in counts])
        found.append(np.asarray(reduce(*(column[drawn] for column in columns), axis=-1), float))
    return np.concatenate(found)


@dataclass(frozen=True)
class OfMeans:
    """A figure that follows from means over rows: ``figure(*means of terms(*columns))``."""

    terms: Callable[..., tuple[Array, ...]]
    figure: Callable[..., Any]

    def __call__(self, *columns: Array, axis: int = -1) -> Any:
        """The figure of columns float64[..., n] along ``axis``."""
        return self.figure(*(term.mean(axis=axis) for term in self.terms(*columns)))

    def resampled(self, columns: tuple[Array, ...], resamples: Resamples) -> Array:
        """float64[resamples]: the figure of each."""
        terms = np.stack(self.terms(*columns), axis=-1)
        means = [counts.astype(np.float64) @ terms for counts in resamples.chunks()]
        return np.asarray(self.figure(*(np.concatenate(means) / resamples.rows).T), float)


@dataclass(frozen=True)
class Median:
    """The middle value, or the mean of the two in the middle."""

    def __call__(self, values: Array, axis: int = -1) -> Any:
        """The median of values float64[..., n] along ``axis``."""
        return np.median(values, axis=axis)

    def resampled(self, columns: tuple[Array, ...], resamples: Resamples) -> Array:
        """float64[resamples]: the median of each, from counts of the rows around the middle and a sum of the others."""
        (values,), rows = columns, resamples.rows
        order = np.argsort(values, kind="stable")
        reach = int(_DEVIATIONS * np.sqrt(rows) / 2) + 1
        low, high = max(0, rows // 2 - reach), min(rows, rows // 2 + reach + 1)
        ranks = (rows - 1) // 2, rows // 2
        below = np.zeros(rows)
        below[order[:low]] = 1.0
        middle, near = order[low:high], values[order[low:high]]
        found = []
        for counts in resamples.chunks():
            start = np.zeros(len(counts)) if low == 0 else counts.astype(np.float64) @ below
            reached = start[:, None] + counts[:, middle].cumsum(axis=1, dtype=np.int64)
            inside = (start <= ranks[0]) & (reached[:, -1] > ranks[1])
            positions = [np.minimum((reached <= rank).sum(axis=1), len(near) - 1) for rank in ranks]
            medians = (near[positions[0]] + near[positions[1]]) / 2
            for one in np.flatnonzero(~inside):
                medians[one] = np.median(np.repeat(values, counts[one]))
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
        (codes, cells), shape = _cells(left, right), left.shape
        counts = [np.bincount(one, minlength=codes.shape[1]) for one in cells.reshape(-1, shape[-1])]
        return self.figure(codes[0], codes[1], np.asarray(counts, float).reshape(*shape[:-1], -1))

    def resampled(self, columns: tuple[Array, ...], resamples: Resamples) -> Array:
        """float64[resamples]: the figure of each."""
        codes, cells = _cells(*columns)
        size = codes.shape[1]
        found = [np.bincount(cells, counts, size) for chunk in resamples.chunks() for counts in chunk]
        return np.asarray(self.figure(codes[0], codes[1], np.asarray(found)), float)


def _cells(left: Array, right: Array) -> tuple[Array, NDArray[np.int64]]:
    """Codes float64[2, K] of the pairs that occur, and the pair of each row int64[..., n]."""
    codes, cells = np.unique(np.stack([left.ravel(), right.ravel()]), axis=1, return_inverse=True)
    return codes, cells.reshape(left.shape)
