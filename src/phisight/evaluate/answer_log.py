"""Answers on disk the moment they are there: one JSON line each, so that a killed evaluation goes on where it was.

line 1      {"evaluation": fingerprint of task, rows, pictures and model}
then        {"row": 17, "answer": "Product: ..."}   or   {"row": 18, "failed": "why"}
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from phisight.track.jsonl import drop_torn_line, read_lines

_LOG = logging.getLogger(__name__)


class Journal:
    """A context manager; ``answers`` and ``failures`` by row hold what an earlier process had finished."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.answers: dict[int, str] = {}
        self.failures: dict[int, str] = {}
        self._path = path
        self._file: Any = None
        if path is not None:
            self._open(path, fingerprint)

    def _open(self, path: Path, fingerprint: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        lines = list(read_lines(path))
        fits = bool(lines) and lines[0].get("evaluation") == fingerprint
        for line in lines[1:] if fits else []:
            if "failed" in line:
                self.failures[line["row"]] = line["failed"]
            else:
                self.answers[line["row"]] = line["answer"]
        if fits:
            _LOG.info("%s holds %d finished rows; going on from there", path, len(lines) - 1)
        elif lines:
            _LOG.info("%s belongs to another model, task or split; beginning anew", path)
        self._file = path.open("a" if fits else "w", encoding="utf-8")
        if not fits:
            self._write({"evaluation": fingerprint})

    def answer(self, row: int, text: str) -> None:
        """Keep an answer."""
        self.answers[row] = text
        self._write({"row": row, "answer": text})

    def fail(self, row: int, reason: str) -> None:
        """Keep why a row has no answer."""
        self.failures[row] = reason
        self._write({"row": row, "failed": reason})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
