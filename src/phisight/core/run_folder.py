"""The run folder: names of its files, and writes that are whole or not there.

RUN/config.yaml            the resolved recipe
RUN/limits.json            categories and numbers of the training rows, which constrained answers are held to
RUN/environment.json       versions, hardware, git commit, command line
RUN/metrics.jsonl          one line a logged step
RUN/checkpoints/checkpoint-N/   weights in the official layout (or adapters), and everything that resuming needs
RUN/best/                  the checkpoint that scored best, with the processor
RUN/predictions.parquet    one row an example: truth, answer, parsed fields, real and shuffled image
RUN/scores.json            the metrics of the last full evaluation of the recipe's split
RUN/evaluations/NAME/      predictions.parquet and scores.json of any other split, data set or number of rows
RUN/foreign/               images that show nothing of the task, drawn for training (a data set folder)
RUN/report.html            one self-contained page
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
LIMITS = "limits.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
BEST = "best"
EVALUATIONS = "evaluations"
BASE = "base"
"""Folder of the merged weights that a run starts from, where it continues from adapters."""
FOREIGN_IMAGES = "foreign"
"""Folder of the foreign images that a run has drawn."""
PREDICTIONS = "predictions.parquet"
SCORES = "scores.json"
REPORT = "report.html"
IMAGES = "images"
"""Folder of the images inside a data set folder; here since worker processes start without pydantic."""


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` when the block ends well, and not at all when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON (no NaN), whole or not at all."""
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
