"""Model card and task file beside the weights of a run: after training, and again when it has been evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import CARD, DatasetCard
from phisight.core.errors import CheckpointError, DatasetError
from phisight.core.read_files import read_object
from phisight.core.run_folder import BEST, SCORES, is_outdated, write_text_atomically
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.export.model_card import CARD_FILE, CardFacts, license_of, model_card, sections_of
from phisight.export.origins import ORIGINS
from phisight.export.subject import TINY, Subject, base_of_run, data_of_run, origins_of, subject_of, task_of_run
from phisight.export.task_file import TASK_FILE, FieldCalibration, NumberInterval, TaskFile
from phisight.model.checkpoint import file_of

TINY_LICENSE = "mit"
"""The tiny model is made by phisight itself."""
PUBLISHED_LICENSES = {"microsoft/phi-3": "mit"}
"""Licenses of published models by the beginning of their names, for bases whose folder states none."""


def describe_run(run: Path) -> None:
    """Write card, task file and origins into ``RUN/best``."""
    subject = subject_of(run)
    assert subject.recipe is not None
    best = run / BEST
    task_file = task_file_for(subject)
    task_file.write(best)
    write_text_atomically(best / CARD_FILE, model_card(facts_of(subject, task_file.task)))
    if not (best / ORIGINS).is_file():  # of a run that was moved since, they say where it was made
        base = base_of_run(run, subject.recipe) if subject.adapters else None
        origins_of(subject.recipe, best, base).write(best)


def task_file_for(subject: Subject, task: Task | None = None) -> TaskFile:
    """The task file of a model: its own where it has one, of a run what recipe, data set and scores say."""
    if subject.recipe is None or subject.run is None:
        own = subject.file(TASK_FILE)
        return (TaskFile.read(own.parent) if own else None) or TaskFile(task=task or Task())
    recipe, scores = subject.recipe, read_scores(subject.run)
    task = task_of_run(subject.run, recipe)
    aliases: Mapping[str, str] = scores.get("aliases") or {}
    limits = _limits(subject.run, recipe, task)
    return TaskFile(
        task=task,
        numbers=recipe.train.numbers,
        images=recipe.data.images,
        max_new_tokens=recipe.evaluate.max_new_tokens,
        constrained=recipe.evaluate.constrained,
        categories=limits.categories,
        ranges=limits.ranges,
        decimals=limits.decimals,
        intervals={
            name: _interval(one)
            for name in task.of_kind("number")
            if (one := (scores.get("prediction_intervals") or {}).get(aliases.get(name, name)))
        },
        calibration={
            name: FieldCalibration.model_validate(one["curve"])
            for name in task.names
            if (one := (scores.get("calibration") or {}).get(aliases.get(name, name)))
        },
    )


def _limits(run: Path, recipe: Recipe, task: Task) -> AnswerLimits:
    """What training answers held: as the run recorded it, else of the data set, else as the task file in ``best``
    has it.
    """
    if (recorded := AnswerLimits.recorded(run)) is not None:
        return recorded
    try:
        return AnswerLimits.of_training(task, [data_of_run(run, recipe)]).without_decimals()
    except DatasetError:
        pass
    try:
        noted = TaskFile.read(run / BEST)
    except CheckpointError:
        noted = None
    return noted.limits if noted else AnswerLimits()


def facts_of(subject: Subject, task: Task, *, dtype: str = "", compared: str = "", remote_code: str = "") -> CardFacts:
    """What the card of a model tells; ``task`` is the one of its task file."""
    recipe = subject.recipe
    base = recipe.model.name if recipe else subject.name
    data: Mapping[str, Any] = {}
    if subject.run is not None and (subject.run / CARD).is_file():
        try:
            data = DatasetCard.read(subject.run).model_dump(mode="json")
        except DatasetError:
            data = {}
    name, card = subject.run or subject.folder, None if recipe else subject.file(CARD_FILE)
    earlier = sections_of(card.read_text(encoding="utf-8", errors="replace")) if card else {}
    return CardFacts(
        title=name.resolve().name if name is not None else subject.name,
        recipe=recipe,
        task=task,
        base="the tiny model that phisight makes" if base == TINY else _shown(base),
        model_license=license_of_base(base, subject),
        dtype=dtype or (recipe.model.dtype.replace("auto", "the type of the base") if recipe else "its own type"),
        adapters=subject.adapters is not None and not dtype,
        data=data,
        scores=read_scores(subject.run) if subject.run else {},
        compared=compared,
        earlier=earlier,
        remote_code=remote_code,
    )


def license_of_base(base: str, subject: Subject) -> str | None:
    """The license of the model that training started from, as far as somebody states it."""
    if base == TINY:
        return TINY_LICENSE
    known = next((license for name, license in PUBLISHED_LICENSES.items() if base.lower().startswith(name)), None)
    folder = Path(subject.weights)
    if known is None and not folder.is_dir():
        card = file_of(subject.weights, CARD_FILE, **subject.hub)
        folder = card.parent if card else folder
    return license_of(folder) or known


def read_scores(run: Path) -> dict[str, Any]:
    """``scores.json`` of a run; empty where its best checkpoint was not evaluated, or the file cannot be read."""
    try:
        found = read_object(run / SCORES)
    except (OSError, ValueError):
        return {}
    return {} if is_outdated(found, run) else found


def _interval(one: Mapping[str, Any]) -> NumberInterval:
    return NumberInterval(
        level=one["level"], logarithmic=one["logarithmic"], radius=one["radius"], rows=one["fitted_on"]
    )


def _shown(base: str) -> str:
    """A base's name for the card: of a folder its last part, no path of the machine."""
    return Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base
