"""What an answer rests on: an occlusion map of the image, and the training images that look most like it.

The map asks, for each cell of a grid, how much less probable the answer becomes when the cell is gray. It is computed
a few cells at a time between the steps of other answers, and stops when its client leaves.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from phisight.core.errors import ChangedImageError, ImageError
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.phash import as_arrays, fingerprint
from phisight.generate import ImageSource, Predictor
from phisight.generate import Request as Question
from phisight.serve.delivery import Deadline, EventStream, begun, while_there
from phisight.serve.engine.dispatch import Engine
from phisight.serve.engine.image_workers import ImageWorkers
from phisight.serve.engine.job import Job
from phisight.serve.engine.model_thread import SideWork
from phisight.serve.protocol.api_error import ApiError
from phisight.serve.served_model import ServedModel

_LOG = logging.getLogger("phisight.serve")

CELLS = 6
"""Rows and columns of the map."""
AT_ONCE = 4
"""Cells that go through the model together."""
MOST_MAPS = 2
"""Maps in work; more are asked to come again."""
MOST_ROWS = 5000
"""Training images that are looked through."""
_THUMBNAIL = 160


class Occlusion:
    """The endpoint ``/v1/occlusion``.

    Args:
        served: The model.
        engine: What answers.
        workers: Decode images.
        file_of: Reads the one image of a request.
        seconds: Longest time for a map.
    """

    def __init__(
        self,
        served: ServedModel,
        engine: Engine,
        workers: ImageWorkers,
        file_of: Callable[[Request], Any],
        seconds: float,
    ) -> None:
        self._served, self._engine, self._workers = served, engine, workers
        self._file_of, self._seconds = file_of, seconds
        self._running = 0
        self._predictor: Predictor | None = None

    async def __call__(self, request: Request) -> Response:
        """Answer a request with events: the answer, then cells, then [DONE]."""
        deadline = Deadline(self._seconds)
        file = await while_there(request, self._file_of(request), deadline)
        events = await while_there(request, begun(self._events(file, request.state.client)), deadline)
        return EventStream(events, deadline)

    async def _events(self, file: bytes, client: str) -> AsyncGenerator[Any, None]:
        """Events of a map; it is counted in the same step that looks whether there is room, so that two never pass."""
        if self._running >= MOST_MAPS:
            raise ApiError(429, f"{MOST_MAPS} maps are in work already", code="queue_full", retry_s=10)
        self._running += 1
        work: SideWork | None = None
        try:
            text = await self._answer(file, client)
            image = await self._workers.look(file)
            if self._predictor is None:  # copying a processor takes a while, which no answer is to wait for
                self._predictor = await asyncio.to_thread(predictor_of, self._served)
            yield {"object": "occlusion", "rows": CELLS, "columns": CELLS, "text": text}
            results: asyncio.Queue[Any] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            def deliver(piece: Any) -> None:
                loop.call_soon_threadsafe(results.put_nowait, piece)

            work = SideWork(cells(self._predictor, self._served.task.prompt, image, text), deliver)
            self._engine.beside(work)
            while (piece := await results.get()) is not None:
                if isinstance(piece, ApiError):
                    raise piece
                if isinstance(piece, Exception):
                    raise ApiError(500, f"the map failed ({type(piece).__name__})", code="model_failed")
                yield {"object": "occlusion.cells", "cells": piece}
            yield "[DONE]"
        finally:
            self._running -= 1
            if work is not None:
                work.cancelled = True

    async def _answer(self, file: bytes, client: str) -> str:
        job = Job(client, self._served.question(1), [file], [self._served.decoding(numbers=False)])
        self._engine.submit(job)
        try:
            return (await job.ended()).completion.written
        finally:
            self._engine.cancel(job)


def predictor_of(served: ServedModel) -> Predictor:
    """What asks how probable an answer is, with a processor of its own."""
    return Predictor(served.model, copy.deepcopy(served.processor), batch_size=AT_ONCE)


def cells(predictor: Predictor, prompt: str, image: Image.Image, text: str) -> Iterator[list[dict[str, float]]]:
    """How much each cell matters, a few at a time: natural logarithm of how often less probable the answer is."""
    boxes = [_box(image, number) for number in range(CELLS * CELLS)]
    gray = tuple(round(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0))

    def covered(box: tuple[int, int, int, int]) -> Callable[[], Image.Image]:
        def draw() -> Image.Image:
            copied = image.copy()
            copied.paste(gray, box)
            return copied

        return draw

    images: list[ImageSource] = [image, *(covered(box) for box in boxes)]
    requests = [Question(prompt, [one]) for one in images]
    whole: float | None = None
    held: list[tuple[int, float]] = []
    for index, likelihood in predictor.likelihoods(requests, [text] * len(requests)):
        if index == 0:
            whole = likelihood.log_probability
        else:
            held.append((index - 1, likelihood.log_probability))
        if whole is not None and len(held) >= AT_ONCE:
            yield _drops(held, whole)
            held = []
    if whole is not None and held:
        yield _drops(held, whole)


def _drops(held: list[tuple[int, float]], whole: float) -> list[dict[str, float]]:
    return [
        {"row": number // CELLS, "column": number % CELLS, "drop": round(whole - value, 4)} for number, value in held
    ]


def _box(image: Image.Image, number: int) -> tuple[int, int, int, int]:
    row, column = divmod(number, CELLS)
    xs = [round(image.width * (column + step) / CELLS) for step in (0, 1)]
    ys = [round(image.height * (row + step) / CELLS) for step in (0, 1)]
    return xs[0], ys[0], max(xs[1], xs[0] + 1), max(ys[1], ys[0] + 1)


class NearestImages:
    """Training images by their fingerprints: mean colors of a 4 x 4 grid, and the perceptual hash.

    Those that the table does not hold are computed when the first image is looked for, of MOST_ROWS rows at most.
    """

    def __init__(self, data: DatasetFolder) -> None:
        self._data = data
        split = "train" if "train" in data.split_names else data.split_names[0]
        self._rows = data.rows(split)[:MOST_ROWS]
        self._lock = threading.Lock()
        self._known: tuple[NDArray[Any], NDArray[Any]] | None = None

    def _fingerprints(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """uint64[N] and uint8[N, 48] of the rows; rows whose image cannot be read are left out."""
        with self._lock:
            if self._known is None:
                found: list[tuple[str, str]] = []
                rows: list[dict[str, Any]] = []
                for row in self._rows:
                    if "image_phash" in row and "image_colours" in row:
                        found.append((str(row["image_phash"]), str(row["image_colours"])))
                    else:
                        try:
                            found.append(fingerprint(self._data.load_image(row)))
                        except (ImageError, ChangedImageError):
                            continue
                    rows.append(row)
                if left_out := len(self._rows) - len(rows):
                    _LOG.warning("%d training images cannot be read; they are never among the nearest", left_out)
                self._rows = rows
                self._known = as_arrays([one for one, _ in found], [one for _, one in found])
            return self._known

    def find(self, phash: str, colors: str, count: int = 6) -> list[dict[str, Any]]:
        """The nearest rows with their fields, distance (0 the same, 2 the farthest) and a small image."""
        known_bits, known_grids = self._fingerprints()
        bits, grids = as_arrays([phash], [colors])
        steps = np.abs(known_grids.astype(np.int16) - grids.astype(np.int16)).mean(axis=1) / 255
        distances = steps + np.bitwise_count(known_bits ^ bits[0]) / 64
        found: list[dict[str, Any]] = []
        for place in np.argsort(distances, kind="stable").tolist():
            row = self._rows[place]
            try:
                image = self._data.load_image(row)
            except (ImageError, ChangedImageError):
                continue
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            fields = self._data.task.as_json(self._data.task.values(row))
            found.append({"fields": fields, "distance": round(float(distances[place]), 4), "image": as_data_url(image)})
            if len(found) == count:
                break
        return found


class Nearest:
    """The endpoint ``/v1/nearest``."""

    def __init__(
        self, images: NearestImages, workers: ImageWorkers, file_of: Callable[[Request], Any], seconds: float
    ) -> None:
        self._images, self._workers = images, workers
        self._file_of, self._seconds = file_of, seconds

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        matches = await while_there(request, self._matches(request), Deadline(self._seconds))
        return JSONResponse({"object": "nearest", "matches": matches})

    async def _matches(self, request: Request) -> list[dict[str, Any]]:
        """Fingerprints of the training images, once begun, are finished for the next request, too."""
        phash, colors = await self._workers.fingerprint(await self._file_of(request))
        return await asyncio.to_thread(self._images.find, phash, colors)


def as_data_url(image: Image.Image) -> str:
    """A small image as a JPEG in a data URL."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
