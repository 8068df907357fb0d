"""Two sets of answers to the same rows: which is better, and is the difference more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phisight.core.errors import EvaluationError
from phisight.core.task import FieldKind, FieldValue
from phisight.evaluate.metrics import METRICS, Column, Metric, alias
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.bootstrap import paired_difference

COMPARED: dict[FieldKind, str] = {"category": "accuracy", "text": "exact", "number": "mae_penalised"}
"""The metric that decides for each kind of field. It has a value for every row: an unanswered number counts as 0."""


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
    """95 % paired bootstrap interval of the difference; none for fewer than two rows."""
    better: bool | None
    """Left is better; none where the interval holds zero."""

    def as_json(self) -> dict[str, Any]:
        """For scores.json."""
        return asdict(self)


def compare(
    name: str, metric: Metric, truth: Sequence[FieldValue], left: Column, right: Column, *, seed: int = 0
) -> Comparison | None:
    """Compare two columns of answers by a metric that has a value for every row; none where it is not defined."""
    sides = metric.rows(truth, left), metric.rows(truth, right)
    figures = metric(truth, left), metric(truth, right)
    if figures[0] is None or figures[1] is None or len(sides[0][0]) != len(sides[1][0]):
        return None
    difference, found = paired_difference(metric.reduce, *sides, seed=seed)
    better = None
    if found is not None and found.excludes_zero():
        better = (difference > 0) == metric.higher_is_better
    ends = (found.low, found.high) if found is not None else None
    return Comparison(name, figures[0], figures[1], difference, ends, better)


def compare_predictions(left: Predictions, right: Predictions, *, seed: int = 0) -> dict[str, Comparison]:
    """Every metric that has a value for every row, by its name in scores.json.

    For the same model with other images, or two models (before and after fine-tuning) on the same rows.
    """
    if [row.key for row in left.rows] != [row.key for row in right.rows]:
        raise EvaluationError(f"{len(left)} and {len(right)} rows that are not the same; evaluate both on one split")
    task, found = left.task, {}
    for field in task.names:
        for metric in METRICS:
            complete = metric.kind != "number" or metric.name.endswith("_penalised")
            if metric.kind == task.fields[field].kind and complete:
                name = f"{alias(task, field)}_{metric.name}"
                one = compare(name, metric, left.truth(field), left.predicted(field), right.predicted(field), seed=seed)
                if one is not None:
                    found[name] = one
    return found


def deciding(kind: FieldKind) -> Metric:
    """The metric that decides comparisons of a kind of field."""
    return next(metric for metric in METRICS if metric.kind == kind and metric.name == COMPARED[kind])
