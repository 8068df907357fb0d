"""Image files and turns to tensors, in worker processes: a decoder that crashes takes no answer with it.

header -> caps (pixels, tokens) -> decoded -> cropped -> ids with placeholders -> control tokens counted
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from phisight.core.environment import changed_environment
from phisight.core.errors import ImageError, ModelError
from phisight.data.images.decode import ImageLimits, decode_bytes, image_size
from phisight.data.images.phash import fingerprint
from phisight.generate.decoding.vocabulary import special_ids
from phisight.serve.engine.job import Turns
from phisight.serve.protocol.api_error import ApiError

_T = TypeVar("_T")
MOST_SIDE = 1344
"""Pixels of the longer side of an image that is looked at outside of an answer: what 16 crops show of it."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Caps:
    """What a request may hold; checked before an image is decoded."""

    max_pixels: int = 50_000_000
    max_image_bytes: int = 50_000_000
    max_prompt_tokens: int = 8192


@dataclass(frozen=True)
class Encoded:
    """A request as arrays."""

    arrays: dict[str, NDArray[Any]]
    """input_ids and attention_mask int64[1, T]; pixel_values and image_sizes where there are images."""
    decode_s: float
    """Seconds for the images."""

    def tensors(self) -> dict[str, Tensor]:
        """The arrays as the processor would return them."""
        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


class ImageWorkers:
    """A pool of processes, made anew when one of them dies.

    Args:
        processor: The model's processor; every process has a copy.
        caps: What a request may hold.
        processes: How many; 0 means a thread of this process.
    """

    def __init__(self, processor: Any, caps: Caps, processes: int) -> None:
        self._processor, self._caps, self._processes = processor, caps, processes
        self._pool: Executor | None = None
        self._one_alone = asyncio.Lock()

    @property
    def width(self) -> int:
        """Requests encoded at once."""
        return max(1, self._processes)

    async def warm(self) -> None:
        """Start the processes; PhisightError where the processor does not work in one."""
        await self.encode([{"role": "user", "content": "x"}], [])

    async def encode(self, turns: Turns, images: Sequence[bytes]) -> Encoded:
        """Tensors of a conversation; ApiError 400 for what cannot be used."""
        return await self._run(_encode, turns, list(images))

    async def look(self, image: bytes) -> Image.Image:
        """The pixels, as many as the model can see; ApiError 400 for what is no image."""
        return await self._run(_look, image)

    async def fingerprint(self, image: bytes) -> tuple[str, str]:
        """Perceptual hash and colors; ApiError 400 for what is no image."""
        return await self._run(_fingerprint, image)

    async def _run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Work in a process of the pool; where that dies, in one of its own: the culprit may be another request."""
        pool = self._opened()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            pool.shutdown(wait=False, cancel_futures=True)
        return await self._run_alone(work, *arguments)

    async def _run_alone(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Work in a new process, one at a time; ApiError 400 where that dies, too."""
        async with self._one_alone:
            pool = self._new_pool(1)
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
            except BrokenProcessPool:
                message = "an image of this request ended the process that decoded it"
                raise ApiError(400, message, code="invalid_image") from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _opened(self) -> Executor:
        if self._pool is None:
            self._pool = self._new_pool(self._processes)
        return self._pool

    def _new_pool(self, processes: int) -> Executor:
        arguments = (self._processor, self._caps)
        if not processes:
            return ThreadPoolExecutor(1, "encode", initializer=_begin, initargs=arguments)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with changed_environment(_ONE_THREAD):
            pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_process, initargs=arguments)
            pool.submit(os.getpid).result()
        return pool


_STATE: dict[str, Any] = {}


def _begin(processor: Any, caps: Caps) -> None:
    _STATE["encoder"] = TurnEncoder(processor, caps)


def _begin_process(processor: Any, caps: Caps) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself, once answers are out
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _begin(processor, caps)


def _end_with_parent() -> None:
    """A server that was killed leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(turns: Turns, images: list[bytes]) -> Encoded:
    encoder: TurnEncoder = _STATE["encoder"]
    return encoder(turns, images)


def _look(image: bytes) -> Image.Image:
    encoder: TurnEncoder = _STATE["encoder"]
    return encoder.look(image)


def _fingerprint(image: bytes) -> tuple[str, str]:
    encoder: TurnEncoder = _STATE["encoder"]
    return fingerprint(encoder.look(image))


class TurnEncoder:
    """Turns and images to arrays, within caps."""

    def __init__(self, processor: Any, caps: Caps) -> None:
        self._processor, self._caps = processor, caps
        self._limits = ImageLimits(max_bytes=caps.max_image_bytes, max_pixels=caps.max_pixels)
        self._special = special_ids(processor.tokenizer)

    def __call__(self, turns: Turns, images: Sequence[bytes]) -> Encoded:
        """See ``ImageWorkers.encode``."""
        try:
            return self._encoded(turns, images)
        except ImageError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_image") from None
        except ModelError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_value") from None

    def look(self, image: bytes) -> Image.Image:
        """See ``ImageWorkers.look``."""
        try:
            found = decode_bytes(image, "the image", self._limits)
        except ImageError as error:
            raise ApiError(400, str(error), param="images[0]", code="invalid_image") from None
        found.thumbnail((MOST_SIDE, MOST_SIDE))
        return found

    def _encoded(self, turns: Turns, images: Sequence[bytes]) -> Encoded:
        begin = time.perf_counter()
        limits = self._limits
        names = [f"image {number}" for number in range(1, len(images) + 1)]
        sizes = [image_size(data, name, limits) for data, name in zip(images, names, strict=True)]
        counts = [self._processor.calc_num_image_tokens_from_image_size(*size) for size in sizes]
        text = self._text(turns)
        length = sum(counts) + len(self._processor.tokenizer(text, add_special_tokens=False).input_ids)
        if length > self._caps.max_prompt_tokens:
            raise ApiError(
                400,
                f"the prompt has about {length} tokens ({sum(counts)} of {len(images)} images), more than the "
                f"{self._caps.max_prompt_tokens} allowed; send fewer or smaller images, or less text",
                param="messages",
                code="context_length_exceeded",
            )
        decoded = [decode_bytes(data, name, limits) for data, name in zip(images, names, strict=True)]
        found = self._processor(text=[text], images=[decoded] if decoded else None, return_tensors="np")
        arrays = {name: np.asarray(value) for name, value in dict(found).items()}
        self._check_control(arrays["input_ids"][0].tolist(), turns)
        return Encoded(arrays, time.perf_counter() - begin if images else 0.0)

    def _text(self, turns: Turns) -> str:
        return str(self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def _check_control(self, ids: list[int], turns: Turns) -> None:
        """[Contract] Control tokens of a prompt are those of the chat format: text of a message makes none."""
        blank = self._text([{**turn, "content": _blank(turn["content"])} for turn in turns])
        tags = sum(part["type"] == "image" for turn in turns for part in _parts(turn["content"]))
        plain = [token for token in self._processor.encode(blank, [1] * tags) if token in self._special]
        found = [token for token in ids if token in self._special]
        if _once(found, self._processor.image_token_id) != _once(plain, self._processor.image_token_id):
            raise ApiError(
                400,
                "a text of the messages holds a control token of the chat format",
                param="messages",
                code="control_token",
            )


def _parts(content: object) -> list[dict[str, str]]:
    return content if isinstance(content, list) else []


def _blank(content: object) -> object:
    """The content with harmless text."""
    if isinstance(content, str):
        return "x"
    return [part if part["type"] == "image" else {"type": "text", "text": "x"} for part in _parts(content)]


def _once(ids: list[int], token: int) -> list[int]:
    """Ids with repetitions of one token left out."""
    return [one for place, one in enumerate(ids) if one != token or place == 0 or ids[place - 1] != token]
