"""Compare stored images with their SHA-256, on as many threads as there are cores (hashing releases the lock)."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

_A_TASK = 64
_WAITING = 32
File = tuple[str | Path, str]
"""Path and SHA-256 in hex."""


def damaged(files: Iterable[File]) -> Iterator[Path]:
    """The files that are not there or whose bytes have another SHA-256 than the one given, in order."""
    remaining = iter(files)
    waiting: deque[Future[list[str | Path]]] = deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        while part := list(islice(remaining, _A_TASK)):
            waiting.append(threads.submit(_damaged_of, part))
            if len(waiting) >= _WAITING:
                yield from map(Path, waiting.popleft().result())
        while waiting:
            yield from map(Path, waiting.popleft().result())


def _damaged_of(files: list[File]) -> list[str | Path]:
    return [path for path, sha256 in files if _sha256(path) != sha256]


def _sha256(path: str | Path) -> str:
    """The digest of a file; empty when it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a third of Path.read_bytes' time
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""
