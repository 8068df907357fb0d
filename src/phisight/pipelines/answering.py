"""Run folder to predictions and scores; pictures to answers.

Answers are always generated from the picture and the prompt. Nothing here ever shows the model the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phisight.core import rundir
from phisight.core.settings import EvaluateSettings, Numbers, Recipe
from phisight.core.task import FieldValue, Task
from phisight.data.folder import DatasetFolder
from phisight.evaluate import (
    MODES,
    EvalRows,
    Images,
    Predictions,
    against_baselines,
    certificate,
    evaluate,
    figures,
    fit_baselines,
    likelihoods,
    read_rows,
    scores_of,
    teacher_forced,
    verdict_of,
    write_predictions,
)
from phisight.generate import Predictor, Request, number_writer
from phisight.pipelines.features import tower_features
from phisight.pipelines.loading import load_run
from phisight.pipelines.prediction_intervals import intervals_around

FEATURE_ROWS = 5000
"""Most training rows that the baselines on picture features learn from."""

Progress = Callable[[str, int, int], None]
"""Called with the kind of pictures, answers given and answers wanted."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote about a picture, and the fields read from it."""

    text: str
    values: dict[str, FieldValue] | None
    reason: str | None


def evaluate_run(
    run: Path,
    *,
    data: Path | None = None,
    settings: EvaluateSettings | None = None,
    progress: Progress = lambda _kind, _done, _all: None,
) -> dict[str, Any]:
    """Answer a split with its own and with other pictures; writes predictions and ``scores.json`` into the run."""
    model, processor, recipe = load_run(run)
    chosen = settings or recipe.evaluate
    folder = data or recipe.data.path
    task = recipe.task or DatasetFolder.open(folder).task
    found = read_rows(folder, task, chosen.split, limit=chosen.rows, seed=recipe.seed)
    predictor = predictor_of(model, processor, chosen, recipe.train.numbers, task)
    every = {kind: _answers(predictor, found, task, kind, recipe, run, progress) for kind in MODES}
    intervals = intervals_around(
        every["real"],
        chosen,
        folder,
        task,
        recipe.seed,
        lambda rows: _answers(predictor, EvalRows(list(rows)), task, "real", recipe, run, progress, "validation"),
    )
    write_predictions(run, list(every.values()), seed=recipe.seed, intervals=intervals)

    scores: dict[str, Any] = scores_of(every, left_out=found.left_out, seed=recipe.seed)
    seen = {kind: likelihoods(predictor, answers, seed=recipe.seed) for kind, answers in every.items()}
    scores["grounding"] = certificate(every, seen, seed=recipe.seed)
    scores["teacher_forced"] = figures(teacher_forced(every["real"], seen["real"]))
    scores["baselines"] = _baselines(model, processor, folder, task, every["real"], recipe.seed)
    if intervals:
        scores["prediction_intervals"] = intervals.scores(every["real"])
    scores["verdict"] = verdict_of(scores)
    rundir.write_json(run / rundir.SCORES, scores)
    return scores


def _baselines(
    model: Any, processor: Any, folder: Path, task: Task, real: Predictions, seed: int
) -> dict[str, dict[str, Any]]:
    """Cheap answers to the same rows: constant, category median, and two on the tower's features."""
    train = read_rows(folder, task, "train", limit=FEATURE_ROWS, seed=seed).rows
    if not train:
        return {}
    features = [tower_features(model, processor, [row.image for row in rows]) for rows in (train, real.rows)]
    fitted = fit_baselines(task, [row.truth for row in train], [row.truth for row in real.rows], *features)
    found: dict[str, dict[str, Any]] = against_baselines(real, fitted, seed=seed)
    return found


def predict(run: Path, images: Sequence[Path]) -> Iterator[tuple[Path, Answer]]:
    """Answers about pictures, in the order of the pictures."""
    model, processor, recipe = load_run(run)
    task = recipe.task or DatasetFolder.open(recipe.data.path).task
    predictor = predictor_of(model, processor, recipe.evaluate, recipe.train.numbers, task)
    texts = dict(predictor.answers([Request(task.prompt, [image]) for image in images]))
    for index, image in enumerate(images):
        parsed = task.parse(texts[index])
        yield image, Answer(texts[index], parsed.values, parsed.reason)


def predictor_of(model: Any, processor: Any, settings: EvaluateSettings, numbers: Numbers, task: Task) -> Predictor:
    """Answers as the settings say; ``numbers`` is how the model was trained to give its numbers."""
    return Predictor(
        model,
        processor,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        numbers=number_writer(numbers, task, processor.tokenizer),
    )


def _answers(
    predictor: Predictor,
    found: EvalRows,
    task: Task,
    kind: Images,
    recipe: Recipe,
    run: Path,
    progress: Progress,
    name: str | None = None,
) -> Predictions:
    journal = run / f"predictions.{name or kind}.jsonl"
    return evaluate(
        predictor,
        found.rows,
        task,
        images=kind,
        seed=recipe.seed,
        journal=journal,
        identity=_identity(run / rundir.BEST),
        progress=lambda done, every: progress(name or kind, done, every),
    )


def _identity(best: Path) -> str:
    """Changes when the checkpoint does, so that answers of an earlier one are not taken over."""
    files = sorted(best.glob("*.safetensors"))
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
