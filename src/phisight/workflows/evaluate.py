"""Run folder -> predictions and scores.

rows -> base model's answers -> answers to the real and to other images -> intervals -> predictions.parquet
     -> metrics, certificate, baselines, verdict -> scores.json -> trackers

Answers are always generated from the image and the prompt. Nothing here ever shows the model the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.dataset_folder import Split
from phisight.core.environment import environment
from phisight.core.errors import CheckpointError, EvaluationError, RunError
from phisight.core.recipe import write_recipe
from phisight.core.settings import EvaluateSettings, Recipe, TrackSettings
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import (
    EvalRow,
    EvalRows,
    Images,
    PredictionIntervals,
    Predictions,
    against_baselines,
    alias,
    certificate,
    compare_predictions,
    deciding,
    evaluate,
    figures,
    fit_baselines,
    fit_prediction_intervals,
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
from phisight.generate import Predictor
from phisight.track import CompositeTracker
from phisight.workflows.load import (
    ADAPTER,
    base_model,
    base_model_label,
    load_model,
    load_run,
    read_run,
    read_trained_run,
    task_of_run,
)
from phisight.workflows.predict import predictor_of, tower_features, with_numbers_of
from phisight.workflows.tracking import evaluation_tracker, send_evaluation

BASE_MODEL_ROWS = 100
"""Rows that the base model answers by default; the comparison is over these."""
BASELINE_ROWS = 5000
"""Most training rows that the baselines on image features learn from."""
INTERVAL_ROWS = 1000
"""Most validation rows that are answered for the intervals; the level then holds to about a percent."""

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
    out: Path
    identity: str
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
            answer_log=self.out / f"predictions.{name}.jsonl",
            identity=self.identity,
            medians=self.found.medians,
            progress=lambda done, total: self.progress(name, done, total),
        )

    @cached_property
    def predictor(self) -> Predictor:
        numbers, data = self.recipe.train.numbers, [self.recipe.data.path, self.folder]
        return predictor_of(self.model, self.processor, self.settings, numbers, self.task, data)


def evaluate_run(
    run: Path,
    *,
    data: Path | None = None,
    settings: EvaluateSettings | None = None,
    track: TrackSettings | None = None,
    base_model_rows: int = BASE_MODEL_ROWS,
    progress: Progress = lambda _condition, _done, _total: None,
) -> dict[str, Any]:
    """Answer a split with its own and with other images; writes predictions and ``scores.json`` into the run.

    At most ``base_model_rows`` of the rows (a fixed sample) are answered by the model before fine-tuning, too; 0: none.
    The trackers of ``track`` (None means those of the run) get the figures, in the run they know already.
    """
    recipe = read_trained_run(run)
    tracker = evaluation_tracker(track or recipe.track)
    chosen, folder, task = settings or recipe.evaluate, data or recipe.data.path, task_of_run(run, recipe)
    found = read_rows(folder, task, chosen.split, limit=chosen.rows, seed=recipe.seed, images=recipe.data.images)
    started = _Evaluation(None, None, recipe, chosen, task, folder, found, run, "", progress, tracker)

    sample = sample_of(found.rows, base_model_rows, recipe.seed)
    of_base, base, missing = _base_model_answers(started, sample) if sample else (None, None, {})
    model, processor, _ = load_run(run, base)
    evaluation = replace(started, model=model, processor=processor, identity=_identity(run / run_folder.BEST))
    real = evaluation.answers("real")
    extra: dict[str, Any] = {}
    if of_base is not None:
        extra["base_model"] = _against_base(of_base, real.subset(sample), base_model_label(recipe), recipe.seed)
    return _scores(evaluation, real, extra, missing)


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
    found = read_rows(opened.path, task, settings.split, limit=settings.rows, seed=recipe.seed)
    model, processor = load_model(name, recipe.model)
    run_folder.write_text_atomically(config, write_recipe(recipe))
    run_folder.write_json(out / run_folder.ENVIRONMENT, environment())
    opened.card.write(out)
    identity = _identity(Path(name)) or name
    recipe = with_numbers_of(model, recipe)
    evaluation = _Evaluation(
        model, processor, recipe, settings, task, opened.path, found, out, identity, progress, tracker
    )
    return _scores(evaluation, evaluation.answers("real"), {}, {})


def _base_model_answers(
    evaluation: _Evaluation, sample: Sequence[int]
) -> tuple[Predictions | None, Any, dict[str, str]]:
    """Answers of the base model to some rows, that model if adapters are to be merged into it, or why there are none.

    A model that was trained whole replaces its base in memory.
    """
    recipe, best = evaluation.recipe, evaluation.out / run_folder.BEST
    try:
        base, processor = base_model(recipe, best)
    except CheckpointError as error:
        return None, None, {"base_model": str(error)}
    plain = recipe.train.model_copy(update={"numbers": "text"})  # no other method is learned yet
    text, identity = recipe.model_copy(update={"train": plain}), f"{recipe.model.name} {recipe.seed}"
    untuned = replace(evaluation, model=base, processor=processor, recipe=text, identity=identity)
    answers = untuned.answers("real", "base_model", [evaluation.found.rows[index] for index in sample])
    return answers, base if (best / ADAPTER).is_file() else None, {}


def _against_base(base: Predictions, tuned: Predictions, label: str, seed: int) -> dict[str, Any]:
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


def _scores(
    evaluation: _Evaluation, real: Predictions, extra: Mapping[str, Any], not_checked: Mapping[str, str]
) -> dict[str, Any]:
    """Answers under every other image condition, then all figures; what is not possible is under ``not_checked``."""
    seed, task, out = evaluation.recipe.seed, evaluation.task, evaluation.out
    modes, impossible = possible_modes(real.rows, task, seed)
    every = {images: real if images == "real" else evaluation.answers(images) for images in modes}
    missing, intervals = {**not_checked, **impossible}, None
    try:
        intervals = intervals_around(
            real,
            evaluation.settings,
            lambda: evaluation.answers("real", "validation", _other_rows(evaluation, "validation", INTERVAL_ROWS)),
        )
    except EvaluationError as error:
        missing["prediction_intervals"] = str(error)
    write_predictions(out, list(every.values()), seed=seed, intervals=intervals)

    scores: dict[str, Any] = scores_of(every, left_out=evaluation.found.left_out, seed=seed)
    likely = {images: likelihoods(evaluation.predictor, answers, seed=seed) for images, answers in every.items()}
    one_grid = len(set(grids_of(real.rows))) == 1
    certified = partial(certificate, every, likely, one_grid=one_grid, seed=seed)
    scores["grounding"] = certified() if "shuffled" in every else untested(impossible["shuffled"])
    if likely["real"]:
        scores["teacher_forced"] = figures(teacher_forced(real, likely["real"]))
    try:
        scores["baselines"] = _baselines(evaluation, real)
    except EvaluationError as error:
        missing["baselines"] = str(error)
    if intervals:
        scores["prediction_intervals"] = intervals.scores(real)
    scores |= {**extra, "not_checked": missing}
    scores["verdict"] = verdict_of(scores)
    run_folder.write_json(out / run_folder.SCORES, scores)
    if evaluation.tracker:
        send_evaluation(evaluation.tracker, out, evaluation.recipe, evaluation.settings.split, real, scores)
    return scores


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


def _baselines(evaluation: _Evaluation, real: Predictions) -> dict[str, dict[str, Any]]:
    """Cheap answers to the same rows: constant, category median, and two on the tower's features."""
    train = _other_rows(evaluation, "train", BASELINE_ROWS)
    features = [
        tower_features(evaluation.model, evaluation.processor, [row.image for row in rows])
        for rows in (train, real.rows)
    ]
    truths = [row.truth for row in train], [row.truth for row in real.rows]
    fitted = fit_baselines(evaluation.task, truths[0], truths[1], *features)
    found: dict[str, dict[str, Any]] = against_baselines(real, fitted, seed=evaluation.recipe.seed)
    return found


def _other_rows(evaluation: _Evaluation, split: Split, limit: int) -> list[EvalRow]:
    recipe = evaluation.recipe
    found = read_rows(
        evaluation.folder, evaluation.task, split, limit=limit, seed=recipe.seed, images=recipe.data.images
    )
    return found.rows


def _identity(best: Path) -> str:
    """Changes when the checkpoint does, so that answers of an earlier one are not taken over."""
    files = sorted(best.glob("*.safetensors"))
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
