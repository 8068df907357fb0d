"""Run folder -> predictions and scores.

rows -> base model's answers -> answers to the real and to other images -> intervals -> predictions.parquet
     -> metrics, certificate, baselines, verdict -> scores.json -> trackers

Answers are always generated from the image and the prompt. Nothing here ever shows the model the truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.dataset_folder import Split
from phisight.core.environment import environment
from phisight.core.errors import CheckpointError, EvaluationError, RunError
from phisight.core.geometry import CROP_SIZE, hd_grid
from phisight.core.recipe import write_recipe
from phisight.core.settings import EvaluateSettings, Recipe, TrackSettings
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import (
    EvalRow,
    EvalRows,
    Images,
    Predictions,
    certificate,
    evaluate,
    figures,
    likelihoods,
    possible_modes,
    read_rows,
    sample_of,
    scores_of,
    teacher_forced,
    untested,
    verdict_of,
    write_predictions,
)
from phisight.evaluate.image_conditions import grids_of
from phisight.export.describe import describe_run
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.subject import TINY, data_of_run, find_data, read_run, read_trained_run
from phisight.generate import Predictor
from phisight.track import CompositeTracker
from phisight.workflows.load import base_model, base_model_label, load_model, load_run, task_of_run
from phisight.workflows.predict import calibration_of, predictor_of, with_numbers_of
from phisight.workflows.references import against_base, baseline_scores, intervals_around
from phisight.workflows.results_folder import evaluation_facts, length_warning, results_folder
from phisight.workflows.tracking import evaluation_tracker, send_evaluation

_LOG = logging.getLogger(__name__)

BASE_MODEL_ROWS = 100
"""Rows that the base model answers by default; the comparison is over these."""
BASELINE_ROWS = 5000
"""Most training rows that the baselines on image features learn from."""
INTERVAL_ROWS = 1000
"""Most validation rows that are answered for intervals and calibration; levels then hold to about a percent."""

Progress = Callable[[str, int, int], None]
"""Called with the image condition (or ``base_model``), answers given and answers wanted."""


@dataclass(frozen=True)
class _Evaluation:
    """A model that is evaluated: its rows, and where the results go."""

    model: Any
    processor: Any
    recipe: Recipe
    settings: EvaluateSettings
    task: Task
    folder: Path
    found: EvalRows
    run: Path | None
    """The run folder; None for a model that is no run."""
    out: Path
    """Where the results go."""
    identity: str
    """Changes when the weights do, so that neither answers nor figures of earlier ones are taken over."""
    progress: Progress
    tracker: CompositeTracker | None

    def answers(self, images: Images, name: str | None = None, rows: Sequence[EvalRow] | None = None) -> Predictions:
        """Answers under one image condition, written to an answer log as they come."""
        name = name or images
        return evaluate(
            self.predictor,
            self.found.rows if rows is None else rows,
            self.task,
            images=images,
            seed=self.recipe.seed,
            answer_log=self.out / f"{run_folder.ANSWER_LOG}.{name}.jsonl",
            identity=self.identity,
            medians=self.found.medians,
            grids=self.grids if rows is None else None,
            progress=lambda done, total: self.progress(name, done, total),
        )

    @cached_property
    def grids(self) -> list[Hashable]:
        """The crops that the model makes of each row's images."""
        image_processor = self.processor.image_processor
        crops = getattr(image_processor, "num_crops", 1), getattr(image_processor, "crop_size", CROP_SIZE)

        def grid(width: int, height: int) -> tuple[int, int]:
            found = hd_grid(width, height, *crops)
            return found.rows, found.columns

        return grids_of(self.found.rows, grid)

    @cached_property
    def training_rows(self) -> list[EvalRow]:
        """All usable rows of the training split; EvaluationError where there are none."""
        return self.other_rows("train")

    def other_rows(self, split: Split, limit: int | None = None) -> list[EvalRow]:
        """Rows of another split of the same data set."""
        recipe = self.recipe
        found = read_rows(self.folder, self.task, split, limit=limit, seed=recipe.seed, images=recipe.data.images)
        return found.rows

    def warning(self) -> str | None:
        """That answers will be cut, known before the first one; logged."""
        try:
            answers = [row.expected for row in self.training_rows]
        except EvaluationError:
            answers = [row.expected for row in self.found.rows]
        warning = length_warning(self.processor.tokenizer, answers, self.settings.max_new_tokens)
        if warning:
            _LOG.warning("%s", warning)
        return warning

    def calibration(self) -> dict[str, Any]:
        """What confidences are worth, on rows of the validation split; EvaluationError where there are too few."""
        rows, numbers = self.other_rows("validation", INTERVAL_ROWS), self.recipe.train.numbers
        grammar = self.predictor.grammar
        return calibration_of(self.model, self.processor, self.settings, numbers, self.task, rows, grammar)

    @cached_property
    def predictor(self) -> Predictor:
        numbers, data = self.recipe.train.numbers, [data_of_run(self.out, self.recipe), self.folder]
        return predictor_of(
            self.model, self.processor, self.settings, numbers, self.task, data, run=self.run, continuous=True
        )


def evaluate_run(
    run: Path,
    *,
    data: Path | None = None,
    settings: EvaluateSettings | None = None,
    track: TrackSettings | None = None,
    base_model_rows: int = BASE_MODEL_ROWS,
    progress: Progress = lambda _condition, _done, _total: None,
) -> dict[str, Any]:
    """Answer a split with its own and with other images; writes predictions and ``scores.json``.

    They go into the run where the split and the rows are the recipe's, else into RUN/evaluations/NAME.
    At most ``base_model_rows`` of the rows (a fixed sample) are answered by the model before fine-tuning, too; 0: none.
    The trackers of ``track`` (None means those of the run) get the figures, in the run they know already.
    """
    recipe = read_trained_run(run)
    tracker = evaluation_tracker(track or recipe.track)
    chosen, folder, task = settings or recipe.evaluate, data or find_data(run, recipe), task_of_run(run, recipe)
    found = read_rows(folder, task, chosen.split, limit=chosen.rows, seed=recipe.seed, images=recipe.data.images)
    out = results_folder(run, recipe, chosen, folder)
    started = _Evaluation(None, None, recipe, chosen, task, folder, found, run, out, "", progress, tracker)

    sample = sample_of(found.rows, base_model_rows, recipe.seed)
    of_base, base, missing = _base_model_answers(started, sample) if sample else (None, None, {})
    model, processor, _ = load_run(run, base)
    identity = run_folder.weights_fingerprint(run / run_folder.BEST)
    evaluation = replace(started, model=model, processor=processor, identity=identity)
    extra: dict[str, Any] = {"warnings": [warning] if (warning := evaluation.warning()) else []}
    real = evaluation.answers("real")
    if of_base is not None:
        extra["base_model"] = against_base(of_base, real.subset(sample), base_model_label(recipe), recipe.seed)
    scores = _scores(evaluation, real, extra, missing)
    describe_run(run)
    return scores


def evaluate_model(recipe: Recipe, *, progress: Progress = lambda _condition, _done, _total: None) -> dict[str, Any]:
    """The same for a model that is no run (``model.name``: a folder in the official layout, or a hub name).

    Its task is that of the data set ``data.path``; ``out`` becomes a folder that the report reads, and the same call
    again continues where it stopped.
    """
    name, out, settings = recipe.model.name, recipe.out, recipe.evaluate
    config = out / run_folder.CONFIG
    if config.is_file() and read_run(out).model_copy(update={"evaluate": settings}) != recipe:
        raise RunError(f"{out} holds the results of something else; name another folder with --out")
    tracker = evaluation_tracker(recipe.track)
    opened = DatasetFolder.open(recipe.data.path)
    task = recipe.task or opened.task
    images = recipe.data.images
    found = read_rows(opened.path, task, settings.split, limit=settings.rows, seed=recipe.seed, images=images)
    model, processor = load_model(name, recipe.model)
    run_folder.write_text_atomically(config, write_recipe(recipe))
    run_folder.write_json(out / run_folder.ENVIRONMENT, environment())
    opened.card.write(out)
    identity = run_folder.weights_fingerprint(Path(name)) or name
    recipe = with_numbers_of(model, recipe)
    evaluation = _Evaluation(
        model, processor, recipe, settings, task, opened.path, found, None, out, identity, progress, tracker
    )
    extra = {"warnings": [warning] if (warning := evaluation.warning()) else []}
    return _scores(evaluation, evaluation.answers("real"), extra, {})


def _base_model_answers(
    evaluation: _Evaluation, sample: Sequence[int]
) -> tuple[Predictions | None, Any, dict[str, str]]:
    """Answers of the base model to some rows, that model if adapters are to be merged into it, or why there are none.

    A model that was trained whole replaces its base in memory.
    """
    recipe, best = evaluation.recipe, (evaluation.run or evaluation.out) / run_folder.BEST
    try:
        base, processor = base_model(recipe, best)
    except CheckpointError as error:
        return None, None, {"base_model": str(error)}
    plain = recipe.train.model_copy(update={"numbers": "text"})  # no other method is learned yet
    text, identity = recipe.model_copy(update={"train": plain}), f"{recipe.model.name} {recipe.seed}"
    untuned = replace(evaluation, model=base, processor=processor, recipe=text, identity=identity)
    answers = untuned.answers("real", "base_model", [evaluation.found.rows[index] for index in sample])
    return answers, base if (best / ADAPTER_CONFIG).is_file() else None, {}


def _scores(
    evaluation: _Evaluation, real: Predictions, extra: Mapping[str, Any], not_checked: Mapping[str, str]
) -> dict[str, Any]:
    """Answers under every other image condition, then all figures; what is not possible is under ``not_checked``."""
    seed, task, out = evaluation.recipe.seed, evaluation.task, evaluation.out
    modes, impossible = possible_modes(real.rows, task, seed, evaluation.grids)
    every = {images: real if images == "real" else evaluation.answers(images) for images in modes}
    missing, intervals = {**not_checked, **impossible}, None
    try:
        intervals = intervals_around(
            real,
            evaluation.settings,
            lambda: evaluation.answers("real", "validation", evaluation.other_rows("validation", INTERVAL_ROWS)),
        )
    except EvaluationError as error:
        missing["prediction_intervals"] = str(error)
    write_predictions(out, list(every.values()), seed=seed, intervals=intervals)

    scores: dict[str, Any] = scores_of(every, left_out=evaluation.found.left_out, seed=seed)
    likely = {images: likelihoods(evaluation.predictor, answers, seed=seed) for images, answers in every.items()}
    scores["evaluation"] = evaluation_facts(
        evaluation.recipe, evaluation.settings, evaluation.folder, evaluation.identity
    )
    scores["numbers"] = {"strategy": evaluation.predictor.numbers}
    if evaluation.predictor.numbers in ("head", "expected"):
        scores["numbers"]["as_written"] = figures(real.as_written(), seed=seed, resamples=0)
    scores["grounding"] = (
        certificate(every, likely, one_grid=len(set(evaluation.grids)) == 1, seed=seed)
        if "shuffled" in every
        else untested(impossible["shuffled"])
    )
    if likely["real"]:
        scores["teacher_forced"] = figures(teacher_forced(real, likely["real"]))
    try:
        scores["baselines"] = _baselines(evaluation, real)
    except EvaluationError as error:
        missing["baselines"] = str(error)
    if intervals:
        scores["prediction_intervals"] = intervals.scores(real)
    try:
        scores["calibration"] = evaluation.calibration()
    except EvaluationError as error:
        missing["calibration"] = str(error)
    scores |= {**extra, "not_checked": missing}
    scores["verdict"] = verdict_of(scores)
    run_folder.write_json(out / run_folder.SCORES, scores)
    if evaluation.tracker:
        folder, split = evaluation.run or out, evaluation.settings.split
        send_evaluation(evaluation.tracker, folder, evaluation.recipe, split, real, scores, out)
    return scores


def _baselines(evaluation: _Evaluation, real: Predictions) -> dict[str, dict[str, Any]]:
    train, train_settings = evaluation.training_rows, evaluation.recipe.train
    sample = sample_of(train, BASELINE_ROWS, evaluation.recipe.seed)
    frozen = evaluation.run is not None and not train_settings.train_tower and evaluation.recipe.model.name != TINY
    model, processor, seed = evaluation.model, evaluation.processor, evaluation.recipe.seed
    return baseline_scores(model, processor, evaluation.task, train, sample, real, frozen=frozen, seed=seed)
