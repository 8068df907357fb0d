"""All metrics, which of them decide, and how wrong one row is."""

from __future__ import annotations

from collections.abc import Mapping

from rapidfuzz.distance import Levenshtein

from phisight.core.task import FieldKind, FieldValue, Task
from phisight.evaluate.metrics.labels_and_texts import LABELS_AND_TEXTS
from phisight.evaluate.metrics.metric import Metric
from phisight.evaluate.metrics.numbers import NUMBERS

METRICS: tuple[Metric, ...] = (*LABELS_AND_TEXTS, *NUMBERS)
DECIDING: Mapping[FieldKind, str] = {"category": "accuracy", "text": "token_f1", "number": "mae_penalized"}
"""The metric by which fields of a kind are compared: with other images, with baselines, before and after training. Each
is a mean over all rows. Text is graded: a title with one word wrong is better than one with none right."""


def metrics_of(kind: FieldKind) -> list[Metric]:
    """The metrics of a kind of field, in the order of METRICS."""
    return [metric for metric in METRICS if metric.kind == kind]


def deciding(kind: FieldKind) -> Metric:
    """The metric that decides comparisons of a kind of field."""
    return next(metric for metric in METRICS if metric.kind == kind and metric.name == DECIDING[kind])


def row_error(task: Task, truth: Mapping[str, FieldValue], predicted: Mapping[str, FieldValue] | None) -> float:
    """How wrong one row is: the mean over fields of 1 - similarity, 0 or 1, or the percentage error (at most 1)."""
    if predicted is None:
        return 1.0
    wrong = []
    for name in task.names:
        wanted, given = truth[name], predicted[name]
        if task.fields[name].kind == "category":
            wrong.append(float(wanted != given))
        elif task.fields[name].kind == "text":
            wrong.append(1 - Levenshtein.normalized_similarity(str(wanted), str(given)))
        else:
            gap = abs(float(given) - float(wanted))
            wrong.append(min(1.0, gap / abs(float(wanted))) if float(wanted) else float(gap > 0))
    return sum(wrong) / len(wrong)
