"""Compare stored images with their SHA-256, on as many threads as there are cores (hashing releases the lock)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

_AT_ONCE = 2048


def damaged(files: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    """The files that are not there or whose bytes have another SHA-256 than the one given in hex, in order."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        remaining = iter(files)
        while part := list(islice(remaining, _AT_ONCE)):
            for (path, _), whole in zip(part, threads.map(_is_whole, part), strict=True):
                if not whole:
                    yield path


def _is_whole(file: tuple[Path, str]) -> bool:
    path, sha256 = file
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
