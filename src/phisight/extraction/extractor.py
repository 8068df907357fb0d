"""A loaded model that reads typed fields off images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from phisight.core.errors import ImageError, SettingsError
from phisight.core.kinds import Known
from phisight.core.task import Task
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.lane_processes import answer_in_forks, may_fork
from phisight.extraction.url_images import FetchedImage, StoredBytes, is_url
from phisight.generate.completions import Completion
from phisight.generate.constrained import AnswerGrammar
from phisight.generate.lanes import lanes_for, run_lanes
from phisight.generate.number_decoding import NumberWriter
from phisight.generate.requests import ImageSource, Request, SlowSource, unusable
from phisight.generate.scheduler import Scheduler

AnyImage = str | Path | bytes | Image.Image
"""A path, an address (http, https), the bytes of an image file, or a decoded image."""
TAKEN = "take a path, an address, the bytes of an image file or a PIL image (of an array, PIL.Image.fromarray)"
"""What to say to who hands over something else."""


class Engine(Protocol):
    """What answers requests: this process's model, or a server."""

    def run(
        self, requests: Iterable[tuple[int, Request]], reader: AnswerReader, *, at_once: int, workers: int
    ) -> Iterator[tuple[int, Answer]]:
        """Number of each request with its answer, in any order; an image that cannot be used is an answer with
        ``error``.
        """


@dataclass(frozen=True)
class LocalEngine:
    """The model in this process, with continuous batching."""

    model: Any
    processor: Any
    max_new_tokens: int
    grammar: AnswerGrammar | None = None
    numbers: NumberWriter | None = None
    forks: bool = False
    """Whether this process may fork."""

    def run(
        self, requests: Iterable[tuple[int, Request]], reader: AnswerReader, *, at_once: int, workers: int
    ) -> Iterator[tuple[int, Answer]]:
        """See ``Engine``; on a CPU a small model answers ``at_once`` requests on each of torch's threads.

        Images that are fetched are asked for from one process, whose rules count what a host sees.
        """
        lanes, coming = lanes_for(self.model, at_once), iter(requests)
        first = list(islice(coming, 1))
        coming = chain(first, coming)
        fetched = any(isinstance(image, SlowSource) for _, request in first for image in request.images)
        if lanes == 1 or fetched or not (first and self.forks and may_fork()):
            yield from self._answers(coming, reader, lanes, at_once, workers)
            return

        def lane(asked: Iterable[tuple[int, Request]]) -> Iterator[tuple[int, Answer]]:
            return self._answers(asked, reader, 1, at_once, max(1, workers // lanes))

        for index, answer in answer_in_forks(lane, coming, forks=lanes, ahead=4 * at_once):
            answer.task = None if answer.error else reader.task
            yield index, answer

    def _answers(
        self, requests: Iterable[tuple[int, Request]], reader: AnswerReader, lanes: int, at_once: int, workers: int
    ) -> Iterator[tuple[int, Answer]]:
        """Answers of so many lanes in this process."""

        def scheduler() -> Scheduler:
            return Scheduler(
                self.model,
                self.processor,
                max_sequences=at_once,
                max_new_tokens=self.max_new_tokens,
                grammar=self.grammar,
                numbers=self.numbers,
                pooled=reader.familiarity is not None,
                workers=max(1, workers // lanes),
            )

        for one in run_lanes(scheduler, requests, lanes):
            if isinstance(one, Completion):
                yield one.index, reader.read(one)
            else:
                index, error = one
                yield index, Answer(error=f"image: {error}")


class Extractor:
    """A model with its task: ``phisight.load`` makes it.

    Attributes:
        name: What it was loaded from.
        variant: What else its answers depend on: a quantization, a server; empty for the model as it is.
        engine: What answers.
        reader: Reads fields off answers.
        task: Prompt, answer template and typed fields.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        reader: AnswerReader,
        variant: str = "",
        known: Mapping[str, Known] | None = None,
    ) -> None:
        self.name, self.variant = name, variant
        self.engine, self.reader = engine, reader
        self._known = known

    @property
    def task(self) -> Task:
        """Prompt, answer template and typed fields."""
        return self.reader.task

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the fields as ``Answer.json`` gives them."""
        return self.task.answer_schema(self._known)

    def extract(self, *images: AnyImage) -> Answer:
        """The fields of one image, or of several that show one product.

        An answer that is not in the task's form comes back with ``error`` and without fields.

        Raises:
            ImageError: An image that is not there or cannot be read.
        """
        if not images:
            raise ImageError(f"extract needs an image: {TAKEN}")
        ((_, answer),) = self.answers([(0, [source_of(image) for image in images])], batch_size=1, workers=1)
        if answer.error and answer.error.startswith("image: "):
            raise ImageError(answer.error.removeprefix("image: "))
        return answer

    def extract_many(
        self, images: Iterable[AnyImage | Sequence[AnyImage]], *, batch_size: int = 16, workers: int = 2
    ) -> Iterator[Answer]:
        """The fields of each image, in order; an error is an answer with ``error`` set, never an exception.

        A small model on a CPU answers on every core, each for itself; torch has one thread until the last answer.

        Args:
            images: Any iterable, read only as far as it is needed; a list or tuple in it shows one product.
            batch_size: Answers in the making at once.
            workers: Threads that read and decode images beside the model.
        """
        if isinstance(images, AnyImage):
            raise SettingsError("extract_many takes images, not one image: put it into a list, or call extract")
        groups = ((index, [source_of(one) for one in _group(image)]) for index, image in enumerate(images))
        for _, answer in in_order(self.answers(groups, batch_size=batch_size, workers=workers)):
            yield answer

    def answers(
        self, images: Iterable[tuple[int, Sequence[ImageSource]]], *, batch_size: int, workers: int, forks: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        """Numbered images to numbered answers, in the order in which they end; ``forks`` if this process may fork."""
        requests = ((index, Request(self.task.prompt, group)) for index, group in images)
        engine = replace(self.engine, forks=forks) if isinstance(self.engine, LocalEngine) else self.engine
        yield from engine.run(requests, self.reader, at_once=batch_size, workers=workers)


def in_order(answers: Iterable[tuple[int, Answer]]) -> Iterator[tuple[int, Answer]]:
    """Answers numbered from 0 in the order of their numbers; those that ended early wait."""
    early: dict[int, Answer] = {}
    following = 0
    for index, answer in answers:
        early[index] = answer
        while following in early:
            yield following, early.pop(following)
            following += 1


def _group(image: AnyImage | Sequence[AnyImage]) -> Sequence[Any]:
    """The images of one product; what can be none stands for itself and fails when its turn comes."""
    return image if isinstance(image, list | tuple) and image else [image]


def travelling(source: ImageSource) -> ImageSource:
    """A source that another machine can read: of a file its bytes. One that fails here fails there."""
    if not isinstance(source, Path) or not source.is_file():
        return source
    try:
        if source.stat().st_size > ImageLimits().max_bytes:
            return source
        return StoredBytes(source.read_bytes(), str(source))
    except OSError:
        return source


def source_of(image: Any, limits: FetchLimits | None = None) -> ImageSource:
    """What the model is shown, read when its turn comes; addresses under ``limits``, ImageError then for no image."""
    if isinstance(image, bytes):
        return StoredBytes(image, f"an image of {len(image)} bytes")
    if isinstance(image, Image.Image):
        return image if image.width and image.height else unusable(f"an image of {image.width} x {image.height} pixels")
    if not isinstance(image, str | os.PathLike):
        empty = "empty " if isinstance(image, list | tuple) and not image else ""
        return unusable(f"{empty}{type(image).__name__} is no image: {TAKEN}")
    if is_url(str(image)):
        return FetchedImage(str(image), limits or FetchLimits())
    return Path(image)
