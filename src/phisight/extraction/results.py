"""Answers of a bulk prediction: stored one by one, and made into a table at the end.

    OUT.partial.jsonl   every answer the moment it is there      extraction/answer_log.py
    OUT                 csv, jsonl or parquet in the order of the source, whole or not there
    OUT's .review file  rows under the wanted confidence, and those with an error

A prediction that was killed, whenever that was, continues where it stopped: no row is lost or comes twice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.errors import SettingsError, StorageError
from phisight.core.run_folder import atomic_file
from phisight.core.task import Task
from phisight.data.values.spreadsheet_cells import harmless
from phisight.data.values.typed_columns import arrow_type
from phisight.extraction.answer import Answer
from phisight.extraction.answer_log import AnswerLog
from phisight.extraction.image_list import readable

SUFFIXES = (".csv", ".jsonl", ".parquet")
OURS = "phisight_"
"""Put before a column of ours whose name a field of the task has."""
_CHUNK = 1024


@dataclass(frozen=True)
class Predicted:
    """What a bulk prediction wrote."""

    out: Path
    rows: int
    review: Path | None
    """The file of rows under the wanted confidence; None where nobody asked for one."""
    review_rows: int
    errors: int
    """Rows with an error, of those answered by this process."""


class ResultFile:
    """Rows of a prediction; a context manager.

    Args:
        out: The table; its suffix says which kind.
        task: Whose fields become columns.
        identity: What is predicted, in words; see ``AnswerLog``.
        min_confidence: Rows below it go into a review file.
        overwrite: Whether a table of that name, and answers of another prediction, are given up.
        unfamiliar: Whether answers say how unfamiliar their image is, which then has a column.

    Raises:
        SettingsError: A name or a kind that cannot hold the answers, or files that are there already.
        StorageError: The folder cannot be written.
    """

    def __init__(
        self,
        out: Path,
        task: Task,
        identity: Mapping[str, str],
        *,
        min_confidence: float | None = None,
        overwrite: bool = False,
        unfamiliar: bool = False,
    ) -> None:
        require_suffix(out)
        self.out, self.review, partial = files_of(out)
        self.schema = schema_of(task, unfamiliar=unfamiliar)
        self._task, self._min_confidence, self._unfamiliar = task, min_confidence, unfamiliar
        existed = None if overwrite else _table_there(out)
        if existed and not partial.exists():
            raise _is_there(existed, self.schema)
        self.log = AnswerLog(partial, identity, overwrite=overwrite)
        if existed and not self.log.finishing:
            self.log.close(remove=not len(self.log))
            raise _is_there(existed, self.schema)

    def has(self, row: int, image: str) -> bool:
        """Whether the answer to a row is there; SettingsError where the row was another image."""
        return self.log.has(row, image)

    def add(self, row: int, image: str, answer: Answer) -> None:
        """Store the answer to a row."""
        self.log.add(row, image, record(self._task, image, answer, unfamiliar=self._unfamiliar))

    def __len__(self) -> int:
        """Rows that are there."""
        return len(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.close(remove=error is not None and not len(self.log))

    def require_rows(self, count: int) -> None:
        """SettingsError where there are answers to rows that the source no longer has; ``overwrite`` gives them up."""
        self.log.require_rows(count)

    def finish(self) -> tuple[int, int]:
        """Write the review file and the table, remove the partial file; rows written to table and review file.

        A review file of an earlier prediction that this one has no use for is removed, too.
        """
        self.log.finish()
        sure, review = self._divided(self.log.offsets())
        try:
            if self._min_confidence is not None:
                _write(self.review, self._task, self.schema, self._cells(review))
            _write(self.out, self._task, self.schema, self._cells(sure))
            if self._min_confidence is None:
                self.review.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.out} cannot be written: {error.strerror}; make room and give the same command again: every "
                f"answer is in {self.log.path}"
            ) from error
        self.log.close(remove=True)
        return len(sure), len(review)

    def _divided(self, offsets: list[int]) -> tuple[list[int], list[int]]:
        """Lines that go into the table and lines that go into the review file."""
        least = self._min_confidence
        if least is None:
            return offsets, []
        names = own_columns(self._task)
        sure: list[int] = []
        unsure: list[int] = []
        for place, row in zip(offsets, self._cells(offsets), strict=True):
            confidence = row[names["confidence"]]
            enough = row[names["error"]] is None and confidence is not None and confidence >= least
            (sure if enough else unsure).append(place)
        return sure, unsure

    def _cells(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        for line in self.log.at(offsets):
            yield line["cells"]


def files_of(out: Path) -> tuple[Path, Path, Path]:
    """The table, its review file, and its partial file."""
    review = out.with_name(f"{out.stem}.review{out.suffix}")
    return out, review, out.with_name(f"{out.name}.partial.jsonl")


def require_suffix(out: Path) -> None:
    """SettingsError for a file that is none of the kinds that are written."""
    if out.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"--out {out} must end in {', '.join(SUFFIXES)}")


def require_place(out: Path, sources: Sequence[str]) -> None:
    """SettingsError for a table that would replace a source, or change what a source folder is.

    A table below a folder of images would be read instead of them the next time.
    """
    written = [path.resolve() for path in files_of(out)]
    for name in sources:
        source = Path(name)
        if source.is_dir() and source.resolve() in written[0].parents:
            raise SettingsError(
                f"{out} in the folder of the images would be taken for their table the next time; write it beside the "
                f"folder {name}"
            )
        if source.exists() and source.resolve() in written:
            raise SettingsError(f"{source} is what the answers are made of; name another file with --out")


def require_writable(out: Path, sources: Sequence[str], *, overwrite: bool) -> None:
    """SettingsError for what ``require_suffix`` and ``require_place`` refuse, and for a table that is there already.

    One beside a partial file may be that of a stopped prediction, which ``ResultFile`` looks into.
    """
    require_suffix(out)
    require_place(out, sources)
    existed = None if overwrite else _table_there(out)
    if existed and not files_of(out)[2].exists():
        raise SettingsError(_taken(existed))


def own_columns(task: Task, *, unfamiliar: bool = False) -> dict[str, str]:
    """Columns besides the fields, and what they are called: where a field has the name, ``phisight_`` stands before."""
    every = ["image", *(f"{name}_{end}" for name in task.of_kind("number") for end in ("low", "high"))]
    every += [*(f"{name}_confidence" for name in task.names), "confidence"]
    every += [*(["unfamiliar"] if unfamiliar else []), "text", "error"]
    taken, found = set(task.names), {}
    for name in dict.fromkeys(every):
        own = name
        while own in taken:
            own = OURS + own
        taken.add(own)
        found[name] = own
    return found


def schema_of(task: Task, *, unfamiliar: bool = False) -> pa.Schema:
    """Columns of a table of answers: image, typed fields, intervals, confidences, ``unfamiliar``, text, error."""
    own = own_columns(task, unfamiliar=unfamiliar)
    fields = [(name, arrow_type(task.fields[name])) for name in task.names]
    texts = {"image", "text", "error"}
    about = [(found, pa.string() if name in texts else pa.float64()) for name, found in own.items()]
    return pa.schema([about[0], *fields, *about[1:]])


def record(task: Task, image: str, answer: Answer, *, unfamiliar: bool = False) -> dict[str, Any]:
    """An answer as a row of that table, every column of it, as JSON holds it."""
    about: dict[str, Any] = {f"{name}_{end}": None for name in task.of_kind("number") for end in ("low", "high")}
    for name, interval in answer.interval.items():
        about[f"{name}_low"], about[f"{name}_high"] = interval
    about |= {f"{name}_confidence": answer.confidence.get(name) for name in task.names}
    error = None if answer.error is None else readable(answer.error)
    about |= {"image": image, "confidence": answer.overall_confidence, "text": readable(answer.text), "error": error}
    about["unfamiliar"] = answer.unfamiliar
    given = task.as_json(answer)
    fields = {name: given.get(name) for name in task.names}
    return {**fields, **{own: about[name] for name, own in own_columns(task, unfamiliar=unfamiliar).items()}}


def _table_there(out: Path) -> Path | None:
    """The table, or else the review file, that is there already."""
    return next((path for path in files_of(out)[:2] if path.exists()), None)


def _taken(path: Path, kind: str = "") -> str:
    return f"{path} is there already{kind}; name another file, or replace it with --overwrite"


def _is_there(path: Path, schema: pa.Schema) -> SettingsError:
    """Refusal of a name that is taken, by what the file holds."""
    found = _columns_in(path)
    kind = "" if found is None or set(found) == set(schema.names) else ", a table with other columns"
    return SettingsError(_taken(path, kind))


def _columns_in(path: Path) -> list[str] | None:
    """Columns of a table that is there; None where it cannot be read."""
    try:
        if path.suffix.lower() == ".parquet":
            return list(pq.read_schema(path).names)
        with path.open(encoding="utf-8", newline="") as file:
            line = file.readline(1_000_000)
        return list(json.loads(line)) if path.suffix.lower() == ".jsonl" else next(csv.reader([line]), [])
    except (OSError, ValueError, TypeError, csv.Error, pa.ArrowException):
        return None


def _write(path: Path, task: Task, schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> None:
    suffix = path.suffix.lower()
    with atomic_file(path) as file:
        if suffix == ".parquet":
            with pq.ParquetWriter(file, schema) as writer:
                while chunk := [_typed(task, row) for row in islice(rows, _CHUNK)]:
                    writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        if suffix == ".jsonl":
            for row in rows:
                text.write(json.dumps({name: row[name] for name in schema.names}, ensure_ascii=False) + "\n")
        else:
            table = csv.DictWriter(text, schema.names)
            table.writeheader()
            table.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
        text.detach()


def _typed(task: Task, row: dict[str, Any]) -> dict[str, Any]:
    """A row of JSON with the values that a typed column takes."""
    fields = {name: task.fields[name].typed(row[name]) for name in task.names if row.get(name) is not None}
    return {**row, **fields}
