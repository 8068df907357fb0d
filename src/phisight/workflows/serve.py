"""A model behind an address: ``phisight serve``.

name -> model, processor, task file -> the task's answers as a language -> server -> requests until a signal
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from phisight.core.errors import DataError, EvaluationError
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.export.subject import data_of_run, subject_of
from phisight.extraction.extractor import LocalEngine
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.serve.app import Server
from phisight.serve.explain import NearestImages
from phisight.serve.listen import listen
from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel
from phisight.workflows.extract import answer_limits, load_extractor, task_file_of
from phisight.workflows.predict import grammar_of


def serve(
    name: str | Path,
    settings: ServeSettings,
    *,
    data: str | Path | None = None,
    dtype: str = "auto",
    served_name: str | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until SIGTERM or SIGINT.

    Args:
        name: Run folder, folder of an export or of adapters, or hub name.
        settings: Address, keys, caps.
        data: Data set folder whose task a model without a task file is asked.
        dtype: Type of the weights in memory; ``auto`` is the one that was scored.
        served_name: What clients call the model; None means the folder's name.
        announce: Called with the address once the server listens.
    """
    log_as_lines()
    leave_a_core()
    served = served_model(name, data=data, dtype=dtype, served_name=served_name)
    nearest = nearest_images(name, data, settings)
    listen(make_server(served, settings, examples=drawn_examples(), nearest=nearest), announce=announce)


def make_server(
    served: ServedModel,
    settings: ServeSettings,
    *,
    examples: Sequence[bytes] = (),
    nearest: NearestImages | None = None,
) -> Server:
    """The application; prompt and answer together fit into the model's positions."""
    most = max(settings.max_new_tokens, served.max_new_tokens)
    room = max(1, served.most_positions - most)
    caps = replace(settings.caps, max_prompt_tokens=min(settings.caps.max_prompt_tokens, room))
    return Server(served, replace(settings, caps=caps, max_new_tokens=most), examples=examples, nearest=nearest)


def nearest_images(name: str | Path, data: str | Path | None, settings: ServeSettings) -> NearestImages | None:
    """Training images for the page: those of ``data``, or on a server for this machine alone those of the run."""
    subject = subject_of(name)
    if data is not None:
        return NearestImages(DatasetFolder.open(data))
    if not settings.local_only or subject.run is None or subject.recipe is None:
        return None
    try:
        return NearestImages(DatasetFolder.open(data_of_run(subject.run, subject.recipe)))
    except DataError as error:
        logging.getLogger("phisight.serve").info(json.dumps({"event": "no nearest images", "reason": str(error)}))
        return None


def drawn_examples(count: int = 6) -> list[bytes]:
    """Drawn products of different categories, as JPEG files."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "examples"
        make(5 * count, drawn, seed=7, settings=preset("demo"), workers=1, overwrite=True)
        data = DatasetFolder.open(drawn)
        for row in data.rows():
            kind = str(row[data.task.of_kind("category")[0]])
            if kind in found:
                continue
            image = load_image(data.image_path(row))
            image.thumbnail((336, 336))
            file = io.BytesIO()
            image.save(file, "JPEG", quality=88)
            found[kind] = file.getvalue()
            if len(found) == count:
                break
    return list(found.values())


def served_model(
    name: str | Path, *, data: str | Path | None = None, dtype: str = "auto", served_name: str | None = None
) -> ServedModel:
    """Load a model with its task, and the language of the task's answers.

    Where the values of a category are not known, a category is any text in that language.
    """
    extractor = load_extractor(name, data=data, dtype=dtype)
    engine = extractor.engine
    assert isinstance(engine, LocalEngine)
    known = Path(data) if data is not None else None
    subject = subject_of(name)
    task = extractor.task
    try:
        limits = answer_limits(subject, task_file_of(subject, known), known)
    except EvaluationError:
        limits, task = AnswerLimits({}, {}), _without_categories(task)
    grammar = engine.grammar or grammar_of(engine.model, engine.processor, task, limits, engine.max_new_tokens)
    return ServedModel(
        served_name or Path(name).resolve().name if Path(name).exists() else served_name or str(name),
        engine.model,
        engine.processor,
        extractor.reader,
        engine.max_new_tokens,
        grammar,
        engine.grammar is not None,
        engine.numbers,
        limits.categories,
    )


def leave_a_core() -> None:
    """On a CPU the model computes on all cores but one, which decodes images and speaks HTTP meanwhile.

    OMP_NUM_THREADS says otherwise.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def log_as_lines() -> None:
    """One JSON object a request on standard error."""
    logger = logging.getLogger("phisight.serve")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _without_categories(task: Task) -> Task:
    """The task with any text for a category."""
    fields = {
        name: field.model_copy(update={"of": "text"} if field.kind == "list" else {"kind": "text"})
        if field.rules.needs_values(field)
        else copy.copy(field)
        for name, field in task.fields.items()
    }
    return task.model_copy(update={"fields": fields})
