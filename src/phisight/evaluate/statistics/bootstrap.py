"""Percentile bootstrap intervals of a figure and of a paired difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.evaluate.statistics.resamples import Resamples, resampled

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Ends of a percentile bootstrap interval."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Zero lies outside."""
        return self.low > 0 or self.high < 0


def interval(
    reduce: Callable[..., Any], columns: Sequence[Array], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of ``reduce(*columns)`` over rows; columns float64[n] are resampled together.

    None for fewer than two rows, and where resamples leave the figure undefined.
    """
    rows = len(columns[0])
    if rows < 2:
        return None
    found = resampled(reduce, tuple(columns), Resamples(rows, resamples, seed))
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
    if len(left[0]) < 2:
        return difference, None
    draws = Resamples(len(left[0]), resamples, seed)
    with np.errstate(invalid="ignore"):
        found = resampled(reduce, tuple(left), draws) - resampled(reduce, tuple(right), draws)
    return difference, _ends(found, level)
