"""Model and source -> typed fields: ``phisight.load`` and ``phisight predict``.

what the name is -> model, processor, task file -> engine -> answers, one by one or into a file
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from phisight.core.errors import SettingsError, SourceError
from phisight.core.run_folder import UNFAMILIAR
from phisight.core.settings import Dtype, ModelSettings
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.fetch.limits import FetchLimits
from phisight.evaluate.statistics.split_conformal import SplitConformal
from phisight.export.describe import task_file_for
from phisight.export.model_folder import read_config
from phisight.export.origins import fingerprint_of
from phisight.export.subject import Subject, data_of_run, require_task, subject_of
from phisight.export.task_file import TASK_FILE, NumberInterval, TaskFile
from phisight.extraction.answer import Answer, AnswerReader, interpolation
from phisight.extraction.chat_client import ChatClient
from phisight.extraction.extractor import Extractor, LocalEngine, in_order
from phisight.extraction.familiarity import Familiarity
from phisight.extraction.image_list import ImageList, readable
from phisight.extraction.openai_engine import OpenAIEngine
from phisight.extraction.ray_predict import RayEngine
from phisight.extraction.results import Predicted, ResultFile, files_of, require_place, require_suffix
from phisight.generate import ImageSource, number_writer
from phisight.model.number_head import head_of
from phisight.train.trainable.quantize import Quantization, quantizer
from phisight.workflows.load import load_model, to_predict
from phisight.workflows.predict import fitting_server, grammar_of, limits_of_data, limits_of_run

Progress = Callable[[int, int], None]
"""Called with images answered and images in all (0 where nobody knows)."""


@dataclass(frozen=True)
class EngineOptions:
    """Who answers a bulk prediction."""

    engine: Literal["local", "ray", "openai"] = "local"
    """This process, a cluster of Ray's, or a server with OpenAI's chat completions."""
    quantize: Quantization | None = None
    """Bits of the decoder's linear layers."""
    dtype: Dtype = "auto"
    """Type of the weights in memory; ``auto`` is the one that was scored."""
    url: str | None = None
    """Address of the server."""
    served_model: str | None = None
    """Name of the model there; None means the first one it lists."""
    ray_workers: int | None = None
    """Models on the cluster; None means one for each GPU, or else for each node."""


def load_extractor(
    name: str | Path,
    *,
    data: str | Path | None = None,
    dtype: str = "auto",
    constrained: bool | None = None,
    quantize: Quantization | None = None,
) -> Extractor:
    """A run, an export, adapters or a hub name as something that reads fields off images.

    Args:
        name: Run folder, folder of an export or of adapters, or hub name.
        data: Data set folder whose task a model without a task file of its own is asked.
        dtype: Type of the weights in memory; ``auto`` is the one that was scored.
        constrained: Whether answers are held to the template; None means as the run was evaluated.
        quantize: Bits of the decoder's linear layers; None leaves them as they are.

    Raises:
        RunError: Nothing says what the model is asked, or a part of the run is missing.
        CheckpointError: No model of that name.
        SettingsError: A dtype that is none of these.
    """
    if dtype not in get_args(Dtype):
        raise SettingsError(f"dtype {dtype!r} is none of {', '.join(get_args(Dtype))}")
    subject = subject_of(name)
    file = task_file_of(subject, Path(data) if data is not None else None)
    settings = subject.recipe.model if subject.recipe else ModelSettings()
    if dtype != "auto":
        settings = ModelSettings.model_validate({**settings.model_dump(), "dtype": dtype})
    model, processor = load_model(name, settings, quantizer(quantize, "--quantize") if quantize else None)
    to_predict(model)
    numbers = file.numbers if file.numbers != "text" or head_of(model) is None else "head"
    held = file.constrained if constrained is None else constrained
    limits = answer_limits(subject, file, Path(data) if data is not None else None) if held else None
    engine = LocalEngine(
        model,
        processor,
        file.max_new_tokens,
        grammar_of(model, processor, file.task, limits, file.max_new_tokens) if limits else None,
        number_writer(numbers, file.task, processor.tokenizer),
    )
    return Extractor(str(name), engine, reader_of(file, subject), _variant(dtype, quantize), file.limits.known())


def _variant(dtype: str, quantize: Quantization | None) -> str:
    """What tells answers of a model apart from those of the model as it was scored; empty where nothing does."""
    return " ".join(([] if dtype == "auto" else [dtype]) + ([quantize] if quantize else []))


def open_extractor(
    name: str, options: EngineOptions, *, data: Path | None = None, notify: Callable[[str], None] = lambda _: None
) -> Extractor:
    """What answers a bulk prediction, as the options say; a server and a cluster load the model themselves.

    ``notify`` is called with lines that a person should read.
    """
    if options.engine != "openai" and (options.url or options.served_model):
        raise SettingsError("--url and --served-model name a server; add --engine openai")
    if options.engine != "ray" and options.ray_workers:
        raise SettingsError("--ray-workers counts the models of a cluster; add --engine ray")
    if options.engine == "local":
        return load_extractor(name, data=data, dtype=options.dtype, quantize=options.quantize)
    subject = subject_of(name)
    file = task_file_of(subject, data)
    if options.engine == "ray":
        place = str(Path(name).resolve()) if Path(name).exists() else name
        data = data and data.resolve()
        load = partial(load_extractor, place, data=data, dtype=options.dtype, quantize=options.quantize)
        variant = _variant(options.dtype, options.quantize)
        return Extractor(name, RayEngine(load, options.ray_workers), reader_of(file, subject), variant)
    if options.quantize or options.dtype != "auto":
        asked = "--quantize" if options.quantize else "--dtype"
        raise SettingsError(f"{asked} is the server's to do with --engine openai; leave it out")
    if options.url is None:
        raise SettingsError("--engine openai needs the address of the server; add --url http://HOST:PORT/v1")
    client = ChatClient(options.url, options.served_model, key=os.environ.get("OPENAI_API_KEY"))
    fitting = fitting_server(file, client, notify)
    if file.task.abstains and subject.file(UNFAMILIAR) is not None:
        unlike = "no image is refused for being unlike the training images: chat completions do not say how unfamiliar "
        notify(unlike + "one is; ask the server's /v1/extract, or leave --engine openai out")
    variant = f"{client.url} {options.served_model or ''}".strip() + (" as it is" if fitting is not file else "")
    return Extractor(name, OpenAIEngine(client, file.max_new_tokens), reader_of(fitting), variant)


def reader_of(file: TaskFile, subject: Subject | None = None) -> AnswerReader:
    """What reads answers, with the intervals and calibrations that a task file brings.

    With a ``subject`` it says how unfamiliar images are, where the model brings what that takes.
    """
    return AnswerReader(
        file.task,
        {name: _bounds(interval) for name, interval in file.intervals.items()},
        {name: interpolation(curve.raw, curve.calibrated) for name, curve in file.calibration.items()},
        Familiarity.read(subject.file(UNFAMILIAR)) if subject else None,
    )


def predict_images(
    extractor: Extractor,
    sources: Sequence[str],
    *,
    column: str | None = None,
    root: Path | None = None,
    together: bool = False,
    batch_size: int = 16,
    workers: int = 2,
    fetch: FetchLimits | None = None,
) -> Iterator[tuple[str, Answer]]:
    """Name and answer of each image, in the order of the source; ``together`` all of them show one product."""
    images = ImageList(sources, column, fetch, root=root)
    names: dict[int, str] = {}

    def asked() -> Iterator[tuple[int, list[ImageSource]]]:
        groups = [list(images)] if together else ([one] for one in images)
        for index, group in enumerate(groups):
            names[index] = group[0].name
            yield index, [one.image for one in group]

    for index, answer in in_order(extractor.answers(asked(), batch_size=batch_size, workers=workers)):
        yield names.pop(index), answer


def predict_into(
    extractor: Extractor,
    sources: Sequence[str],
    out: Path,
    *,
    column: str | None = None,
    root: Path | None = None,
    min_confidence: float | None = None,
    overwrite: bool = False,
    batch_size: int = 32,
    workers: int = 2,
    fetch: FetchLimits | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Predicted:
    """Answer every image of a source into a file; the same call again continues where a killed one stopped.

    Args:
        extractor: What answers; a small model in forks (``lane_processes``), so no other thread may compute.
        sources: Folders, globs, tables, addresses, image files, or ``-`` for a list on standard input.
        out: .csv, .jsonl or .parquet.
        column: Column of a table that holds the images; None means the one that the source or its name tells.
        root: Folder that paths of a table start from; None means the table's own.
        min_confidence: Rows below it, and rows with an error, go into a review file beside ``out``.
        overwrite: Whether a file of that name is replaced.
        batch_size: Answers in the making at once.
        workers: Threads that fetch and decode images beside the model.
        fetch: Rules for addresses.
        progress: Gets counts.
    """
    require_suffix(out)
    require_place(out, sources)
    images = ImageList(sources, column, fetch, root=root, without=files_of(out))
    identity = _identity(extractor, images, column)
    names: dict[int, str] = {}
    total, errors, counted = len(images), 0, 0  # counting may read the whole table
    with ResultFile(
        out,
        extractor.task,
        identity,
        min_confidence=min_confidence,
        overwrite=overwrite,
        unfamiliar=extractor.reader.familiarity is not None,
    ) as results:

        def unanswered() -> Iterator[tuple[int, list[ImageSource]]]:
            nonlocal counted
            for index, one in enumerate(images):
                counted = index + 1
                if not results.has(index, one.name):
                    names[index] = one.name
                    yield index, [one.image]
            if not counted:
                raise SourceError(f"{' '.join(sources)} holds no image")

        progress(len(results), total)
        for index, answer in extractor.answers(unanswered(), batch_size=batch_size, workers=workers, forks=True):
            results.add(index, names.pop(index), answer)
            errors += not answer.ok
            progress(len(results), total)
        results.require_rows(counted)
        rows, review = results.finish()
    return Predicted(out, rows, results.review if min_confidence is not None else None, review, errors)


def task_file_of(subject: Subject, data: Path | None) -> TaskFile:
    """What the model is asked: as its run or task file says, else the task of a data set."""
    task: Task | None = DatasetFolder.open(data).task if data is not None else None
    if subject.run is not None:
        return task_file_for(subject)
    read_config(subject.weights, **subject.hub)  # what cannot be loaded is not asked anything
    found = subject.file(TASK_FILE)
    own = TaskFile.read(found.parent) if found else None
    if own is not None and task is None:
        return own
    return TaskFile(task=require_task(subject, task))


def answer_limits(subject: Subject, file: TaskFile, data: Path | None) -> AnswerLimits:
    """What constrained answers may hold: as the task file says, else the training rows of the run or of ``data``."""
    if file.limits_suffice:
        return file.limits
    named = [data] if data is not None else []
    if subject.run is not None and subject.recipe:
        return limits_of_run(subject.run, file.task, [data_of_run(subject.run, subject.recipe), *named])
    return limits_of_data(file.task, named)


def _bounds(interval: NumberInterval) -> Callable[[float], tuple[float, float]]:
    import numpy as np

    fitted = SplitConformal(interval.level, interval.logarithmic, interval.radius, interval.rows, interval.rows)

    def at(number: float) -> tuple[float, float]:
        low, high = fitted.bounds(np.array([number]))
        return float(low[0]), float(high[0])

    return at


def _identity(extractor: Extractor, images: ImageList, column: str | None) -> dict[str, str]:
    """What is predicted, so that answers to something else are not taken over."""
    subject = subject_of(extractor.name)
    folders = dict.fromkeys(folder for folder in (subject.folder, Path(subject.weights)) if folder and folder.is_dir())
    known = extractor.reader.familiarity
    return {
        **({} if known is None else {"unfamiliar above": f"{known.threshold:.6g}"}),
        "model": extractor.name,
        "engine": extractor.variant,
        "weights": " ".join(fingerprint_of(folder)[:16] for folder in folders),
        "task": hashlib.sha256(extractor.task.model_dump_json().encode()).hexdigest()[:16],
        "source": " ".join(readable(name) for name in images.sources),
        "image column": column or "",
    }
