"""scores.json: every figure of an evaluation, with intervals and the count behind it.

    {"format", "rows", "groups", "left_out", "aliases", "tolerance", "parse_rate", "title_exact", "price_mae", ...,
     "counts": {"title_exact": rows behind the figure, ...}, "intervals": {"title_exact": [low, high], ...},
     "reasons": {why unread: rows}, "by_category": [...], "by_band": {...}, "confusion": {...},
     "shuffled": {"rows", "parse_rate", "title_exact", ..., "intervals", "reasons"}, "blank": ..., "mismatched": ...}

Figures at the top are those with real images. A figure that is not defined (no answered row) is null. Intervals are
bootstrapped over groups (products). Files of earlier versions have no ``groups``, ``counts`` and ``tolerance``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phisight.core.errors import EvaluationError
from phisight.evaluate.breakdown import by_band, by_category, confusion
from phisight.evaluate.image_conditions import MODES, Images
from phisight.evaluate.metrics import TOLERANCE, alias, field_metrics
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.bootstrap import interval

FORMAT = "phisight-scores/1"


def scores_of(
    every: Mapping[Images, Predictions],
    *,
    left_out: Mapping[str, int] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """All figures of an evaluation, ready for scores.json; ``every`` holds at least the real images."""
    if "real" not in every:
        raise EvaluationError("scores need answers to the real images; evaluate with images='real' first")
    real = every["real"]
    task = real.task
    return {
        "format": FORMAT,
        "left_out": dict(left_out or {}),
        "aliases": {name: alias(task, name) for name in task.names},
        "tolerance": TOLERANCE,
        **figures(real, seed=seed, resamples=resamples),
        "by_category": by_category(real),
        "by_band": by_band(real),
        "confusion": confusion(task, real),
        **{mode: figures(every[mode], seed=seed, resamples=resamples) for mode in MODES[1:] if mode in every},
    }


def figures(predictions: Predictions, *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Parse rate and the metrics of every field, flat, with ``counts`` (rows behind each), ``intervals`` over groups
    (none without resamples) and ``reasons``.
    """
    task = predictions.task
    values: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    ends: dict[str, list[float] | None] = {}
    for name in task.names:
        truth, predicted = predictions.truth(name), predictions.predicted(name)
        for metric in field_metrics(task, name):
            key = f"{alias(task, name)}_{metric.name}"
            behind = metric.values(truth, predicted, predictions.typical(name))
            values[key], counts[key] = metric.figure(behind), len(behind.rows)
            if resamples and values[key] is not None:
                groups = [predictions.groups[row] for row in behind.rows]
                found = interval(metric.reduce, behind.columns, groups, resamples=resamples, seed=seed)
                ends[key] = [found.low, found.high] if found else None
        if task.fields[name].kind == "number":
            values[f"{alias(task, name)}_answered"] = predictions.parse_rate
    return {
        "rows": len(predictions),
        "groups": len(set(predictions.groups)),
        "parse_rate": predictions.parse_rate,
        **values,
        "counts": counts,
        "intervals": ends,
        "reasons": predictions.reason_counts(),
    }
