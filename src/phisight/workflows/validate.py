"""Answers on the validation split during training: the figures of ``phisight evaluate``, early and on fewer rows.

Before the first step and at each evaluation a fixed, seeded sample of the split is answered with its own images.
Figures become ``eval/...`` curves, some rows examples (image, truth, answer), fields a confusion matrix or a scatter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.core.errors import SettingsError, nearest, some
from phisight.core.settings import Recipe, TrainSettings
from phisight.core.task import Task
from phisight.evaluate import EvalRow, alias, evaluate, field_metrics, figures, read_rows
from phisight.track import Tracker
from phisight.train.evaluation import Answers
from phisight.workflows.predict import predictor_of
from phisight.workflows.tracking import examples_of, pairs_of, sample_thumbnails


def judged_by(recipe: Recipe, task: Task, splits: Sequence[str]) -> Answers:
    """The figure that chooses the best checkpoint, checked before anything is loaded; ``ask`` is not set yet.

    Raises:
        SettingsError: A figure that this task does not have, or settings that can have no effect.
    """
    train = recipe.train
    wanted = {
        "answer_rows": train.answer_rows > 0,
        "best": train.best != "loss",
        "patience": train.patience is not None,
    }
    asked = [f"train.{name}" for name, is_set in wanted.items() if is_set]
    if asked and "validation" not in splits:
        raise SettingsError(
            f"{some(asked)} needs a validation split, and {recipe.data.path} has only {some(splits)}; build the data "
            "set with one, or leave the setting out"
        )
    known = known_figures(task)
    name = _complete_figure(train.best, task)
    if name is None:
        near = nearest(train.best, known)
        meant = f" (did you mean {near!r}?)" if near else ""
        names = list(dict.fromkeys(figure for figure, _ in known.values()))
        raise SettingsError(
            f"train.best = {train.best!r} is no figure of this task{meant}; known are {some(names, 99)}"
        )
    if train.best != "loss" and not train.answer_rows:
        raise SettingsError(
            f"train.best = {train.best!r} needs answers, and train.answer_rows is 0; set how many rows of the "
            "validation split to answer at each evaluation, such as --set train.answer_rows=100"
        )
    _require_times(train, [one for one in asked if one != "train.answer_rows"])
    return Answers(best=name[0], higher_is_better=name[1])


def known_figures(task: Task) -> dict[str, tuple[str, bool]]:
    """What can be written after ``train.best`` -> (name of the figure, higher is better).

    The names are those of scores.json (``category_accuracy``) and ``field/metric`` (``category3_code/accuracy``).
    """
    known = {"loss": ("loss", False), "parse_rate": ("parse_rate", True)}
    for field in task.names:
        for metric in field_metrics(task, field):
            figure = f"{alias(task, field)}_{metric.name}", metric.higher_is_better
            known |= {figure[0]: figure, f"{field}/{metric.name}": figure}
    return known


def _complete_figure(name: str, task: Task) -> tuple[str, bool] | None:
    """A figure that every row has a part in, by its name; None where there is none of this name.

    Raises:
        SettingsError: A figure over the answered rows alone, which rewards a model that answers one easy row.
    """
    wanted = name.replace("_penalised", "_penalized")  # as recipes spelled it before November 2026
    known = known_figures(task)
    partial = {
        f"{prefix}{metric.name}": f"{prefix}{metric.name}_penalized"
        for field in task.names
        for metric in field_metrics(task, field)
        if not metric.complete
        for prefix in (f"{alias(task, field)}_", f"{field}/")
    }
    if wanted in partial:
        complete = partial[wanted]
        repair = f"choose {complete}" if complete in known else "choose a figure that ends in _penalized"
        raise SettingsError(
            f"train.best = {name!r} is a figure over the answered rows alone, so a checkpoint that answers one row "
            f"in a hundred could win; {repair}, which counts an unread answer as well"
        )
    return known.get(wanted)


def _require_times(train: TrainSettings, asked: Sequence[str]) -> None:
    """Choosing a checkpoint needs several evaluations, each with a checkpoint."""
    if not asked:
        return
    if train.evaluate_every is None:
        raise SettingsError(
            f"{some(asked)} chooses among evaluations, and train.evaluate_every is not set: there is only one, "
            "at the end"
        )
    if (train.save_every or train.evaluate_every) % train.evaluate_every:
        raise SettingsError(
            f"{some(asked)} needs a checkpoint of evaluated steps: make train.save_every = {train.save_every} a "
            f"multiple of train.evaluate_every = {train.evaluate_every}, or leave it out"
        )


class ValidationAnswers:
    """Answers the sample each time it is called; see ``phisight.train.evaluation.Ask``.

    A rank without a tracker logs nothing.
    """

    def __init__(self, recipe: Recipe, folder: Path, task: Task, processor: Any, tracker: Tracker | None) -> None:
        self._recipe = recipe
        self._folder = folder
        self._task = task
        self._processor = processor
        self._tracker = tracker
        limit, images = recipe.train.answer_rows, recipe.data.images
        found = read_rows(folder, task, "validation", limit=limit, seed=recipe.seed, images=images)
        self.rows: list[EvalRow] = found.rows
        self._medians = found.medians
        self._shown: dict[int, bytes] | None = None

    def __call__(self, model: Any, step: int) -> Mapping[str, float]:
        """Figures by their name in scores.json; those that are not defined are left out."""
        settings = self._recipe.evaluate
        numbers = self._recipe.train.numbers if step else "text"  # before the first step no other method is learned
        run = self._recipe.out
        predictor = predictor_of(model, self._processor, settings, numbers, self._task, [self._folder], run=run)
        answers = evaluate(predictor, self.rows, self._task, seed=self._recipe.seed, medians=self._medians)
        known = {name for name, _ in known_figures(self._task).values()}
        scores = figures(answers, resamples=0)
        found = {name: float(value) for name, value in scores.items() if name in known and value is not None}
        if self._tracker is not None:
            self._tracker.log(step, {f"eval/{name}": value for name, value in found.items()})
            self._shown = self._shown or sample_thumbnails(self.rows)
            self._tracker.log_examples(step, examples_of(answers, self._shown))
            for pairs in pairs_of(answers):
                self._tracker.log_pairs(step, pairs)
        return found
