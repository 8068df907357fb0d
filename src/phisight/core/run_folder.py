"""The run folder: names of its files, and writes that are whole or not there.

RUN/config.yaml            the resolved recipe
RUN/limits.json            categories and numbers of the training rows, which constrained answers are held to
RUN/environment.json       versions, hardware, git commit, command line
RUN/metrics.jsonl          one line a logged step
RUN/checkpoints/checkpoint-N/   weights in the official layout (or adapters), and everything that resuming needs
RUN/best/                  the checkpoint that scored best, with the processor
RUN/predictions.parquet    one row an example: truth, answer, parsed fields, real and shuffled image
RUN/scores.json            the metrics of the last full evaluation of the recipe's split, and the fingerprint of what
                           was evaluated: figures of another model than the one in best/ count for nobody
RUN/evaluations/NAME/      predictions.parquet and scores.json of any other split, data set or number of rows
RUN/foreign/               images that show nothing of the task, drawn for training (a data set folder)
RUN/report.html            one self-contained page
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
FOREIGN_IMAGES, FOREIGN_EVALUATED = "foreign", "foreign_evaluated"
"""Folders of the foreign images that a run has drawn, to train on and to be asked about."""
UNFAMILIAR = "unfamiliar.safetensors"
"""File beside weights that says how unlike the training images an image is."""
PREDICTIONS = "predictions.parquet"
ANSWER_LOG = "predictions"
"""Beginning of the names of answer logs: predictions.NAME.jsonl."""
SCORES = "scores.json"
REPORT = "report.html"
IMAGES = "images"
"""Folder of the images inside a data set folder; here since worker processes start without pydantic."""

FINGERPRINT = "fingerprint"
"""Key under ``evaluation`` of scores.json: see ``weights_fingerprint``."""
_WHOLE, _STRIDE, _BLOCK = 16 << 20, 4 << 20, 16 << 10
"""Files of up to so many bytes are hashed whole; of larger ones a block in every stride."""


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over configuration and weights of a folder, empty without weights. Moving and copying keep it.

    Of large files a block in every 4 MiB is hashed, which meets each large matrix of a published model.
    """
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name != UNFAMILIAR)
    if not paths:
        return ""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *paths]:
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for start in range(0, size, _BLOCK if size <= _WHOLE else _STRIDE):
                file.seek(start)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def is_outdated(scores: Mapping[str, Any], run: Path) -> bool:
    """Whether scores are those of another model than ``RUN/best`` holds now; scores that do not say so are its own."""
    facts = scores.get("evaluation")
    if not isinstance(facts, Mapping) or FINGERPRINT not in facts:
        return False
    now = weights_fingerprint(run / BEST)
    return bool(now) and facts[FINGERPRINT] != now


def remove_results(run: Path) -> None:
    """Delete what evaluations and reports have left in a run folder whose model is replaced."""
    for path in (run / SCORES, run / PREDICTIONS, run / REPORT, *run.glob(f"{ANSWER_LOG}.*.jsonl")):
        path.unlink(missing_ok=True)
    shutil.rmtree(run / EVALUATIONS, ignore_errors=True)


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
