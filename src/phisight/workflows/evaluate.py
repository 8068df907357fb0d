"""Run folder -> predictions and scores.

rows -> base model's answers -> answers to the real and to other images -> intervals -> predictions.parquet
     -> metrics, certificate, baselines, verdict -> scores.json -> trackers

Answers are always generated from the image and the prompt. Nothing here ever shows the model the truth.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.environment import environment
from phisight.core.errors import CheckpointError, EvaluationError, ImageError, RunError
from phisight.core.recipe import write_recipe
from phisight.core.settings import EvaluateSettings, Recipe, TrackSettings
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import (
    Predictions,
    certificate,
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
from phisight.evaluate.image_conditions import Images
from phisight.evaluate.limits.answer_confidence import calibration_of, errors_by_confidence
from phisight.evaluate.limits.foreign import foreign_figures, refused
from phisight.export.describe import describe_run
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.subject import TINY, find_data, read_run, read_trained_run
from phisight.train.acceleration.freed_memory import trim_memory
from phisight.workflows.load import base_model, base_model_label, load_model, load_run, task_of_run, to_predict
from phisight.workflows.predict import with_numbers_of
from phisight.workflows.references import (
    against_base,
    baseline_scores,
    familiarity_scores,
    foreign_of,
    intervals_around,
)
from phisight.workflows.results_folder import (
    FAMILIAR_ROWS,
    INTERVAL_ROWS,
    Evaluation,
    Progress,
    evaluation_facts,
    results_folder,
)
from phisight.workflows.tracking import evaluation_tracker, send_evaluation

_LOG = logging.getLogger(__name__)

BASE_MODEL_ROWS = 100
"""Rows that the base model answers by default; the comparison is over these."""
BASELINE_ROWS = 5000
"""Most training rows that the baselines on image features learn from."""


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
    trim_memory()  # what a training of this process has freed
    recipe = read_trained_run(run)
    tracker = evaluation_tracker(track or recipe.track)
    chosen, folder, task = settings or recipe.evaluate, data or find_data(run, recipe), task_of_run(run, recipe)
    found = read_rows(folder, task, chosen.split, limit=chosen.rows, seed=recipe.seed, images=recipe.data.images)
    out = results_folder(run, recipe, chosen, folder)
    started = Evaluation(None, None, recipe, chosen, task, folder, found, run, out, "", progress, tracker)

    sample = sample_of(found.rows, base_model_rows, recipe.seed)
    of_base, base, missing = _base_model_answers(started, sample) if sample else (None, None, {})
    model, processor, _ = load_run(run, base)
    to_predict(model)
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
    to_predict(model)
    run_folder.write_text_atomically(config, write_recipe(recipe))
    run_folder.write_json(out / run_folder.ENVIRONMENT, environment())
    opened.card.write(out)
    identity = run_folder.weights_fingerprint(Path(name)) or name
    recipe = with_numbers_of(model, recipe)
    evaluation = Evaluation(
        model, processor, recipe, settings, task, opened.path, found, None, out, identity, progress, tracker
    )
    extra = {"warnings": [warning] if (warning := evaluation.warning()) else []}
    return _scores(evaluation, evaluation.answers("real"), extra, {})


def _base_model_answers(
    evaluation: Evaluation, sample: Sequence[int]
) -> tuple[Predictions | None, Any, dict[str, str]]:
    """Answers of the base model to some rows, that model if adapters are to be merged into it, or why there are none.

    A model that was trained whole replaces its base in memory.
    """
    recipe, best = evaluation.recipe, (evaluation.run or evaluation.out) / run_folder.BEST
    try:
        base, processor = base_model(recipe, best)
        to_predict(base)
    except CheckpointError as error:
        return None, None, {"base_model": str(error)}
    plain = recipe.train.model_copy(update={"numbers": "text"})  # no other method is learned yet
    text, identity = recipe.model_copy(update={"train": plain}), f"{recipe.model.name} {recipe.seed}"
    untuned = replace(evaluation, model=base, processor=processor, recipe=text, identity=identity, refuses=False)
    answers = untuned.answers("real", "base_model", [evaluation.found.rows[index] for index in sample])
    return answers, base if (best / ADAPTER_CONFIG).is_file() else None, {}


def _scores(
    evaluation: Evaluation, real: Predictions, extra: Mapping[str, Any], not_checked: Mapping[str, str]
) -> dict[str, Any]:
    """Answers under every other image condition, then all figures; what is not possible is under ``not_checked``."""
    seed, task, out = evaluation.recipe.seed, evaluation.task, evaluation.out
    every, asked, impossible = _with_other_images(evaluation, real)
    missing, intervals = {**not_checked, **impossible}, None
    validated = functools.cache(lambda: evaluation.validation_answers(real))
    try:
        # Another split is evaluated where intervals can be had, so that all its rows are answered in one part.
        intervals = intervals_around(real, evaluation.settings, lambda: validated()[0])
    except EvaluationError as error:
        missing["prediction_intervals"] = str(error)
    write_predictions(out, list(every.values()), seed=seed, intervals=intervals, asked=asked)

    scores: dict[str, Any] = scores_of(every, left_out=evaluation.found.left_out, seed=seed)
    if len(asked) < len(real):  # rows count anew, so that each shows its own image again
        own = replace(real.subset(asked), shown=range(len(asked)))
        every, grids = {**every, "real": own}, [evaluation.grids[row] for row in asked]
    else:
        own, grids = real, evaluation.grids
    likely = {images: likelihoods(evaluation.predictor, answers, seed=seed) for images, answers in every.items()}
    scores["evaluation"] = evaluation_facts(
        evaluation.recipe, evaluation.settings, evaluation.folder, evaluation.identity
    )
    scores["numbers"] = {"strategy": evaluation.predictor.numbers}
    if evaluation.predictor.numbers in ("head", "expected"):
        scores["numbers"]["as_written"] = figures(real.as_written(), seed=seed, resamples=0)
    scores["grounding"] = (
        certificate(every, likely, one_grid=len(set(grids)) == 1, seed=seed)
        if "shuffled" in every
        else untested(impossible["shuffled"])
    )
    if likely["real"]:
        scores["teacher_forced"] = figures(teacher_forced(own, likely["real"]))
    try:
        scores["baselines"] = _baselines(evaluation, real)
    except EvaluationError as error:
        missing["baselines"] = str(error)
    if intervals:
        scores["prediction_intervals"] = intervals.scores(real)
    try:
        evaluation.require_confidences()
        scores["calibration"] = calibration_of(task, validated())
    except EvaluationError as error:
        missing["calibration"] = str(error)
    scores |= _limits(evaluation, real, scores, missing)
    scores |= {**extra, "not_checked": missing}
    scores["verdict"] = verdict_of(scores)
    run_folder.write_json(out / run_folder.SCORES, scores)
    if evaluation.tracker:
        folder, split = evaluation.run or out, evaluation.settings.split
        send_evaluation(evaluation.tracker, folder, evaluation.recipe, split, real, scores, out)
    return scores


def _with_other_images(
    evaluation: Evaluation, real: Predictions
) -> tuple[dict[Images, Predictions], list[int], dict[str, str]]:
    """Answers by image condition, the rows of ``real`` behind the other conditions, and why some cannot be had.

    Where those are a sample (``evaluate.other_image_rows``), the answers of other conditions count its rows.
    """
    asked = sample_of(real.rows, evaluation.settings.other_image_rows or len(real), evaluation.recipe.seed)
    rows, grids = [real.rows[row] for row in asked], [evaluation.grids[row] for row in asked]
    modes, impossible = possible_modes(rows, evaluation.task, evaluation.recipe.seed, grids)
    every = {images: real if images == "real" else evaluation.answers(images, None, rows, grids) for images in modes}
    return every, asked, impossible


def _baselines(evaluation: Evaluation, real: Predictions) -> dict[str, dict[str, Any]]:
    train, train_settings = evaluation.training_rows, evaluation.recipe.train
    sample = sample_of(train, BASELINE_ROWS, evaluation.recipe.seed)
    frozen = evaluation.run is not None and not train_settings.train_tower and evaluation.recipe.model.name != TINY
    seed, features = evaluation.recipe.seed, evaluation.features
    return baseline_scores(features, evaluation.task, train, sample, real, frozen=frozen, seed=seed)


def _limits(
    evaluation: Evaluation, real: Predictions, scores: Mapping[str, Any], missing: dict[str, str]
) -> dict[str, Any]:
    """Keys ``foreign``, ``refused``, ``risk_coverage`` and ``unfamiliar``; what is not possible goes to ``missing``."""
    task, seed, settings = evaluation.task, evaluation.recipe.seed, evaluation.settings
    found: dict[str, Any] = {}
    foreign = foreign_of(settings, task, evaluation.out, seed, real.rows)
    if foreign:
        found["foreign"] = foreign_figures(evaluation.answers("real", "foreign", foreign))
    if task.abstains:
        found["refused"] = refused(real, seed=seed)
    try:
        evaluation.require_confidences()
        some = real.subset(sample_of(real.rows, INTERVAL_ROWS, seed))
        found["risk_coverage"] = errors_by_confidence(some, scores.get("calibration") or {}, seed)
        asked = [real.rows[one] for one in sample_of(real.rows, FAMILIAR_ROWS, seed)]
        of_real, of_foreign = evaluation.unfamiliar(asked), evaluation.unfamiliar(foreign)
        known = evaluation.familiarity
        found["unfamiliar"] = familiarity_scores(known, asked, of_real, foreign, of_foreign, seed)
    except (EvaluationError, ImageError) as error:
        missing["unfamiliar"] = str(error)
    return found
