"""Images whose decoding may take long, decoded in processes of their own that are ended at a limit of processor time.

    worker: 8 bytes of length, body -> | child: prepare_image, store | -> a line of JSON: kind, description or reason

A decoder that takes the whole file at once (WebP, AVIF, HEIC, TIFF) cannot be stopped from within: the kernel ends the
process. Time is the processor's, so a busy machine rejects nothing. A child ends with its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Self

from phisight.core.errors import DataError, StorageError
from phisight.data.build.work.image_store import ImageResult, ImageStore
from phisight.data.build.work.worklog import entry, result_of
from phisight.data.images.decode import ImageLimits
from phisight.data.images.decode_cost import DECODE_S
from phisight.data.images.rejection import Rejection

CHILDREN = 2
"""For each worker, started as they are needed: one slow image does not hold up the next."""
_STORAGE = "storage"
_READY = b"ready\n"
_LENGTH = struct.Struct(">Q")
_PROGRAM = f"from {__name__} import main; main()"


class DecodeChildren:
    """Decodes and stores expensive images of one worker; to be used as a context.

    Args:
        store: Where images go and what they may be.
        seconds: Processor time of one image, checks and storing included.
    """

    def __init__(self, store: ImageStore, seconds: float = DECODE_S) -> None:
        self._store, self._seconds = store, seconds
        self._threads = ThreadPoolExecutor(CHILDREN, "decode")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        while not self._idle.empty():
            _end(self._idle.get())

    async def decode_and_store(self, body: bytes) -> ImageResult:
        """As ``ImageStore.decode_and_store``; past the time limit a rejection ``decode_time``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_a_child, body)

    def _in_a_child(self, body: bytes) -> ImageResult:
        try:
            child = self._idle.get_nowait()
        except queue.Empty:
            child = _started(self._store, self._seconds)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(_LENGTH.pack(len(body)))
            child.stdin.write(body)
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            return _ended(_end(child), self._seconds)
        self._idle.put(child)
        kind, text = json.loads(line)
        if kind == _STORAGE:
            raise StorageError(text)
        return result_of(kind, text)


def _started(store: ImageStore, seconds: float) -> subprocess.Popen[bytes]:
    arguments = json.dumps({"folder": str(store.folder), "limits": asdict(store.limits), "seconds": seconds})
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    }  # fmt: skip
    child = subprocess.Popen(  # noqa: S603 - this interpreter, on this module
        [sys.executable, "-P", "-c", _PROGRAM, arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    assert child.stdout is not None
    if child.stdout.readline() != _READY:
        code = _end(child)
        raise DataError(f"the process that decodes large images ended at its start (code {code}); memory may be short")
    return child


def _end(child: subprocess.Popen[bytes]) -> int:
    """Close a child's pipes and wait for it; what it ended with."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    child.stdout.close()
    return child.wait()


def _ended(code: int, seconds: float) -> Rejection:
    """What it means that a child ended over an image."""
    if code == -signal.SIGPROF:
        return Rejection("decode_time", f"not decoded after {seconds:g} s of processor time")
    return Rejection("corrupt", f"the decoder ended its process (code {code}): damaged, or memory is short")


def main() -> None:
    """A child: images from its input, a line for each to its output, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build stops its workers, and they their children
    warnings.filterwarnings("ignore", module="PIL")
    arguments = json.loads(sys.argv[1])
    store = ImageStore(Path(arguments["folder"]), ImageLimits(**arguments["limits"]))
    bodies, lines = sys.stdin.buffer, sys.stdout.buffer
    lines.write(_READY)
    lines.flush()
    while len(head := bodies.read(_LENGTH.size)) == _LENGTH.size:
        body = bodies.read(_LENGTH.unpack(head)[0])
        signal.setitimer(signal.ITIMER_PROF, arguments["seconds"])
        try:
            _, *answer = entry("", store.decode_and_store(body))
        except StorageError as error:
            answer = [_STORAGE, str(error)]
        signal.setitimer(signal.ITIMER_PROF, 0)
        try:
            lines.write(json.dumps(answer).encode() + b"\n")
            lines.flush()
        except BrokenPipeError:
            os._exit(1)  # the worker is gone
