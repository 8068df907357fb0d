"""Where a model is right and wrong: by category, by band of a number, and which categories are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from phisight.core.kinds.kind import as_number
from phisight.core.task import FieldValue, Task
from phisight.evaluate.metrics import Column, alias, field_metrics
from phisight.evaluate.predictions import Predictions

_SHORT = ("accuracy", "exact", "mae", "median_ape", "entry_f1", "answered")
OTHER = "(no such category)"
UNANSWERED = "(unanswered)"


def by_category(predictions: Predictions) -> list[dict[str, Any]]:
    """One line for each value of the first category field, most frequent first: rows and the main metrics."""
    categories = predictions.task.of_kind("category")
    if not categories:
        return []
    members: dict[FieldValue, list[int]] = {}
    for row, value in enumerate(predictions.truth(categories[0])):
        members.setdefault(value, []).append(row)
    write = predictions.task.fields[categories[0]].write
    groups = sorted(members.items(), key=lambda item: (-len(item[1]), write(item[0])))
    return [{"category": write(value), **_short(predictions, rows)} for value, rows in groups]


def by_band(predictions: Predictions, bands: int = 5) -> dict[str, list[dict[str, Any]]]:
    """For each number field one line a band of its truth, bands of about equal row counts from low to high."""
    return {
        alias(predictions.task, name): list(_bands(predictions, name, bands))
        for name in predictions.task.of_kind("number")
    }


def _bands(predictions: Predictions, name: str, bands: int) -> list[dict[str, Any]]:
    valued = [row for row, value in enumerate(predictions.truth(name)) if value is not None]
    if not valued:
        return []
    truth = np.asarray([as_number(predictions.rows[row].truth[name]) for row in valued])
    edges = np.unique(np.quantile(truth, np.linspace(0, 1, bands + 1)))
    bin_of_row = np.clip(np.searchsorted(edges, truth, side="right") - 1, 0, max(0, len(edges) - 2))
    lines = []
    for band in range(max(1, len(edges) - 1)):
        rows = [valued[index] for index in np.flatnonzero(bin_of_row == band)]
        low, high = float(edges[band]), float(edges[min(band + 1, len(edges) - 1)])
        lines.append({"low": low, "high": high, **_short(predictions, rows, only=name)})
    return lines


def _short(predictions: Predictions, rows: Sequence[int], only: str | None = None) -> dict[str, Any]:
    task, line = predictions.task, {"rows": len(rows)}
    figures: dict[str, Any] = {}
    for name in [only] if only else task.names:
        truth = [predictions.rows[row].truth[name] for row in rows]
        answers: Column = [(predictions.parsed[row] or {}).get(name) for row in rows]
        for metric in field_metrics(task, name):
            if metric.name in _SHORT:
                figures[f"{alias(task, name)}_{metric.name}"] = metric(truth, answers, predictions.typical(name))
    return {**line, **figures}


def confusion(task: Task, predictions: Predictions, most: int = 25) -> dict[str, dict[str, Any]]:
    """For each category field its labels and counts int[truth][answer].

    The ``most`` frequent labels keep their names; an answer that is no label of the split, or none at all, has a column
    of its own, and rarer labels share one.
    """
    return {alias(task, name): _confusion(*_as_written(predictions, name), most) for name in task.of_kind("category")}


def _as_written(predictions: Predictions, name: str) -> tuple[list[str], list[str | None]]:
    """Truth and answers as texts; no value is the word for it, no answer is None."""
    write = predictions.task.fields[name].write
    answers = [write(values[name]) if values is not None else None for values in predictions.parsed]
    return [write(value) for value in predictions.truth(name)], answers


def _confusion(truth: Sequence[str], predicted: Sequence[str | None], most: int) -> dict[str, Any]:
    frequent = [value for value, _ in Counter(truth).most_common()]
    others = f"({len(frequent) - most} others)" if len(frequent) > most else None
    names = {label: label if index < most else str(others) for index, label in enumerate(frequent)}
    answers = [UNANSWERED if value is None else names.get(value, OTHER) for value in predicted]
    labels = sorted(set(frequent[:most])) + ([others] if others else [])
    columns = labels + [extra for extra in (OTHER, UNANSWERED) if extra in answers]
    pairs = Counter(zip([names[value] for value in truth], answers, strict=True))
    counts = [[pairs[label, answer] for answer in columns] for label in labels]
    return {"labels": labels, "answers": columns, "counts": counts}
