"""Results of images as entries of three texts, and the log files of worker processes.

DIR/.build/finished-PID.jsonl     an entry a line, written before the parent receives it: survives a kill of both
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from phisight.core.errors import StorageError
from phisight.data.images.rejection import KINDS, Rejection, StoredImage

WORKSPACE = ".build"
"""Hidden folder inside a data set that is being built; gone once it is finished."""
STORED = "stored"

Entry = tuple[str, str, str]
"""Token; STORED or the kind of the rejection; description as JSON or reason."""


def entry(token: str, result: StoredImage | Rejection) -> Entry:
    """The entry of a result."""
    if isinstance(result, StoredImage):
        return token, STORED, json.dumps(result.as_dict())
    return token, result.kind, result.reason


def result_of(kind: str, text: str) -> StoredImage | Rejection:
    """The result in an entry."""
    return StoredImage.from_dict(json.loads(text)) if kind == STORED else Rejection(kind, text)


def log_path(folder: Path, worker: int) -> Path:
    """Where a worker process writes."""
    return folder / WORKSPACE / f"finished-{worker}.jsonl"


def log_line(written: Entry) -> bytes:
    """One line of a log."""
    return json.dumps(written).encode() + b"\n"


def read_log(path: Path) -> Iterator[Entry]:
    """The whole lines of a log; one that is damaged counts for nothing: its image is downloaded again."""
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                token, kind, text = json.loads(line)
                texts = all(isinstance(one, str) for one in (token, kind, text))
                if line.endswith(b"\n") and texts and is_entry(kind, text):
                    yield token, kind, text


def is_entry(kind: str, text: str) -> bool:
    """Whether kind and text are a result's."""
    if kind != STORED:
        return kind in KINDS
    try:
        image = StoredImage.from_dict(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
    texts = (image.file_name, image.sha256, image.format, image.phash, image.colors, image.notes)
    numbers = (image.width, image.height, image.size)
    return all(isinstance(one, str) for one in texts) and all(type(one) is int and one > 0 for one in numbers)


def cannot_write(folder: Path, error: Exception) -> StorageError:
    """What it means that a build cannot write (full disk, read-only place), in one line."""
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"{folder} cannot be written: {reason}; what was stored is not lost: make room or change the permissions, then "
        "run the same command again"
    )
