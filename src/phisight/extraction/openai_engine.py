"""``--engine openai``: answers from a server that speaks OpenAI's chat completions (phisight's own, vLLM, others).

    request -> image bytes as a data set would store them -> POST URL/chat/completions -> text, log-probabilities

At most ``at_once`` requests are on their way. What is transient (429, 5xx, resets, silence) is tried again after a
pause that doubles; a server's Retry-After pauses all requests. A request that fails for good is one row with an error;
a server that answers nobody ends the prediction, which continues when the command is given again.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.core.errors import EngineError, ImageError, UnreadableImageError
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.rejection import Rejection
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.chat_client import ChatClient, FailedRequestError
from phisight.generate.confidence import field_confidences
from phisight.generate.requests import ImageSource, Request, cut_at, load_rgb

_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_END = object()


class OpenAIEngine:
    """Answers of a server.

    Args:
        client: Reaches the server.
        max_new_tokens: Longest answer in tokens.
    """

    def __init__(self, client: ChatClient, max_new_tokens: int) -> None:
        self._client, self._most = client, max_new_tokens

    def run(
        self, requests: Iterable[tuple[int, Request]], reader: AnswerReader, *, at_once: int, workers: int
    ) -> Iterator[tuple[int, Answer]]:
        """See ``Engine``; ``at_once`` requests are on their way, ``workers`` images are read at once.

        Raises:
            EngineError: The server cannot be reached, or rejects every request.
        """
        work = _Work(self._client, requests, reader, self._most, at_once, workers)
        with self._client:
            yield from work.results()


class _Work:
    """One run: threads that ask, and a queue of what they found."""

    def __init__(
        self,
        client: ChatClient,
        requests: Iterable[tuple[int, Request]],
        reader: AnswerReader,
        most: int,
        at_once: int,
        workers: int,
    ) -> None:
        self._client, self._reader, self._most, self._at_once = client, reader, most, at_once
        self._requests = iter(requests)
        self._taking, self._reading = threading.Lock(), threading.Semaphore(workers)
        self._found: queue.Queue[Any] = queue.Queue(maxsize=2 * at_once)
        self._stopped = threading.Event()
        self._failed_in_a_row = 0

    def results(self) -> Iterator[tuple[int, Answer]]:
        """Answers as they come; the first error that concerns all requests is raised."""
        threads = [threading.Thread(target=self._ask, name="ask", daemon=True) for _ in range(self._at_once)]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                one = self._found.get()
                if one is _END:
                    running -= 1
                elif isinstance(one, BaseException):
                    raise one
                else:
                    yield one
        finally:
            self._stopped.set()
            self._client.stop()
            while any(thread.is_alive() for thread in threads):
                with contextlib.suppress(queue.Empty):
                    self._found.get(timeout=0.05)  # whoever waits for room gets it

    def _ask(self) -> None:
        try:
            while not self._stopped.is_set():
                with self._taking:
                    index, request = next(self._requests, (-1, None))
                if request is None:
                    break
                self._found.put((index, self._answer(request)))
        except BaseException as error:
            self._found.put(error)
        finally:
            self._found.put(_END)

    def _answer(self, request: Request) -> Answer:
        try:
            with self._reading:
                images = [data_url(image) for image in request.images]
        except ImageError as error:
            return Answer(error=f"image: {error}")
        try:
            found = self._client.ask(_body(request.prompt, images, self._most))
        except FailedRequestError as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= 2 * self._at_once + 8:
                raise EngineError(
                    f"{self._client.url} failed {self._failed_in_a_row} requests in a row, the last one with: {error}; "
                    "see to the server and give the same command again"
                ) from error
            return Answer(error=f"server: {error}")
        self._failed_in_a_row = 0
        return answer_of(found, self._reader)


def data_url(source: ImageSource) -> str:
    """An image as a ``data:`` address: the file that a data set would store of it, whose pixels are those of training.

    Raises:
        ImageError: It cannot be used.
    """
    if isinstance(source, Path):
        try:
            stored, data = prepare_image(source.read_bytes(), ImageLimits())
        except Rejection as rejection:
            raise UnreadableImageError(f"{source}: {rejection.reason}") from rejection
        except OSError as error:
            raise UnreadableImageError(f"{source}: cannot be read: {error.strerror}") from error
        return f"data:{_MIME[stored.format.upper()]};base64,{base64.b64encode(data).decode()}"
    file = io.BytesIO()
    load_rgb(source).save(file, "PNG", compress_level=1)
    return f"data:{_MIME['PNG']};base64,{base64.b64encode(file.getvalue()).decode()}"


def _body(prompt: str, images: Sequence[str], most: int) -> dict[str, Any]:
    """A greedy chat completion: the images, then the prompt."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}]
    return {"messages": messages, "max_tokens": most, "temperature": 0, "logprobs": True}


def answer_of(found: Mapping[str, Any], reader: AnswerReader) -> Answer:
    """The fields of a chat completion, none where it was cut; confidences where it brings log-probabilities."""
    try:
        choice = found["choices"][0]
        text = str(choice["message"]["content"] or "").strip()
    except (KeyError, IndexError, TypeError):
        return Answer(error=f"server: no answer in {json.dumps(found)[:120]}")
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if choice.get("finish_reason") == "length":
        count = (found.get("usage") or {}).get("completion_tokens") or len(tokens)
        return Answer(text=text, error=f"not read: {cut_at(count) if count else 'cut at max_new_tokens'}")
    try:
        pieces = [bytes(one["bytes"] or ()) if "bytes" in one else str(one["token"]).encode() for one in tokens]
        probabilities = [float(one["logprob"]) for one in tokens]
        # The number that a head decides is not the one that the tokens spell.
        spelled = b"".join(pieces).decode(errors="replace").strip()
        found_in = (field_confidences(reader.task, one, pieces, probabilities) for one in (text, spelled) if tokens)
        raw = next(filter(None, found_in), None)
    except (KeyError, TypeError, ValueError):
        raw = None
    return reader.answer(text, raw or {})
