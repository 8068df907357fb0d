"""Requests to tensors in worker threads beside the model, in the order in which they come.

request -> images decoded -> processor -> tensors of one row; at most ``ahead`` of them wait for the model
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from phisight.core.errors import ImageError, PhisightError, UnreadableImageError
from phisight.generate.decoding.sampling import Decoding
from phisight.generate.requests import ImageSource, Request, SlowSource, load_rgb
from phisight.model.processing import Phi3VProcessor

MOST_PROMPTS = 256
"""Prompts whose text and ids are kept."""


@dataclass
class Prepared:
    """A request ready for the model."""

    index: int
    request: Request
    inputs: dict[str, Tensor] = field(default_factory=dict)
    """Tensors of the processor for this row alone: input_ids and attention_mask int64[1, T], images."""
    error: ImageError | None = None
    """Why its image cannot be used; then there are no tensors."""
    decoding: Decoding | None = None
    """How its answer is decoded; None means as the scheduler does."""

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return int(self.inputs["input_ids"].shape[1])


class Preparer:
    """Turns requests into tensors; every thread has a processor of its own."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._own = threading.local()
        self._lock = threading.Lock()
        self._texts: dict[tuple[str, int], str] = {}
        self._prompts: dict[tuple[str, tuple[int, ...]], dict[str, Tensor]] = {}

    def __call__(self, index: int, request: Request) -> Prepared:
        """Decode and encode one request; an image that cannot be used becomes ``error``."""
        processor = self._processor_of_thread()
        try:
            images = [loaded(image) for image in request.images]
            found = self._encoded(processor, self._text(processor, request), images)
        except ImageError as error:
            return Prepared(index, request, error=error)
        return Prepared(index, request, found)

    def _encoded(self, processor: Any, text: str, images: list[Image.Image]) -> dict[str, Tensor]:
        """What the processor makes of text and images; ids of the same text about images of the same size once."""
        if not images or not isinstance(processor, Phi3VProcessor):
            return dict(processor(text=[text], images=[images] if images else None, return_tensors="pt"))
        vision = dict(processor.image_processor(images, return_tensors="pt"))
        key = text, tuple(vision.pop("num_img_tokens"))
        prompt = self._prompts.get(key)
        if prompt is None:
            whole = processor(text=[text], images=[images], return_tensors="pt")
            prompt = {name: whole[name] for name in ("input_ids", "attention_mask")}
            _forget_many(self._prompts)
            self._prompts[key] = prompt
        return {**prompt, **vision}

    def _processor_of_thread(self) -> Any:
        if not hasattr(self._own, "processor"):
            with self._lock:
                self._own.processor = copy.deepcopy(self._processor)
        return self._own.processor

    def _text(self, processor: Any, request: Request) -> str:
        """The chat text; the same prompt about as many images has the same."""
        key = request.prompt, len(request.images)
        text = self._texts.get(key)
        if text is None:
            _forget_many(self._texts)
            text = str(processor.apply_chat_template(request.messages(), add_generation_prompt=True, tokenize=False))
            self._texts[key] = text
        return text


def _forget_many(known: dict[Any, Any]) -> None:
    """Empty what has grown: a server may be asked anything."""
    if len(known) >= MOST_PROMPTS:
        known.clear()


def loaded(source: ImageSource) -> Image.Image:
    """``load_rgb``, except that whatever else goes wrong with one image is an error of that image, too."""
    try:
        return load_rgb(source)
    except (PhisightError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImageError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def prepared(
    preparer: Preparer, requests: Iterable[tuple[int, Request]], *, workers: int, ahead: int
) -> Generator[Prepared, None, None]:
    """Prepared requests in their order, made by ``workers`` threads at most ``ahead`` of the caller."""
    waiting: deque[Future[Prepared]] = deque()
    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="prepare")
    try:
        for index, request in requests:
            for image in request.images:
                if isinstance(image, SlowSource):
                    image.start()
            waiting.append(executor.submit(preparer, index, request))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def left_padded(rows: list[dict[str, Tensor]], pad: int) -> dict[str, Tensor]:
    """Tensors of several rows together: ids and masks int64[B, T] padded on the left, images one after the other."""
    width = max(row["input_ids"].shape[1] for row in rows)
    together: dict[str, Tensor] = {}
    for name, fill in (("input_ids", pad), ("attention_mask", 0)):
        together[name] = torch.cat(
            [torch.nn.functional.pad(row[name], (width - row[name].shape[1], 0), value=fill) for row in rows]
        )
    for name in dict.fromkeys(name for row in rows for name in row):  # some rows may lack images
        if name not in together:
            together[name] = torch.cat([row[name] for row in rows if name in row])
    return together
