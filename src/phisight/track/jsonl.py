"""The tracker that is always on: JSON lines in the run folder, and their reader.

RUN/metrics.jsonl            {"step": 20, "time": 1767225600.1, "loss": 2.1, "eval/category_accuracy": 0.4}
RUN/examples.jsonl           {"step": 20, "time": ..., "rows": [{"key", "image", "truth", "answer"}, ...]}
RUN/examples/<sha256>.jpg    the images of those rows, each once
RUN/pairs.jsonl              {"step": 20, "time": ..., "field", "kind", "truth": [...], "predicted": [...]}
RUN/summary.json             the figures the run ended with, and what came out of it

A line is written in one piece and flushed, so a process that dies leaves at most one torn line, the last; the next
``start`` takes that one out (and logs it), so that every line of the file is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.errors import RunError, StorageError
from phisight.core.migrations import translate
from phisight.core.read_files import MOST_BYTES, parse_json, read_object
from phisight.track.tracker import MLFLOW_ID, WANDB_ID, Example, Pairs

EXAMPLES = "examples.jsonl"
EXAMPLE_IMAGES = "examples"
PAIRS = "pairs.jsonl"
SUMMARY = "summary.json"

_LOG = logging.getLogger(__name__)


class JsonlTracker:
    """Writes the files above; needs nothing installed, sends nothing."""

    def __init__(self) -> None:
        self._run_dir: Path | None = None

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:  # noqa: ARG002 - the recipe is in config.yaml
        """Open the run folder; lines of an earlier process stay."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self._run_dir = run_dir
        for name in (run_folder.METRICS, EXAMPLES, PAIRS):
            drop_torn_line(run_dir / name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl; NaN and infinity become the strings nan, inf, -inf."""
        self._append(run_folder.METRICS, step, {name: _json_number(value) for name, value in metrics.items()})

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Append one line to examples.jsonl, or that of the group; each image is stored once."""
        lines = [
            {"key": row.key, "image": self._store(row.image), "truth": row.truth, "answer": row.answer} for row in rows
        ]
        self._append(f"{group}-{EXAMPLES}" if group else EXAMPLES, step, {"rows": lines})

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Append one line to pairs.jsonl."""
        truth, predicted = (
            [_json_number(value) if isinstance(value, float) else value for value in column]
            for column in (pairs.truth, pairs.predicted)
        )
        line = {"field": pairs.field, "kind": pairs.kind, "truth": truth, "predicted": predicted}
        self._append(PAIRS, step, line)

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Write summary.json."""
        figures = {name: _json_number(value) for name, value in summary.items()}
        files = {name: str(path) for name, path in artifacts.items()}
        run_folder.write_json(self._folder() / SUMMARY, {"summary": figures, "artifacts": files})

    def _folder(self) -> Path:
        if self._run_dir is None:
            raise RunError("the tracker has no run folder yet; call start() first")
        return self._run_dir

    def _append(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        line = json.dumps({"step": int(step), "time": time.time(), **fields}, ensure_ascii=False, allow_nan=False)
        path = self._folder() / name
        try:
            with path.open("ab") as file:
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written ({error.strerror}): make room, then continue with --resume"
            ) from error

    def _store(self, jpeg: bytes) -> str:
        name = f"{EXAMPLE_IMAGES}/{hashlib.sha256(jpeg).hexdigest()[:32]}.jpg"
        path = self._folder() / name
        if not path.is_file():
            with run_folder.atomic_file(path) as file:
                file.write(jpeg)
        return name


def drop_torn_line(path: Path) -> None:
    """Cut off what follows the last line end: half a line that a killed process left."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        keep = _last_line_end(file, end)
        if keep < end:
            file.seek(keep)
            _LOG.warning("%s ended in half a line (%d bytes), which is dropped", path, end - keep)
            file.truncate(keep)


def forget(run_dir: Path) -> None:
    """Delete figures, examples and tracker ids of an earlier run in the folder, so that the next one is a new run.

    What was sent, or is in a tracker's own store, stays.
    """
    for name in (run_folder.METRICS, EXAMPLES, PAIRS, SUMMARY, WANDB_ID, MLFLOW_ID):
        (run_dir / name).unlink(missing_ok=True)


def cut_back(run_dir: Path, step: int) -> int:
    """Delete what was logged after a step, and a torn last line: training continues from there. Returns lines cut."""
    cut = 0
    for name in (run_folder.METRICS, EXAMPLES, PAIRS):
        path = run_dir / name
        lines = list(read_lines(path))
        valid = [line for line in lines if _step_of(line, path) <= step]
        cut += len(lines) - len(valid)
        if path.is_file():
            try:
                text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in valid)
            except ValueError as error:
                raise RunError(f"{path} holds a line with NaN or infinity, which is no JSON; take it out") from error
            run_folder.write_text_atomically(path, text)
    return cut


def _step_of(line: dict[str, Any], path: Path) -> float:
    value = line.get("step", 0)
    if not isinstance(value, int | float):
        raise RunError(f"{path} holds a line whose step is no number: {str(line)[:80]}; take it out")
    return value


def recorded_id(path: Path) -> str:
    """The id under which a tracker knows a run, from a file of the run folder; RunError when it is damaged."""
    try:
        found = read_object(path).get("id")
    except (OSError, ValueError) as error:
        raise RunError(f"{error}; delete the file to begin another run at the tracker") from error
    if not isinstance(found, str) or not found:
        raise RunError(f"{path} holds no id; delete the file to begin another run at the tracker")
    return found


def _last_line_end(file: Any, end: int) -> int:
    """Position after the last line end, searched backwards in blocks; 0 without one."""
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file, one at a time; a torn last line is skipped, a bad one in between is an error."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_BYTES):
            number += 1
            if not line.endswith(b"\n"):
                return
            try:
                value = parse_json(line, f"{path} line {number}")
            except ValueError as error:
                raise RunError(f"{error}; take the line out") from error
            if not isinstance(value, dict):
                raise RunError(f"{path} line {number} is no JSON object; take the line out")
            yield value


def read_steps(path: Path) -> list[dict[str, Any]]:
    """Lines by step, as the run that ended up valid made them.

    A process that resumed from an earlier checkpoint logs some steps again; the lines of the attempt it replaces (steps
    at or after the one it went back to) are left out.
    """
    lines: list[dict[str, Any]] = []
    for line in read_lines(path):
        if not isinstance(line.get("step"), int):
            raise RunError(f"{path} holds a line without a step: {str(line)[:80]}; take it out")
        if lines and line["step"] < lines[-1]["step"]:
            while lines and lines[-1]["step"] >= line["step"]:
                lines.pop()
        lines.append(line)
    return lines


def read_metrics(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves by name: (step, value) in the order of the steps; empty without a metrics.jsonl."""
    curves: dict[str, dict[int, float]] = {}
    for line in read_steps(run_dir / run_folder.METRICS):
        for name, value in translate("metrics", line).items():
            if name not in ("step", "time"):
                curves.setdefault(name, {})[line["step"]] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def _json_number(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else repr(number)
