"""What became of a picture as it travels and is kept: an entry of three texts; and the logs of worker processes.

DIR/.build/finished-PID.jsonl     an entry a line, written before the parent hears of it: survives a kill of both
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from phisight.data.images.rejection import Refusal, StoredImage

WORKSPACE = ".build"
"""Hidden folder inside a data set that is being built; gone once it is finished."""
STORED = "stored"

Entry = tuple[str, str, str]
"""Token; STORED or the kind of the refusal; description as JSON or reason."""


def entry(token: str, outcome: StoredImage | Refusal) -> Entry:
    """An outcome in writing."""
    if isinstance(outcome, StoredImage):
        return token, STORED, json.dumps(outcome.as_dict())
    return token, outcome.kind, outcome.reason


def outcome_of(kind: str, text: str) -> StoredImage | Refusal:
    """What an entry says of its token."""
    return StoredImage.from_dict(json.loads(text)) if kind == STORED else Refusal(kind, text)


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
