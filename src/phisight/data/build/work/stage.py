"""First half of a build: the source's rows, typed, checked and staged; a job for every image that is not there yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from phisight.core.errors import EmptyFieldError, MissingExtraError, SettingsError, TaskError, some
from phisight.core.kinds.kind import as_number
from phisight.core.task import FieldValue, Task, special_tokens_in
from phisight.data.build.plan.columns import Columns
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.work.journal import Journal, StagedRow
from phisight.data.build.work.staged_columns import StagedColumns
from phisight.data.fetch.addresses import redacted
from phisight.data.fetch.local_files import LocalFiles
from phisight.data.fetch.request import Job, job_for
from phisight.data.images.image_names import is_written_image
from phisight.data.images.rejection import Rejection, internal
from phisight.data.sources import Source, SourceBatch
from phisight.data.sources.conversations import QUESTION

_OFFENDERS_SHOWN = 3
_MANY_EMPTY = 0.05
"""Share of the rows from which on empty cells of a field are worth a remark."""


@dataclass
class Stager:
    """Reads the source once; ``jobs`` yields images while rows are staged."""

    source: Source
    columns: Columns
    group: GroupRule
    files: LocalFiles | None
    """Where local images are; None where the source has none."""
    journal: Journal
    question: str | None = None
    """Rows that ask another question are rejected (conversations only)."""
    images_per_key: int | None = None
    read: int = 0
    _bad: Counter[str] = field(default_factory=Counter)
    _empty: Counter[str] = field(default_factory=Counter)
    _offenders: dict[str, list[str]] = field(default_factory=dict)
    _images: Counter[str] = field(default_factory=Counter)

    def jobs(self) -> Iterator[Job]:
        """Stage every row; yield a job for each image that has no result yet."""
        with StagedColumns(self.journal.rows_path, self.source, self.columns) as rows_file:
            for batch in self.source.batches():
                jobs = self._stage(batch)
                rows_file.add(batch)
                self._stop_if_mostly_bad()
                yield from jobs

    def _stage(self, batch: SourceBatch) -> list[Job]:
        staged = [
            StagedRow(bad.number, line, "", None, "", rejection=Rejection("malformed_row", bad.reason))
            for bad in batch.malformed
            for line in [bad.number if bad.origin is None else bad.origin]
        ]
        jobs: dict[str, Job] = {}
        table = batch.table.select(self._needed())
        rows = zip(batch.numbers, batch.origins or batch.numbers, table.to_pylist(), strict=True)
        for number, line, row in rows:
            row_staged, job = self._staged_row(number, line, row)
            staged.append(row_staged)
            if job is not None:
                jobs.setdefault(job.token, job)
        self.read += len(staged)
        return [jobs[token] for token in self.journal.stage(staged, jobs)]

    def _needed(self) -> list[str]:
        """The columns that decide about a row; the others are carried as they are."""
        columns = self.columns
        named = [columns.image, columns.key, self.group.column, *columns.task.names]
        wanted = {*named, QUESTION} if self.question is not None else set(named)
        return [name for name in self.source.schema.names if name in wanted]

    def _staged_row(self, number: int, line: int, row: dict[str, Any]) -> tuple[StagedRow, Job | None]:
        cell = row[self.columns.image]
        key = _text(row[self.columns.key]) if self.columns.key else str(line)
        url = _shown(cell)
        try:
            if not key:
                raise Rejection("no_key", f"column {self.columns.key!r} is empty")
            if self.question is not None and row[QUESTION] != self.question:
                raise Rejection("other_question", f"asks {_text(row['question'])[:80]!r}")
            values = self._checked(line, row)
            job = job_for(cell, self.files)
            self._images[key] += self.images_per_key is not None
            if self.images_per_key is not None and self._images[key] > self.images_per_key:
                raise Rejection("further_image", f"the key has {self.images_per_key} images already (--images-per-key)")
            staged = self._accepted(number, line, row, values, key, url, job)
        except Rejection as rejection:
            return StagedRow(number, line, key, None, url, rejection=rejection), None
        except (SettingsError, MissingExtraError):
            raise
        except Exception as error:  # whatever one row holds, it never ends the build
            return StagedRow(number, line, key, None, url, rejection=internal(error)), None
        return staged, job

    def _accepted(
        self,
        number: int,
        line: int,
        row: dict[str, Any],
        values: Mapping[str, FieldValue],
        key: str,
        url: str,
        job: Job,
    ) -> StagedRow:
        task = self.columns.task
        categories, numbers = task.of_kind("category"), task.of_kind("number")
        group = self.group.group_of(_text(row[self.group.column]) if self.group.column else key) or key
        category = _text(row[categories[0]]) if categories else ""
        price = values[numbers[0]] if numbers else None
        amount = None if price is None else as_number(price)
        return StagedRow(number, line, key, job.token, url, group, category, amount)

    def _checked(self, number: int, row: dict[str, Any]) -> dict[str, FieldValue]:
        """The row's fields; a Rejection where the task cannot write them."""
        task = self.columns.task
        try:
            values = task.values(row)
        except EmptyFieldError as error:
            self._empty[_field_in(task, error)] += 1
            raise Rejection("empty_field", str(error)) from error
        except TaskError as error:
            name = _field_in(task, error)
            self._bad[name] += 1
            if len(self._offenders.setdefault(name, [])) < _OFFENDERS_SHOWN:
                self._offenders[name].append(f"row {number}: {_text(row[name])[:40]!r}")
            raise Rejection("bad_value", str(error)) from error
        for name, value in values.items():
            texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
            if tokens := special_tokens_in(" ".join(texts)):
                raise Rejection(
                    "special_token", f"field {name!r} holds {some(tokens)}: it would end or split the answer"
                )
        try:
            task.render(values)
        except TaskError as error:
            raise Rejection("unwritable_answer", str(error)) from error
        return values

    def remarks(self) -> list[str]:
        """What rows were rejected for by the dozen, with the option that keeps them."""
        empty = [
            f"field {name!r} is empty in {count} of {self.read} rows, which are rejected; "
            f"--field {name}:{self.columns.task.fields[name].kind}? keeps them"
            for name, count in self._empty.items()
            if count > _MANY_EMPTY * self.read
        ]
        return [*self.offenders(), *empty]

    def offenders(self) -> list[str]:
        """A sentence for each field that some rows hold in the wrong type: count and the first rows."""
        return [
            f"field {name!r} should be a {self.columns.task.fields[name].kind} but {count} of {self.read} rows hold "
            f"something else ({'; '.join(self._offenders[name])})"
            for name, count in self._bad.items()
        ]

    def _stop_if_mostly_bad(self) -> None:
        for name, count in self._bad.items():
            if count * 2 > self.read:
                sentence = next(text for text in self.offenders() if f"{name!r}" in text)
                raise TaskError(f"{sentence}; choose another column or kind with --field, or repair the source")


def _field_in(task: Task, error: Exception) -> str:
    """The field that an error is about."""
    return next(name for name in task.names if f"field {name!r}" in str(error))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _shown(cell: Any) -> str:
    """Where an image is, as rejects.jsonl shows it: an address without secrets, a path, empty for bytes."""
    if isinstance(cell, dict):
        cell = None if cell.get("bytes") else cell.get("path")
    if not isinstance(cell, str):
        return ""
    if is_written_image(cell):
        return "data:"
    return redacted(cell.strip())
