"""Metrics of numbers: over the answered rows, or over all of them with a penalty for silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.kinds.kind import as_number
from phisight.core.task import FieldValue
from phisight.evaluate.metrics.metric import Array, Column, Metric, MetricRows
from phisight.evaluate.statistics.group_test import MEAN
from phisight.evaluate.statistics.resamples import Median, OfMeans

LARGEST_MISS = 1e12
"""Times its truth that a number counts as off at most: else one truth next to 0 would leave a figure infinite."""
TOLERANCE = 0.10
"""A number this close to its truth, as a share of it, counts as right wherever right and wrong are told apart."""


def numbers(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, Array, NDArray[np.int64]]:
    """Truth and answer float64[m] of the rows that have both, and which rows int64[m] these are."""
    both = enumerate(zip(truth, predicted, strict=True))
    answered = [
        (row, as_number(wanted), as_number(given))
        for row, (wanted, given) in both
        if wanted is not None and given is not None
    ]
    rows = np.asarray([row for row, _, _ in answered], np.int64)
    pairs = np.asarray([pair for _, *pair in answered], np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], rows


Errors = Callable[[Array, Array], Array]
"""Truth and answer float64[m] -> error float64[m], NaN where it is not defined."""


def _absolute(truth: Array, predicted: Array) -> Array:
    return np.abs(predicted - truth)


def _percentage(truth: Array, predicted: Array) -> Array:
    """|error| / |truth|, at most LARGEST_MISS."""
    with np.errstate(over="ignore"):  # a truth next to 0 is missed by any multiple
        found = np.divide(np.abs(predicted - truth), np.abs(truth), out=np.full_like(truth, np.nan), where=truth != 0)
    return np.asarray(np.minimum(found, LARGEST_MISS))


def _symmetric(truth: Array, predicted: Array) -> Array:
    size = np.abs(truth) + np.abs(predicted)
    return np.asarray(np.divide(2 * np.abs(predicted - truth), size, out=np.zeros_like(size), where=size > 0))


def _squared_log(truth: Array, predicted: Array) -> Array:
    """Squared difference of log(1 + x); answers below 0 count as 0, truths below 0 have none."""
    positive = np.log1p(np.maximum(truth, 0))
    return np.where(truth >= 0, (np.log1p(np.maximum(predicted, 0)) - positive) ** 2, np.nan)


def _outside(share: float) -> Errors:
    """1 where the answer is more than ``share`` of the truth off; a truth of 0 is met by 0 alone."""
    return lambda truth, predicted: (np.abs(predicted - truth) > share * np.abs(truth) * (1 + 1e-9)).astype(float)


def _defined(errors: Array, rows: NDArray[np.int64]) -> MetricRows:
    defined = ~np.isnan(errors)
    return MetricRows((errors[defined],), rows[defined])


def _number(name: str, errors: Errors, reduce: Callable[..., Any]) -> Metric:
    def values(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
        wanted, given, rows = numbers(truth, predicted)
        return _defined(errors(wanted, given), rows)

    return Metric(name, "number", False, values, reduce, complete=False)


def _with_unanswered(errors: Errors, truth: Sequence[FieldValue], predicted: Column, typical: float) -> Array:
    """float64[n]: errors of all rows, an unanswered one as 0 or ``typical``, whichever is further off."""
    wanted = np.asarray([as_number(value) for value in truth])
    answered = np.asarray([value is not None for value in predicted], bool)
    given = np.asarray([as_number(value) if value is not None else 0.0 for value in predicted])
    silent = np.fmax(errors(wanted, np.zeros_like(wanted)), errors(wanted, np.full_like(wanted, typical)))
    return np.where(answered, errors(wanted, given), silent)


def _penalized(name: str, errors: Errors, reduce: Callable[..., Any]) -> Metric:
    def values(truth: Sequence[FieldValue], predicted: Column, typical: float) -> MetricRows:
        return _defined(_with_unanswered(errors, truth, predicted, typical), np.arange(len(truth)))

    return Metric(f"{name}_penalized", "number", False, values, reduce)


def _within(name: str, share: float) -> Metric:
    def values(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
        wanted, given, rows = numbers(truth, predicted)
        inside = np.zeros(len(truth))
        inside[rows] = 1.0 - _outside(share)(wanted, given)
        return MetricRows((inside,), np.arange(len(truth)))

    return Metric(name, "number", True, values, MEAN)


def _r2_rows(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
    wanted, given, rows = numbers(truth, predicted)
    return MetricRows((wanted, given), rows)


def _for_r2(truth: Array, predicted: Array) -> tuple[Array, ...]:
    centred = truth - truth.mean()
    return (truth - predicted) ** 2, centred, centred**2


def _r2(error: Any, centre: Any, square: Any) -> Any:
    """From means: squared error, distance from the centre, its square. Spread that is only rounding is none."""
    spread = np.asarray(square - centre**2)
    spread = np.where(spread > 1e-12 * square, spread, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - error / spread


_ROOT = OfMeans(lambda values: (values,), np.sqrt)

NUMBERS: tuple[Metric, ...] = (
    _number("mae", _absolute, MEAN),
    _number("median_ape", _percentage, Median()),
    _number("mape", _percentage, MEAN),
    _number("smape", _symmetric, MEAN),
    _number("rmsle", _squared_log, _ROOT),
    Metric("r2", "number", True, _r2_rows, OfMeans(_for_r2, _r2), complete=False),
    _within("within_10", 0.10),
    _within("within_25", 0.25),
    _penalized("mae", _absolute, MEAN),
    _penalized("median_ape", _percentage, Median()),
    _penalized("smape", _symmetric, MEAN),
)
