"""The lanes of a bulk prediction as processes: forks of this one, each with a scheduler on a core of its own.

    requests --some at a time over a pipe--> fork: images, model, reader --over a pipe--> answers, in any order

Lanes that are threads share Python's lock, and the steps of a small model are hundreds of short operations that each
wait for it: two threads answer little more than one, two processes twice as much. A fork has the weights of its
parent and loads nothing. Only a program that owns its process may fork: another thread might hold a lock that nobody
gives back in the fork. So ``phisight predict`` does, and ``Extractor.extract_many`` does not.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from phisight.core.errors import EngineError, ImageError, PhisightError
from phisight.data.images.recorded import RecordedImage
from phisight.extraction.answer import Answer
from phisight.extraction.url_images import StoredBytes
from phisight.generate.prepare import loaded
from phisight.generate.requests import ImageSource, Request

CHUNK = 8
"""Requests that are sent together."""
_END_S = 10

Numbered = tuple[int, Request]
Lane = Callable[[Iterable[Numbered]], Iterator[tuple[int, Answer]]]
"""Answers numbered requests, in any order."""


def may_fork() -> bool:
    """Whether this process may have forks that compute: on Linux, itself no daemon."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def answer_in_forks(
    lane: Lane, requests: Iterable[Numbered], *, forks: int, ahead: int
) -> Iterator[tuple[int, Answer]]:
    """Answers of ``forks`` processes that each run ``lane``, as they come.

    Args:
        lane: What a fork does with its requests.
        requests: Read here, only as far as they are needed.
        forks: How many.
        ahead: Requests that each fork has at once; more than its lane reads before its first answer.

    Raises:
        EngineError: A fork ended before its work did.
    """
    coming, left = iter(requests), True
    lanes: list[_Fork] = []
    try:
        for _ in range(forks):
            lanes.append(_Fork(lane, lanes))
        while left or any(one.waiting for one in lanes):
            while left and (least := min(lanes, key=lambda one: one.waiting)).waiting < ahead:
                chunk = list(islice(coming, CHUNK))
                yield from least.give(chunk)
                left = len(chunk) == CHUNK
                if not left:
                    for one in lanes:
                        one.end()
            busy = {one.connection: one for one in lanes if one.waiting}
            for connection in wait(list(busy)) if busy else ():
                yield from busy[connection].take()  # type: ignore[index]
    finally:
        for one in lanes:
            one.close()


class _Fork:
    """The parent's side of one process."""

    def __init__(self, lane: Lane, others: list[_Fork]) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.waiting = 0
        """Requests without an answer."""
        ours = [self.connection, *(one.connection for one in others)]
        self._process = context.Process(target=_run, args=(lane, theirs, ours), name="lane", daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: progress bars have one
            self._process.start()
        theirs.close()

    def give(self, chunk: list[Numbered]) -> Iterator[tuple[int, Answer]]:
        """Send requests; yields answers to those whose image is here and cannot be used."""
        sent: list[Numbered] = []
        for index, request in chunk:
            try:
                sent.append((index, Request(request.prompt, [_sendable(image) for image in request.images])))
            except ImageError as error:
                yield index, Answer(error=f"image: {error}")
        self._send(sent)
        self.waiting += len(sent)

    def end(self) -> None:
        """Say that no request will follow."""
        self._send(None)

    def _send(self, chunk: list[Numbered] | None) -> None:
        try:
            self.connection.send(chunk)
        except OSError:
            raise self._lost() from None

    def take(self) -> Iterator[tuple[int, Answer]]:
        """What has come: an answer, what was logged, or the error that ended it."""
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, logging.LogRecord):
            logging.getLogger(found.name).handle(found)
            return
        self.waiting -= 1
        yield found

    def _lost(self) -> EngineError:
        self._process.join(_END_S)
        return EngineError(
            f"a process that had {self.waiting} images to answer ended with {self._process.exitcode} (-9: killed, say "
            "for want of memory); what is answered is kept, and the same command goes on (--batch-size 16 takes less)"
        )

    def close(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self._process.join(0.1)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _sendable(image: ImageSource) -> ImageSource:
    """An image that a pipe takes: a place or bytes as they are, of anything else the pixels."""
    return image if isinstance(image, Path | RecordedImage | StoredBytes | Image.Image) else loaded(image)


class _Log(logging.Handler):
    """Sends what is logged to the parent, whose handlers may have been locked when this process began."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._send(record)


def _run(lane: Lane, connection: Connection[Any, Any], parents: list[Connection[Any, Any]]) -> None:
    """The fork's side: requests from the pipe to the lane to the end, or until the parent closes it."""
    for one in parents:  # else a parent that is killed would seem alive to the forks
        one.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its forks itself
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    sending = threading.Lock()

    def send(found: Any) -> None:
        with sending:
            connection.send(found)

    own = logging.getLogger("phisight")
    logging.root.handlers = [_Log(send)]
    own.handlers = [] if own.propagate else [_Log(send)]  # a record goes to the parent once
    coming: queue.SimpleQueue[list[Numbered] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, coming), daemon=True).start()
    try:
        for index, answer in lane(_each(coming)):
            answer.task = None  # the parent has it
            send((index, answer))
    except OSError:
        os._exit(1)  # nobody listens
    except BaseException as error:
        plain = isinstance(error, PhisightError) and error.args == (str(error),)  # what a pipe gives back as it was
        send(error if plain else EngineError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _listen(connection: Connection[Any, Any], coming: queue.SimpleQueue[list[Numbered] | None]) -> None:
    """Take requests off the pipe at once, so that the parent never waits to send; ends the fork with the parent."""
    while True:
        try:
            coming.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


def _each(coming: queue.SimpleQueue[list[Numbered] | None]) -> Iterator[Numbered]:
    while (chunk := coming.get()) is not None:
        yield from chunk
