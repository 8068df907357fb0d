"""Run folder to predictions and scores; pictures to answers.

Answers are always generated from the picture and the prompt. Nothing here ever shows the model the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.dataset_folder import CARD, DatasetCard
from phisight.core.environment import environment
from phisight.core.errors import CheckpointError, EvaluationError, RunError
from phisight.core.recipe import recipe_from, write_recipe
from phisight.core.settings import EvaluateSettings, Recipe, TrackSettings
from phisight.core.task import FieldValue, Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import (
    EvalRow,
    EvalRows,
    Images,
    Predictions,
    against_baselines,
    certificate,
    evaluate,
    figures,
    fit_baselines,
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
from phisight.generate import Predictor, Request
from phisight.model.number_head import head_of
from phisight.track import CompositeTracker
from phisight.workflows.base_model import BEFORE_ROWS, about, base_model, before_and_after
from phisight.workflows.fit_intervals import intervals_around
from phisight.workflows.load import ADAPTER, is_run, load_model, load_run, read_checkpoint, read_run
from phisight.workflows.predictors import predictor_of
from phisight.workflows.tower_features import tower_features
from phisight.workflows.tracking import evaluation_tracker, send_evaluation

FEATURE_ROWS = 5000
"""Most training rows that the baselines on picture features learn from."""

Progress = Callable[[str, int, int], None]
"""Called with the kind of pictures (or ``before``), answers given and answers wanted."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote about a picture, and the fields read from it."""

    text: str
    values: dict[str, FieldValue] | None
    reason: str | None


@dataclass(frozen=True)
class _Asked:
    """A model that is evaluated: what it is asked about, and where the results go."""

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

    def answers(self, kind: Images, name: str | None = None, rows: Sequence[EvalRow] | None = None) -> Predictions:
        """Answers with one kind of pictures, kept in a journal as they come."""
        name = name or kind
        return evaluate(
            self.predictor,
            self.found.rows if rows is None else rows,
            self.task,
            images=kind,
            seed=self.recipe.seed,
            answer_log=self.out / f"predictions.{name}.jsonl",
            identity=self.identity,
            progress=lambda done, every: self.progress(name, done, every),
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
    before_rows: int = BEFORE_ROWS,
    progress: Progress = lambda _kind, _done, _all: None,
) -> dict[str, Any]:
    """Answer a split with its own and with other pictures; writes predictions and ``scores.json`` into the run.

    At most ``before_rows`` of the rows (a fixed sample) are answered by the model before training, too; 0: none.
    The trackers of ``track`` (none: those of the run) get the figures, in the run they know already.
    """
    recipe = read_checkpoint(run)
    tracker = evaluation_tracker(track or recipe.track)
    chosen, folder = settings or recipe.evaluate, data or recipe.data.path
    task = recipe.task or _task_of_run(run, recipe)
    pictures = recipe.data.images
    found = read_rows(folder, task, chosen.split, limit=chosen.rows, seed=recipe.seed, images=pictures)
    places = sample_of(found.rows, before_rows, recipe.seed)
    asked = _Asked(None, None, recipe, chosen, task, folder, found, run, "", progress, tracker)
    before, base, missing = _before(asked, places) if places else (None, None, {})
    model, processor, _ = load_run(run, base)
    asked = replace(asked, model=model, processor=processor, identity=_identity(run / run_folder.BEST))
    real = asked.answers("real")
    extra: dict[str, Any] = {}
    if before is not None:
        extra["before"] = before_and_after(before, real.subset(places), about(recipe), seed=recipe.seed)
    return _scored(asked, real, extra, missing)


def _before(asked: _Asked, places: Sequence[int]) -> tuple[Predictions | None, Any, dict[str, str]]:
    """Answers of the model before training, that model if adapters go onto it, and why there are none.

    A model that was trained whole takes the place of its base in memory.
    """
    recipe = asked.recipe
    try:
        base, processor = base_model(recipe, asked.out / run_folder.BEST)
    except CheckpointError as error:
        return None, None, {"before": str(error)}
    plain = recipe.train.model_copy(update={"numbers": "text"})  # nothing was learned yet that gives them otherwise
    identity = f"{recipe.model.name} {recipe.seed}"
    text = recipe.model_copy(update={"train": plain})
    asked = replace(asked, model=base, processor=processor, recipe=text, identity=identity)
    before = asked.answers("real", "before", [asked.found.rows[place] for place in places])
    return before, base if (asked.out / run_folder.BEST / ADAPTER).is_file() else None, {}


def evaluate_model(recipe: Recipe, *, progress: Progress = lambda _kind, _done, _all: None) -> dict[str, Any]:
    """The same for a model that is no run (``model.name``: a folder in the official layout, or a hub name).

    It is asked in the task of the data set ``data.path``; ``out`` becomes a folder that the report reads, and the same
    call again goes on where it was.
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
    recipe = _answering_as(recipe, model)
    asked = _Asked(model, processor, recipe, settings, task, opened.path, found, out, identity, progress, tracker)
    return _scored(asked, asked.answers("real"), {}, {})


def _scored(
    asked: _Asked, real: Predictions, extra: Mapping[str, Any], not_checked: Mapping[str, str]
) -> dict[str, Any]:
    """Every other kind of pictures, then all figures; what could not be had is named under ``not_checked``."""
    seed, task, out = asked.recipe.seed, asked.task, asked.out
    modes, refused = possible_modes(real.rows, task, seed)
    every = {kind: real if kind == "real" else asked.answers(kind) for kind in modes}
    missing, intervals = {**not_checked, **refused}, None
    try:
        validation = partial(asked.answers, "real", "validation")
        intervals = intervals_around(real, asked.settings, asked.folder, task, asked.recipe, validation)
    except EvaluationError as error:
        missing["prediction_intervals"] = str(error)
    write_predictions(out, list(every.values()), seed=seed, intervals=intervals)

    scores: dict[str, Any] = scores_of(every, left_out=asked.found.left_out, seed=seed)
    seen = {kind: likelihoods(asked.predictor, answers, seed=seed) for kind, answers in every.items()}
    scores["grounding"] = certificate(every, seen, seed=seed) if "shuffled" in every else untested(refused["shuffled"])
    if seen["real"]:
        scores["teacher_forced"] = figures(teacher_forced(real, seen["real"]))
    try:
        scores["baselines"] = _baselines(asked, real)
    except EvaluationError as error:
        missing["baselines"] = str(error)
    if intervals:
        scores["prediction_intervals"] = intervals.scores(real)
    scores |= {**extra, "not_checked": missing}
    scores["verdict"] = verdict_of(scores)
    run_folder.write_json(out / run_folder.SCORES, scores)
    if asked.tracker:
        send_evaluation(asked.tracker, out, asked.recipe, asked.settings.split, real, scores)
    return scores


def _baselines(asked: _Asked, real: Predictions) -> dict[str, dict[str, Any]]:
    """Cheap answers to the same rows: constant, category median, and two on the tower's features."""
    seed, task = asked.recipe.seed, asked.task
    pictures = asked.recipe.data.images
    train = read_rows(asked.folder, task, "train", limit=FEATURE_ROWS, seed=seed, images=pictures).rows
    features = [
        tower_features(asked.model, asked.processor, [row.image for row in rows]) for rows in (train, real.rows)
    ]
    fitted = fit_baselines(task, [row.truth for row in train], [row.truth for row in real.rows], *features)
    found: dict[str, dict[str, Any]] = against_baselines(real, fitted, seed=seed)
    return found


def predict(
    run: Path, images: Sequence[Path], *, together: bool = False, data: Path | None = None
) -> Iterator[tuple[Path, Answer]]:
    """Answers about pictures, in their order; ``together`` they show one product and get one answer.

    In the place of a run there may be a model (folder or hub name); it is asked in the task of ``data``.
    """
    model, processor, recipe, task = _model_and_task(run, data)
    predictor = predictor_of(model, processor, recipe.evaluate, recipe.train.numbers, task, [recipe.data.path])
    asked = [images] if together else [[image] for image in images]
    texts = dict(predictor.answers([Request(task.prompt, pictures) for pictures in asked]))
    for index, (image, *_) in enumerate(asked):
        parsed = task.parse(texts[index])
        yield image, Answer(texts[index], parsed.values, parsed.reason)


def _model_and_task(run: Path, data: Path | None) -> tuple[Any, Any, Recipe, Task]:
    """Model, processor, recipe and task of a run, or of a model that is no run with the task of a data set folder."""
    if data is None or is_run(run):
        model, processor, recipe = load_run(run)
        return model, processor, recipe, recipe.task or _task_of_run(run, recipe)
    recipe = recipe_from({"model": {"name": str(run)}, "data": {"path": str(data)}})
    model, processor = load_model(str(run), recipe.model)
    return model, processor, _answering_as(recipe, model), DatasetFolder.open(data).task


def _answering_as(recipe: Recipe, model: Any) -> Recipe:
    """The recipe with the way of giving numbers that a model brings."""
    way = recipe.train.model_copy(update={"numbers": "head" if head_of(model) else "text"})
    return recipe.model_copy(update={"train": way})


def _task_of_run(run: Path, recipe: Recipe) -> Task:
    """The task a run was trained for: that of its data set, whose card lies in the run folder."""
    folder = run if (run / CARD).is_file() else recipe.data.path
    return DatasetCard.read(folder).task


def _identity(best: Path) -> str:
    """Changes when the checkpoint does, so that answers of an earlier one are not taken over."""
    files = sorted(best.glob("*.safetensors"))
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
