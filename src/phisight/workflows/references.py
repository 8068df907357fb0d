"""What a model's answers are held against: the base model, baselines, intervals fitted on another split, its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.core.run_folder import FOREIGN_EVALUATED
from phisight.core.settings import EvaluateSettings
from phisight.core.task import Task
from phisight.data.dataset.foreign_images import read_foreign
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
from phisight.evaluate.limits.foreign import foreign_rows, grouped_share, share
from phisight.extraction.familiarity import Familiarity
from phisight.sample.foreign.foreign_folder import HELD_OUT, make_foreign
from phisight.workflows.predict import TowerFeatures

FOREIGN_ROWS = 200
"""Foreign images that are drawn for an evaluation."""


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
    tower: TowerFeatures,
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
    features = [product_features(tower, rows) for rows in (some, real.rows)]
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


def product_features(tower: TowerFeatures, rows: Sequence[EvalRow]) -> NDArray[np.float32]:
    """float32[N, 4V]: the tower's features of each row, averaged over its images."""
    counts = [len(row.images) for row in rows]
    features = tower.means([image for row in rows for image in row.recorded])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(features, starts, axis=0)
    return np.asarray(sums / np.asarray(counts, np.float32)[:, None], np.float32)


def foreign_of(settings: EvaluateSettings, task: Task, out: Path, seed: int, rows: Sequence[EvalRow]) -> list[EvalRow]:
    """Foreign images to answer: those that the settings name, or drawn ones; none where nothing asks for them.

    Drawn are kinds that training does not draw, with the sizes of the images in ``rows``.
    """
    chosen = settings.foreign or ("drawn" if task.abstains else None)
    if chosen is None:
        return []
    if chosen != "drawn":
        found = read_foreign(Path(chosen))
        return foreign_rows(found.folder, found.rows, task)
    folder = out / FOREIGN_EVALUATED
    sizes = [size for row in rows for size in row.sizes]
    make_foreign(FOREIGN_ROWS, folder, seed=seed, kinds=list(HELD_OUT), sizes=sizes, overwrite=True)
    return foreign_rows(folder, read_foreign(folder).rows, task)


def familiarity_scores(
    known: Familiarity,
    real: Sequence[EvalRow],
    of_real: Sequence[float],
    foreign: Sequence[EvalRow],
    of_foreign: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Key ``unfamiliar`` of scores.json: how many of some real and of the foreign images are over the threshold."""
    groups = [row.group or row.key for row in real]
    scores = {**known.facts(), "real": grouped_share([one > 1 for one in of_real], groups, seed=seed)}
    if foreign:
        over = [one > 1 for one in of_foreign]
        by_kind = {
            kind: share([one for one, row in zip(over, foreign, strict=True) if row.key == kind])
            for kind in sorted({row.key for row in foreign})
        }
        scores |= {"foreign": share(over), "foreign_by_kind": by_kind}
    return scores
