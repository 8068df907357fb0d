"""What an evaluation gives the trackers: figures, images with truth and answer, confusion matrix and scatter.

During training they go to the run's trackers as ``eval/...``. Afterwards ``phisight evaluate`` opens the same runs
again (W&B and MLflow by the ids kept in the run folder) and sends what it found under the name of the split:
``test/...``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phisight.core import run_folder
from phisight.core.kinds.kind import as_number
from phisight.core.read_files import read_object
from phisight.core.settings import Recipe, TrackSettings
from phisight.evaluate import MODES, EvalRow, Predictions, alias
from phisight.evaluate.breakdown import UNANSWERED
from phisight.evaluate.predictions_file import thumbnail
from phisight.track import SUMMARY, CompositeTracker, Example, Pairs, Tracker, open_tracker
from phisight.train.callbacks import TrainingCallback

EXAMPLES = 24
"""Rows that are shown with image, truth and answer at each evaluation, spread over all."""
SCATTER = 5000
"""Most points of a scatter, spread over the rows."""


def tracker_options(track: TrackSettings) -> dict[str, dict[str, Any]]:
    """Settings of each tracker that is named; see ``open_tracker``."""
    options: dict[str, dict[str, Any]] = {name: {} for name in track.to}
    if "wandb" in options:
        options["wandb"] = {"project": track.project, "entity": track.entity, "mode": track.mode}
    return options


def evaluation_tracker(track: TrackSettings) -> CompositeTracker | None:
    """The trackers that are named, not started yet; None where none is named."""
    return open_tracker(track.to, tracker_options(track), local=False) if track.to else None


def send_evaluation(
    tracker: CompositeTracker,
    run_dir: Path,
    recipe: Recipe,
    split: str,
    answers: Predictions,
    scores: Mapping[str, Any],
    results: Path,
) -> None:
    """Add an evaluation of a split to the runs of a run folder, at the step of its best checkpoint.

    What a tracker raises is logged and ends that tracker, never the evaluation.
    """
    step = _best_step(run_dir)
    figures = {f"{split}/{name}": value for name, value in flat_figures(scores).items()}
    tracker.start(run_dir, recipe.model_dump(mode="json"))
    tracker.log(step, figures)
    tracker.log_examples(step, examples_of(answers, sample_thumbnails(answers.rows)), split)
    for pairs in pairs_of(answers, f"{split}/"):
        tracker.log_pairs(step, pairs)
    tracker.finish(figures, {"scores": results / run_folder.SCORES})


def flat_figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of scores.json: ``category_accuracy``, ``shuffled/category_accuracy``, ``uses_image`` (1 or 0)."""
    found = _numbers(scores)
    for kind in (*MODES[1:], "base_model"):
        found |= {f"{kind}/{name}": value for name, value in _numbers(scores.get(kind, {})).items()}
    uses = scores.get("grounding", {}).get("uses_image")
    return found if uses is None else {**found, "uses_image": float(uses)}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _best_step(run_dir: Path) -> int:
    """Step of the checkpoint in RUN/best; 0 for a model that was not trained here."""
    path = run_dir / SUMMARY
    if not path.is_file():
        return 0
    try:
        ended = read_object(path)["summary"]
        return int(float(ended.get("best_step", ended.get("steps", 0))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return 0  # damaged: the figures are filed under the start


def sample_thumbnails(rows: Sequence[EvalRow]) -> dict[int, bytes]:
    """Thumbnails (JPEG) of rows spread over all, by row index; rows whose image cannot be used are left out."""
    spread = np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).round().astype(int).tolist()
    small = {row: thumbnail(rows[row].recorded[0]) for row in dict.fromkeys(spread)}
    return {row: jpeg for row, jpeg in small.items() if jpeg is not None}


def examples_of(answers: Predictions, shown: Mapping[int, bytes]) -> list[Example]:
    """Image, truth and answer (or why there is none) of the rows shown."""
    rows = answers.rows
    return [
        Example(rows[row].key, jpeg, rows[row].expected, answers.answers[row] or f"({answers.reasons[row]})")
        for row, jpeg in shown.items()
    ]


def pairs_of(answers: Predictions, prefix: str = "") -> list[Pairs]:
    """Truth and answer of each category and number field, called by ``prefix`` and alias.

    A number that was not answered is not in the scatter.
    """
    task, found = answers.task, []
    for name in task.of_kind("category"):
        field = task.fields[name]
        read = zip(answers.parsed, answers.predicted(name), strict=True)
        given = [UNANSWERED if values is None else field.write(value) for values, value in read]
        found.append(Pairs(prefix + alias(task, name), "category", list(map(field.write, answers.truth(name))), given))
    for name in task.of_kind("number"):
        both = zip(answers.truth(name), answers.predicted(name), strict=True)
        points = [
            (as_number(truth), as_number(value)) for truth, value in both if truth is not None and value is not None
        ]
        points = [points[index] for index in np.linspace(0, len(points) - 1, min(SCATTER, len(points))).astype(int)]
        if points:
            found.append(Pairs(prefix + alias(task, name), "number", *map(list, zip(*points, strict=True))))
    return found


class FigureSink:
    """Passes figures on to the trackers, steps and figures to the caller's progress."""

    def __init__(self, tracker: Tracker | None, progress: TrainingCallback | None) -> None:
        self.tracker = tracker
        self.progress = progress

    def begin(self, steps: int) -> None:
        """Training starts."""
        if self.progress:
            self.progress.begin(steps)

    def step(self, step: int) -> None:
        """A step is done."""
        if self.progress:
            self.progress.step(step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step."""
        if self.tracker:
            self.tracker.log(step, {_grouped(name): value for name, value in metrics.items()})
        if self.progress:
            self.progress.log(step, metrics)


def _grouped(name: str) -> str:
    """``eval_loss`` becomes ``eval/loss`` and ``loss`` ``train/loss``, as trackers group figures."""
    return f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name.removeprefix('train_')}"
