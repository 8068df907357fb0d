"""Intervals around the answered numbers: fitted on answers to the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from phisight.core.errors import EvaluationError
from phisight.core.settings import EvaluateSettings, Recipe
from phisight.core.task import Task
from phisight.evaluate import EvalRow, PredictionIntervals, Predictions, fit_prediction_intervals, read_rows

VALIDATION_ROWS = 1000
"""Most validation rows that are answered for the intervals; the level then holds to about a percent."""


def intervals_around(
    real: Predictions,
    settings: EvaluateSettings,
    folder: Path,
    task: Task,
    recipe: Recipe,
    answer: Callable[[Sequence[EvalRow]], Predictions],
) -> PredictionIntervals | None:
    """Intervals around the answers to the real pictures; none unless ``evaluate.coverage`` is set.

    ``answer`` asks the model about rows of the validation split of ``folder``; EvaluationError where there are none.
    """
    if settings.coverage is None:
        return None
    if settings.split == "validation":
        raise EvaluationError(
            "intervals are fitted on the validation split, which is evaluated here; choose another evaluate.split"
        )
    rows = read_rows(
        folder, task, "validation", limit=VALIDATION_ROWS, seed=recipe.seed, images=recipe.data.images
    ).rows
    return PredictionIntervals.around(real, fit_prediction_intervals(answer(rows), settings.coverage))
