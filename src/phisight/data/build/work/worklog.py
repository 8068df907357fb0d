"""Results of images as entries of three texts, and the log files of worker processes.

DIR/.build/finished-PID.jsonl     an entry a line, written before the parent receives it: survives a kill of both
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from phisight.data.images.rejection import Rejection, StoredImage

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
    """The whole lines of a log; what follows the last line end was cut off by a kill."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                token, kind, text = json.loads(line)
                yield token, kind, text
