"""Answers on disk the moment they are there, and the table made of them at the end.

    OUT.partial.jsonl   line 1 {"predict": fingerprint}, then one line a row in the order in which they end
    OUT                 csv, jsonl or parquet in the order of the source, whole or not there
    OUT's .review file  rows under the wanted confidence, and those with an error

A run that was killed continues from the rows that are in the partial file; no row is lost or comes twice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.errors import SettingsError, StorageError
from phisight.core.run_folder import atomic_file
from phisight.core.task import Task
from phisight.extraction.answer import Answer
from phisight.track.jsonl import drop_torn_line

SUFFIXES = (".csv", ".jsonl", ".parquet")
_TYPES: dict[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "list": pa.list_(pa.string()),
}
_CHUNK = 1024


class ResultFile:
    """Rows of a prediction; a context manager. ``done`` holds the rows that an earlier process finished."""

    def __init__(
        self, out: Path, task: Task, fingerprint: str, *, min_confidence: float | None = None, overwrite: bool = False
    ) -> None:
        if out.suffix.lower() not in SUFFIXES:
            raise SettingsError(f"--out {out} must end in {', '.join(SUFFIXES)}")
        lists = [name for name in task.names if str(task.fields[name].kind) == "list"]
        if lists and out.suffix.lower() == ".csv":
            raise SettingsError(
                f"a CSV cannot hold the list {lists[0]!r}; name --out {out.with_suffix('.jsonl').name} or .parquet"
            )
        if out.exists() and not overwrite:
            raise SettingsError(f"{out} is there already; name another file, or replace it with --overwrite")
        self.out = out
        self.review = out.with_name(f"{out.stem}.review{out.suffix}")
        self.partial = out.with_name(f"{out.name}.partial.jsonl")
        self.done: set[int] = set()
        self.schema = schema_of(task)
        self._min_confidence = min_confidence
        self._file: IO[bytes] | None = None
        self._open(fingerprint)

    def _open(self, fingerprint: str) -> None:
        try:
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            drop_torn_line(self.partial)
            lines = self._lines()
            first = next(lines, None)
            continues = first is not None and first[1].get("predict") == fingerprint
            if continues:
                self.done = {line["row"] for _, line in lines}
            self._file = self.partial.open("ab" if continues else "wb")
            if not continues:
                self._append({"predict": fingerprint})
        except OSError as error:
            raise StorageError(f"{self.partial} cannot be written: {error.strerror}; choose another --out") from error

    def add(self, row: int, image: str, answer: Answer) -> None:
        """Keep the answer of a row."""
        if row in self.done:
            return
        self.done.add(row)
        self._append({"row": row, **record(image, answer)})

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(
                f"{self.partial} cannot be written: {error.strerror}; make room and give the same command again: it "
                f"continues after {len(self.done)} rows"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> tuple[int, int]:
        """Write the table (and the review file), remove the partial one; rows written to each."""
        assert self._file is not None
        self._file.flush()
        offsets = {line["row"]: place for place, line in self._lines() if "row" in line}
        ordered = [place for _, place in sorted(offsets.items())]
        sure_rows, review = self._divided(ordered)
        try:
            _write(self.out, self.schema, self._at(sure_rows))
            if self._min_confidence is not None:
                _write(self.review, self.schema, self._at(review))
        except OSError as error:
            raise StorageError(
                f"{self.out} cannot be written: {error.strerror}; make room and give the same command again: every "
                f"answer is in {self.partial}"
            ) from error
        self._file.close()
        self._file = None
        self.partial.unlink()
        return len(sure_rows), len(review)

    def _divided(self, offsets: list[int]) -> tuple[list[int], list[int]]:
        """Lines that go into the table and lines that go into the review file."""
        least = self._min_confidence
        if least is None:
            return offsets, []
        sure: list[int] = []
        unsure: list[int] = []
        for place, row in zip(offsets, self._at(offsets), strict=True):
            enough = row["error"] is None and row["confidence"] is not None and row["confidence"] >= least
            (sure if enough else unsure).append(place)
        return sure, unsure

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Byte at which each line begins, and the line."""
        if not self.partial.is_file():
            return
        place = 0
        with self.partial.open("rb") as file:
            for line in file:
                yield place, json.loads(line)
                place += len(line)

    def _at(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        with self.partial.open("rb") as file:
            for place in offsets:
                file.seek(place)
                yield json.loads(file.readline())


def schema_of(task: Task) -> pa.Schema:
    """Columns of a table of answers: image, typed fields, intervals, confidences, text, error."""
    numbers = task.of_kind("number")
    return pa.schema(
        [
            ("image", pa.string()),
            *((name, _TYPES.get(str(task.fields[name].kind), pa.string())) for name in task.names),
            *((f"{name}_{end}", pa.float64()) for name in numbers for end in ("low", "high")),
            *((f"{name}_confidence", pa.float64()) for name in task.names),
            ("confidence", pa.float64()),
            ("text", pa.string()),
            ("error", pa.string()),
        ]
    )


def record(image: str, answer: Answer) -> dict[str, Any]:
    """An answer as a row of that table; what is not known is left out."""
    ends = {
        f"{name}_{end}": value
        for name, interval in answer.interval.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    sure = {f"{name}_confidence": value for name, value in answer.confidence.items()}
    about = {"confidence": answer.overall_confidence, "text": answer.text, "error": answer.error}
    return {"image": image, **answer, **ends, **sure, **about}


def _write(path: Path, schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> None:
    suffix = path.suffix.lower()
    with atomic_file(path) as file:
        if suffix == ".parquet":
            with pq.ParquetWriter(file, schema) as writer:
                while chunk := [row for _, row in zip(range(_CHUNK), rows, strict=False)]:
                    writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        if suffix == ".jsonl":
            for row in rows:
                text.write(json.dumps({name: row.get(name) for name in schema.names}, ensure_ascii=False) + "\n")
        else:
            table = csv.DictWriter(text, schema.names, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)
        text.detach()
