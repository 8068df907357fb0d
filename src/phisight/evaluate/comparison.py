"""Two sets of answers to the same rows: which is better, and is the difference more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from phisight.core.errors import EvaluationError
from phisight.core.task import FieldValue
from phisight.evaluate.metrics import Column, Metric, alias, field_deciding, field_metrics
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.bootstrap import paired_difference
from phisight.evaluate.statistics.group_test import FEW, GroupTest, group_test


@dataclass(frozen=True)
class Comparison:
    """A metric on two sides of the same rows."""

    metric: str
    """Name as in scores.json."""
    left: float
    right: float
    difference: float
    """left - right."""
    interval: tuple[float, float] | None
    """95 % paired bootstrap interval of the difference over groups; none for fewer than two groups."""
    better: bool | None
    """Left is better; none where the interval holds zero, and for fewer than ten groups."""
    rows: int
    """Rows behind both figures."""
    groups: int
    """Groups (products) these rows belong to."""

    def as_json(self) -> dict[str, Any]:
        """For scores.json."""
        return asdict(self)


def compare(
    name: str,
    metric: Metric,
    truth: Sequence[FieldValue],
    left: Column,
    right: Column,
    *,
    groups: Sequence[str] | None = None,
    typical: float = 0.0,
    seed: int = 0,
) -> Comparison | None:
    """Compare two columns of answers by a metric that has a value for every row; none where it is not defined."""
    sides = metric.values(truth, left, typical), metric.values(truth, right, typical)
    figures = metric.figure(sides[0]), metric.figure(sides[1])
    if figures[0] is None or figures[1] is None or not np.array_equal(sides[0].rows, sides[1].rows):
        return None
    behind = [groups[row] for row in sides[0].rows] if groups is not None else list(map(str, sides[0].rows))
    difference, found = paired_difference(metric.reduce, sides[0].columns, sides[1].columns, behind, seed=seed)
    count, better = len(set(behind)), None
    if found is not None and found.excludes_zero() and count >= FEW:
        better = (difference > 0) == metric.higher_is_better
    ends = (found.low, found.high) if found is not None else None
    return Comparison(name, figures[0], figures[1], difference, ends, better, len(behind), count)


def compare_predictions(left: Predictions, right: Predictions, *, seed: int = 0) -> dict[str, Comparison]:
    """Every complete metric by its name in scores.json.

    For the same model with other images, or two models (before and after fine-tuning) on the same rows.
    """
    _require_same_rows(left, right)
    task, found = left.task, {}
    for field in task.names:
        for metric in field_metrics(task, field):
            if metric.complete:
                name = f"{alias(task, field)}_{metric.name}"
                one = compare(
                    name,
                    metric,
                    left.truth(field),
                    left.predicted(field),
                    right.predicted(field),
                    groups=left.groups,
                    typical=left.typical(field),
                    seed=seed,
                )
                if one is not None:
                    found[name] = one
    return found


def field_test(left: Predictions, right: Predictions, field: str, *, seed: int = 0) -> GroupTest:
    """Test over groups that the answers of ``left`` are better than those of ``right``, by the deciding metric."""
    _require_same_rows(left, right)
    metric = field_deciding(left.task, field)
    truth, typical = left.truth(field), left.typical(field)
    sides = [metric.values(truth, one.predicted(field), typical) for one in (left, right)]
    sign = 1.0 if metric.higher_is_better else -1.0
    groups = [left.groups[row] for row in sides[0].rows]
    return group_test(sign * (sides[0].columns[0] - sides[1].columns[0]), groups, seed=seed)


def _require_same_rows(left: Predictions, right: Predictions) -> None:
    if [row.key for row in left.rows] != [row.key for row in right.rows]:
        raise EvaluationError(f"{len(left)} and {len(right)} rows that are not the same; evaluate both on one split")
