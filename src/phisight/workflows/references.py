"""What a model's answers are held against: the base model's answers, baselines, intervals fitted on another split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.core.settings import EvaluateSettings
from phisight.core.task import Task
from phisight.evaluate import (
    EvalRow,
    PredictionIntervals,
    Predictions,
    against_baselines,
    alias,
    compare_predictions,
    deciding,
    figures,
    fit_baselines,
    fit_prediction_intervals,
)
from phisight.workflows.predict import tower_features


def against_base(base: Predictions, tuned: Predictions, label: str, seed: int) -> dict[str, Any]:
    """Key ``base_model`` of scores.json: figures of the base model, of the tuned one on the same rows, who is better.

    ``tuned_against`` holds the paired comparison tuned - base of the deciding metric, by field.
    """
    compared = compare_predictions(tuned, base, seed=seed)
    against = {}
    for name in tuned.task.names:
        field = alias(tuned.task, name)
        one = compared.get(f"{field}_{deciding(tuned.task.fields[name].kind).name}")
        against[field] = one.as_json() if one else None
    of_tuned = figures(tuned, seed=seed, resamples=0)
    return {"about": label, **figures(base, seed=seed), "tuned": of_tuned, "tuned_against": against}


def intervals_around(
    real: Predictions, settings: EvaluateSettings, on_validation: Callable[[], Predictions]
) -> PredictionIntervals | None:
    """Intervals around the answered numbers, fitted on answers to the validation split; None without a coverage.

    Raises:
        EvaluationError: The validation split is missing, or is the one that is evaluated.
    """
    if settings.coverage is None:
        return None
    if settings.split == "validation":
        raise EvaluationError(
            "intervals are fitted on the validation split, which is evaluated here; choose another evaluate.split"
        )
    return PredictionIntervals.around(real, fit_prediction_intervals(on_validation(), settings.coverage))


def baseline_scores(
    model: Any,
    processor: Any,
    task: Task,
    train: Sequence[EvalRow],
    sample: Sequence[int],
    real: Predictions,
    *,
    frozen: bool,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Cheap answers to the same rows: constant and category median learn from all training rows, the two on the tower's
    features from a ``sample`` of them.
    """
    some = [train[index] for index in sample]
    features = [product_features(model, processor, rows) for rows in (some, real.rows)]
    fitted = fit_baselines(
        task,
        [row.truth for row in train],
        [row.truth for row in real.rows],
        *features,
        sample=[row.truth for row in some],
        tower="frozen vision tower" if frozen else "trained vision tower",
    )
    found: dict[str, dict[str, Any]] = against_baselines(real, fitted, seed=seed)
    return found


def product_features(model: Any, processor: Any, rows: Sequence[EvalRow]) -> NDArray[np.float32]:
    """float32[N, 4V]: the tower's features of each row, averaged over its images."""
    counts = [len(row.images) for row in rows]
    features = tower_features(model, processor, [image for row in rows for image in row.recorded])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(features, starts, axis=0)
    return np.asarray(sums / np.asarray(counts, np.float32)[:, None], np.float32)
