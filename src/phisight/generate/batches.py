"""Requests in batches of like length, prepared one batch ahead of the model.

requests --window--> sorted by length --cut--> batches --thread: decode, encode, left pad--> tensors
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL import Image

from phisight.core.errors import ImageError
from phisight.generate.requests import Request, load_rgb, shape_of

Failure = tuple[int, ImageError]
"""Index of a request, and why its image cannot be used."""

WINDOW = 64
"""Batches within which requests are sorted: long enough for even batches, short enough for flat memory."""


@dataclass
class Batch:
    """Requests that go through the model together."""

    indexes: list[int]
    requests: list[Request]
    inputs: Any
    """Tensors of the processor, left padded: input_ids and attention_mask int64[B, T], images as the model has them;
    none where no request of the batch can be used."""
    failures: list[Failure]


@dataclass
class _Loaded:
    index: int
    request: Request
    text: str
    images: list[Image.Image]


class Encoder:
    """Turns requests into tensors; safe to use from two threads."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._lock = threading.Lock()

    def text(self, request: Request) -> str:
        """The chat text up to where the answer begins."""
        with self._lock:
            return str(
                self._processor.apply_chat_template(request.messages(), add_generation_prompt=True, tokenize=False)
            )

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Any:
        """Left-padded tensors of texts and their images."""
        given = [list(row) for row in images] if any(images) else None
        with self._lock:
            tokenizer = self._processor.tokenizer
            side, tokenizer.padding_side = tokenizer.padding_side, "left"
            try:
                return self._processor(text=list(texts), images=given, padding=True, return_tensors="pt")
            finally:
                tokenizer.padding_side = side

    def answers(self, ids: Any) -> list[str]:
        """Texts of generated ids int64[B, T], special tokens left out."""
        with self._lock:
            return [str(text).strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]

    def tokens(self, text: str) -> list[int]:
        """Ids of a text without special tokens added (the tags of images count as text)."""
        with self._lock:
            return list(self._processor.tokenizer(text, add_special_tokens=False).input_ids)


def batches(
    encoder: Encoder,
    requests: Iterable[Request],
    batch_size: int,
    suffixes: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Batches in the order in which they are best worked off; the next one is made while the caller uses this one.

    ``suffixes`` (one a request) are put behind the prompts: the answers to be scored.
    """
    numbered = enumerate(requests)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as executor:
        ahead: Future[Batch] | None = None
        for group in _groups(numbered, batch_size):
            coming = executor.submit(_prepare, encoder, group, suffixes)
            if ahead is not None:
                yield ahead.result()
            ahead = coming
        if ahead is not None:
            yield ahead.result()


def by_length(requests: Iterable[Request], batch_size: int) -> Iterator[tuple[int, Request]]:
    """Numbered requests, longest first within a window: those of one length go through the model without padding."""
    for group in _groups(enumerate(requests), batch_size):
        yield from group


def split(encoder: Encoder, batch: Batch, suffixes: Sequence[str] | None = None) -> Iterator[Batch]:
    """The two halves of a batch that did not fit into memory."""
    middle = len(batch.requests) // 2
    for part in (slice(None, middle), slice(middle, None)):
        pairs = list(zip(batch.indexes[part], batch.requests[part], strict=True))
        yield _prepare(encoder, pairs, suffixes)


def _groups(numbered: Iterator[tuple[int, Request]], batch_size: int) -> Iterator[list[tuple[int, Request]]]:
    while window := list(islice(numbered, WINDOW * batch_size)):
        window.sort(key=lambda pair: _length(pair[1]), reverse=True)
        for start in range(0, len(window), batch_size):
            yield window[start : start + batch_size]


def _length(request: Request) -> tuple[int, int, list[float]]:
    """A sort key that puts requests of one length side by side; an image's tokens follow from its shape."""
    return len(request.images), len(request.prompt), [shape_of(image) for image in request.images]


def _prepare(encoder: Encoder, group: Sequence[tuple[int, Request]], suffixes: Sequence[str] | None) -> Batch:
    usable: list[_Loaded] = []
    failures: list[Failure] = []
    for index, request in group:
        text = encoder.text(request) + (suffixes[index] if suffixes is not None else "")
        try:
            usable.append(_Loaded(index, request, text, [load_rgb(image) for image in request.images]))
        except ImageError as error:
            failures.append((index, error))
    try:
        inputs = _encode(encoder, usable)
    except ImageError:  # one of them does not fit the model; find out which
        rejected = {one.index: reason for one in usable if (reason := _rejection(encoder, one))}
        failures += rejected.items()
        usable = [one for one in usable if one.index not in rejected]
        inputs = _encode(encoder, usable)
    return Batch([one.index for one in usable], [one.request for one in usable], inputs, failures)


def _encode(encoder: Encoder, loaded: Sequence[_Loaded]) -> Any:
    return encoder.tensors([one.text for one in loaded], [one.images for one in loaded]) if loaded else None


def _rejection(encoder: Encoder, one: _Loaded) -> ImageError | None:
    try:
        _encode(encoder, [one])
    except ImageError as error:
        return error
    return None
