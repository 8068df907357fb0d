"""Percentile bootstrap intervals of a figure and of a paired difference, over groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.evaluate.statistics.resamples import Codes, Resamples, resampled

Array = NDArray[np.float64]
Groups = Sequence[Hashable] | NDArray[Any] | None
"""The group of each row; None means that every row is a group of its own."""


@dataclass(frozen=True)
class Interval:
    """Ends of a percentile bootstrap interval."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Zero lies outside."""
        return self.low > 0 or self.high < 0


def group_codes(groups: Groups, rows: int) -> Codes:
    """int64[rows]: groups numbered from 0 in the order in which they first occur."""
    if groups is None:
        return np.arange(rows)
    if isinstance(groups, np.ndarray):
        return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64, len(groups))


def interval(
    reduce: Callable[..., Any],
    columns: Sequence[Array],
    groups: Groups = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of ``reduce(*columns)``; columns float64[n] are resampled together, by groups.

    None for fewer than two groups, and where resamples leave the figure undefined.
    """
    codes = group_codes(groups, len(columns[0]))
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return None
    found = resampled(reduce, tuple(columns), codes, Resamples(count, resamples, seed))
    return _ends(found, level)


def _ends(found: Array, level: float) -> Interval | None:
    """Percentiles of the figures of resamples; none where some of them are not defined."""
    with np.errstate(invalid="ignore"):  # a resample without spread has an R2 of minus infinity
        low, high = np.percentile(found, [50 * (1 - level), 50 * (1 + level)]).tolist()
    return Interval(low, high) if np.isfinite(low) and np.isfinite(high) else None


def paired_difference(
    reduce: Callable[..., Any],
    left: Sequence[Array],
    right: Sequence[Array],
    groups: Groups = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """``reduce(*left) - reduce(*right)`` with its interval; row i of both sides is the same example."""
    if len(left[0]) != len(right[0]):
        raise EvaluationError(
            f"{len(left[0])} rows on one side but {len(right[0])} on the other; compare the same rows"
        )
    difference = float(reduce(*left)) - float(reduce(*right))
    codes = group_codes(groups, len(left[0]))
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return difference, None
    draws = Resamples(count, resamples, seed)
    with np.errstate(invalid="ignore"):
        found = resampled(reduce, tuple(left), codes, draws) - resampled(reduce, tuple(right), codes, draws)
    return difference, _ends(found, level)
