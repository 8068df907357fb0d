"""What a metric is: rows of truths and answers to one figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phisight.core.task import FieldValue, Task

Array = NDArray[np.float64]
Column = Sequence[FieldValue | None]
_WORDS = ("title", "category", "price")


def alias(task: Task, field: str) -> str:
    """What a field is called in the names of metrics."""
    for word in _WORDS:
        if word in field.lower() and sum(word in name.lower() for name in task.names) == 1:
            return word
    return field


class MetricRows(NamedTuple):
    """What a metric is computed from."""

    columns: tuple[Array, ...]
    """float64[m] each."""
    rows: NDArray[np.int64]
    """int64[m]: which of the rows these are."""


@dataclass(frozen=True)
class Metric:
    """One figure over many rows.

    ``values(truth, predicted, typical)`` makes the arrays behind it (answers may be None; ``typical`` is the number
    that an unanswered row may count as); ``reduce`` makes one figure of such arrays along ``axis``: float64[..., m] ->
    float64[...]; see statistics/resamples.py for many of them.
    """

    name: str
    kind: str
    higher_is_better: bool
    values: Callable[[Sequence[FieldValue], Column, float], MetricRows]
    reduce: Callable[..., Any]
    complete: bool = True
    """An unanswered row has a value, too."""

    def __call__(self, truth: Sequence[FieldValue], predicted: Column, typical: float = 0.0) -> float | None:
        """The figure; none where it is not defined (no answered row, no spread in the truth)."""
        return self.figure(self.values(truth, predicted, typical))

    def figure(self, found: MetricRows) -> float | None:
        """The figure of rows made by ``values``."""
        if not len(found.rows):
            return None
        value = float(self.reduce(*found.columns, axis=-1))
        return value if np.isfinite(value) else None
