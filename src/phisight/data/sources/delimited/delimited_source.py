"""CSV and TSV files: rows of text under a header.

A quote that is never closed swallows the rows behind it. A record of several lines that is no whole record, and among
whose lines are whole rows, is taken apart again: its first line is malformed, the others are rows.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from phisight.core.errors import SourceError, some
from phisight.data.sources.arrow import texts_of
from phisight.data.sources.base import BATCH_ROWS, MalformedRow, SourceBatch
from phisight.data.sources.bounds import BATCH_BYTES, MAX_BYTES, capped_lines
from phisight.data.sources.delimited.dialect import LOOKED_AT, Dialect, find_dialect
from phisight.data.sources.delimited.encoding import DEFAULT, text_encoding, wrong_encoding
from phisight.data.sources.tables import FileSource

_BATCH_CELLS = 4_000_000
_SAMPLE_CHARACTERS = 2_000_000
_WIDE, _SEVERAL = 4, 3
"""Lines of as many values as there are columns are rows, not prose, where there are so many columns or such lines."""
_SHOWN = 5
_GUARDED = re.compile(r'="([^"]*)"')
_BLANK = " \t\r\n\v\f\0\x1a\ufeff"
"""What a line may hold that holds nothing: white space, zeros and Ctrl-Z that old programs put at a file's end."""


class DelimitedSource(FileSource):
    """A delimited file; every value stays the text it is ("00123" stays "00123").

    Delimiter, quotes, a byte order mark, lines before the header and columns without a name are found out and said in
    ``notes``. Empty lines are no rows.
    """

    def __init__(self, path: Path, encoding: str = DEFAULT, max_bytes: int = MAX_BYTES) -> None:
        tabs = path.suffix.lower() in (".tsv", ".tab")
        super().__init__(path, "tsv" if tabs else "csv", max_bytes)
        self.encoding = text_encoding(path, encoding)
        self.dialect = self._found_dialect("\t" if tabs else ",")
        self.schema = pa.schema([(name, pa.string()) for name in self.dialect.names])
        self._swallowed: dict[int, int] = {}
        self._rows: int | None = None

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """What was found out when the file was opened, and by now of its rows."""
        found = [*self.dialect.notes]
        if self.encoding.startswith(("utf-16", "utf-32")):
            found.append(f"the encoding is {self.encoding}")
        for number, rows in itertools.islice(self._swallowed.items(), _SHOWN):
            found.append(f"row {number} holds {rows} lines that look like rows: is a quote not closed?")
        return found

    def _found_dialect(self, usual: str) -> Dialect:
        lines: list[str] = []
        size = 0
        for line in self._lines():
            lines.append(line or "")
            size += len(lines[-1])
            if len(lines) >= LOOKED_AT or (size > _SAMPLE_CHARACTERS and len(lines) > 2):
                break
        dialect = find_dialect(lines, usual)
        if dialect is None:
            raise SourceError(f"{self.path} is empty; the first line must name the columns")
        return dialect

    def _lines(self) -> Iterator[str | None]:
        """Lines of the file; None for one that is too long."""
        try:
            with self.path.open(encoding=self.encoding, newline="") as file:
                yield from capped_lines(file, self.max_bytes)
        except UnicodeDecodeError as error:
            raise wrong_encoding(self.path, error) from error
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error

    def count(self) -> int | None:
        """Rows, by reading the file once."""
        if self._rows is None:
            self._rows = sum(1 for _ in self._records())
        return self._rows

    def batches(self) -> Iterator[SourceBatch]:
        """All rows; a line with too many or too few values is malformed."""
        self._swallowed.clear()
        most = max(1, min(BATCH_ROWS, _BATCH_CELLS // len(self.schema)))
        good: list[list[str]] = []
        numbers: list[int] = []
        malformed: list[MalformedRow] = []
        number = size = 0
        for number, record in enumerate(self._records(), start=1):
            if isinstance(record, str):
                malformed.append(MalformedRow(number, record))
            else:
                good.append(record)
                numbers.append(number)
                size += sum(map(len, record))
            if len(good) + len(malformed) >= most or size >= BATCH_BYTES:
                yield SourceBatch(texts_of(good, self.schema), numbers, malformed)
                good, numbers, malformed, size = [], [], [], 0
        self._rows = number
        if good or malformed:
            yield SourceBatch(texts_of(good, self.schema), numbers, malformed)

    def _records(self) -> Iterator[list[str] | str]:
        """Values of each row, or why it is none."""
        feed = _Feed(itertools.islice(self._lines(), self.dialect.first_line, None))
        reader = self.dialect.reader(feed, strict=True)
        csv.field_size_limit(self.max_bytes)
        number = 0
        while True:
            feed.taken.clear()
            try:
                found = _fitting(next(reader), len(self.schema))
            except StopIteration:
                return
            except csv.Error as error:
                found = _reason(str(error), feed.taken[0], self.max_bytes)
            except _TooLong:
                found = f"a line of more than {self.max_bytes} characters; --max-bytes"
                reader = self.dialect.reader(feed, strict=True)
            if not found:
                continue
            number += 1
            lines = list(feed.taken)
            if isinstance(found, str) and len(lines) > 1 and self._rows_among(lines[1:]):
                feed.push_back(lines[1:])
                found = f"a quote is not closed in this line ({lines[0].strip()[:60]!r})"
            elif len(lines) > 1 and (inside := self._rows_among(lines[1:-1])):
                self._swallowed[number] = inside
            yield found

    def _rows_among(self, lines: list[str]) -> int:
        """How many lines are whole rows by themselves; 0 where they may be prose with commas."""
        width = len(self.schema)
        found = 0
        for line in lines:
            try:
                (values,) = self.dialect.reader([line], strict=True)
            except (csv.Error, ValueError):
                continue
            found += isinstance(_fitting(values, width), list) and bool(values)
        return found if width >= _WIDE or found >= _SEVERAL else 0


def _reason(error: str, line: str, most: int) -> str:
    if "limit" in error:
        return f"a value of more than {most} characters; --max-bytes"
    return f"a quote is not closed, or not doubled inside a quoted value ({line.strip()[:60]!r})"


def _fitting(record: list[str], width: int) -> list[str] | str:
    """A record of as many values as there are columns, or why it is none; an empty list where it holds nothing.

    Empty values behind the last column are left out; ``="007"``, which keeps Excel from reading a number, is 007.
    """
    if not any(cell.strip(_BLANK) for cell in record):
        return []
    if any(cell[:2] == '="' for cell in record):
        record = [found[1] if (found := _GUARDED.fullmatch(cell)) else cell for cell in record]
    if len(record) > width and not any(cell.strip() for cell in record[width:]):
        record = record[:width]
    if len(record) == width:
        return record
    return f"{len(record)} values where the header names {width} columns ({some(record, 3)[:60]})"


class _TooLong(Exception):  # noqa: N818 - never leaves this module
    """A line that is longer than may be read."""


class _Feed:
    """Lines for a csv.reader: remembers those it took, and takes lines back."""

    def __init__(self, lines: Iterator[str | None]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        if line is None:
            raise _TooLong
        self.taken.append(line)
        return line

    def push_back(self, lines: list[str]) -> None:
        """Give these lines again."""
        self._again.extendleft(reversed(lines))
