"""All metrics, which of them decide, and how wrong one row is."""

from __future__ import annotations

from collections.abc import Mapping

from phisight.core.kinds import KINDS, FieldValue
from phisight.core.task import Task
from phisight.evaluate.metrics.kind_figures import OF_KINDS, presence_metrics, where_there_is_one
from phisight.evaluate.metrics.labels_and_texts import LABELS_AND_TEXTS
from phisight.evaluate.metrics.metric import Metric
from phisight.evaluate.metrics.numbers import NUMBERS, TOLERANCE

METRICS: tuple[Metric, ...] = (*LABELS_AND_TEXTS, *NUMBERS, *OF_KINDS)
DECIDING: Mapping[str, str] = {name: kind.deciding for name, kind in KINDS.items()}
"""The metric by which fields of a kind are compared: with other images, with baselines, before and after training. Each
is a mean over all rows. Text is graded: a title with one word wrong is better than one with none right; so are
integers, dates and lists."""


def metrics_of(kind: str) -> list[Metric]:
    """The metrics of a kind of field, in the order of METRICS."""
    return [metric for metric in METRICS if metric.kind == kind]


def deciding(kind: str) -> Metric:
    """The metric that decides comparisons of a kind of field."""
    return next(metric for metric in METRICS if metric.kind == kind and metric.name == DECIDING[kind])


def field_metrics(task: Task, name: str) -> list[Metric]:
    """The metrics of a field; those of an optional one are over the rows with a value, then come those of presence."""
    field = task.fields[name]
    own = [where_there_is_one(one) if field.may_be_absent else one for one in metrics_of(field.kind)]
    return [*own, *presence_metrics(field.kind)] if field.optional else own


def field_deciding(task: Task, name: str) -> Metric:
    """The metric that decides comparisons of a field."""
    metric = deciding(task.fields[name].kind)
    return where_there_is_one(metric) if task.fields[name].may_be_absent else metric


def row_error(task: Task, truth: Mapping[str, FieldValue], predicted: Mapping[str, FieldValue] | None) -> float:
    """How wrong one row is: the mean over fields of 1 - similarity; a value where there is none, or none where there
    is one, is all wrong.
    """
    if predicted is None:
        return 1.0
    return sum(1 - _similarity(task, name, truth[name], predicted[name]) for name in task.names) / len(task.names)


def is_right(task: Task, name: str, truth: FieldValue, answer: FieldValue) -> bool:
    """Whether an answer to a field counts as right: a number within a tenth of the truth, anything else exactly."""
    if truth is None or answer is None:
        return truth is answer
    return task.fields[name].rules.is_right(truth, answer, TOLERANCE)


def _similarity(task: Task, name: str, wanted: FieldValue, given: FieldValue) -> float:
    if wanted is None or given is None:
        return float(wanted is given)
    return task.fields[name].rules.similarity(wanted, given)
