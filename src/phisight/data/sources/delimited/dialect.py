"""How a delimited file is written: delimiter, quotes, what stands before the header, the header itself.

Everything is decided from the first lines. A candidate is as good as the share of records with as many values as the
header; the file's usual delimiter wins where several are equally good.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from phisight.data.images.image_names import looks_like_image
from phisight.data.sources.tables import distinct_names, header_at

LOOKED_AT = 300
"""Lines."""
_DELIMITERS = (",", ";", "\t", "|")
_RARE = ("^", "~", "\x1f", "\x01", "\u00fe", "\u00a6", "\u00ac")
"""Delimiters that are tried where the first line holds one of them, and none of the usual ones."""
_BACKSLASHED = re.compile(r'\\"(?![,;\t|\r\n"]|$)')
"""A backslash and a quote inside a value: behind a value's last quote a delimiter follows."""


@dataclass(frozen=True, eq=False)
class Dialect:
    """How records are written, the columns' names, and where the rows begin."""

    delimiter: str = ","
    quote: str = '"'
    skip_spaces: bool = False
    """Spaces after a delimiter are no part of the value (``a, "b, c"``)."""
    backslash: bool = False
    """A quote inside a quoted value is written with a backslash before it."""
    first_line: int = 0
    """Lines before the first row."""
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reader(self, lines: Iterable[str], *, strict: bool = False) -> Any:
        """A csv.reader of some lines; csv.Error for what is no record."""
        if self.backslash:
            lines = (line.replace('\\"', '""') for line in lines)
        return csv.reader(
            lines, delimiter=self.delimiter, quotechar=self.quote, skipinitialspace=self.skip_spaces, strict=strict
        )


def find_dialect(lines: Sequence[str], usual: str) -> Dialect | None:
    """The dialect of a file from its first lines; none where they hold nothing."""
    start = 0
    first = lines[0].strip().strip('"').casefold() if lines else ""
    if first.startswith("sep=") and len(first) in (4, 5):
        usual, start = lines[0].strip().strip('"')[4:] or "\t", 1
        dialect = _best(lines[1:], [usual])
    else:
        dialect = _best(lines, [usual, *(one for one in _DELIMITERS if one != usual)])
        rare = [one for one in _RARE if one in first and not any(usual in first for usual in _DELIMITERS)]
        if rare and _score(lines, other := _best(lines, rare)) >= _score(lines, dialect):
            dialect = other
    records = _records(lines[start:], dialect)
    if not records:
        return None
    if dialect.delimiter != usual:
        shown = "'tab'" if dialect.delimiter == "\t" else repr(dialect.delimiter)
        dialect = replace(dialect, notes=[f"values are divided by {shown}"])
    if dialect.quote != '"':
        dialect.notes.append(f"values are quoted by {dialect.quote}")
    width = _commonest([record for _, record in records])
    at = header_at([record for _, record in records], width)
    if at:
        dialect.notes.append(f"{at} lines before the header are left out ({_shown(records[0][1])!r})")
    header = records[at][1]
    if any(looks_like_image(cell) for cell in header):
        dialect.notes.append(
            f"the first line is a row, no header (it holds {_image(header)!r}): columns are column_1, column_2 ..."
        )
        before = records[at - 1][0] if at else 0
        return replace(dialect, first_line=start + before, names=[f"column_{n}" for n in range(1, len(header) + 1)])
    names = _fitted(header, [record for _, record in records[at + 1 :]], width)
    names, notes = distinct_names(names)
    return replace(dialect, first_line=start + records[at][0], names=names, notes=[*dialect.notes, *notes])


def _records(lines: Sequence[str], dialect: Dialect) -> list[tuple[int, list[str]]]:
    """Records that hold something, each with the number of lines read by its end.

    A record of several lines whose quotes are not in order is its first line alone.
    """
    found: list[tuple[int, list[str]]] = []
    at = 0
    while at < len(lines):
        rest = lines[at:]
        reader = dialect.reader(rest)
        try:
            record = next(reader)
        except csv.Error:
            record = []
        taken = max(1, reader.line_num)
        if taken > 1 and not _in_order(rest[:taken], dialect):
            record, taken = rest[0].split(dialect.delimiter), 1
        at += taken
        if any(cell.strip() for cell in record):
            found.append((at, record))
    return found


def _in_order(lines: Sequence[str], dialect: Dialect) -> bool:
    try:
        return len(list(dialect.reader(lines, strict=True))) == 1
    except csv.Error:
        return False


def _best(lines: Sequence[str], delimiters: Sequence[str]) -> Dialect:
    """The dialect under which most records have as many values as the header, and many of them."""
    text = "\n".join(lines)
    scores = {dialect: _score(lines, dialect) for dialect in map(Dialect, delimiters)}
    escaped = bool(_BACKSLASHED.search(text))
    variants = []
    for delimiter in delimiters:
        if escaped:
            variants.append(Dialect(delimiter, backslash=True))
        if f'{delimiter} "' in text:
            variants.append(Dialect(delimiter, skip_spaces=True))
        if text.count(f"{delimiter}'") > 1:
            variants.append(Dialect(delimiter, quote="'"))
    scores |= {dialect: _score(lines, dialect) for dialect in variants}
    return max(scores, key=scores.__getitem__)


def _score(lines: Sequence[str], dialect: Dialect) -> float:
    """How well a dialect fits.

    The share of the records that fit the header, less those with a value that keeps one of its quotes; more columns
    count more, up to twice as much.
    """
    records = [record for _, record in _records(lines, dialect)]
    if not records:
        return 0.0
    header = records[header_at(records, _commonest(records))]
    width = len(header)
    if width < 2:
        return 0.0
    fit = sum(len(record) >= width and not any(map(str.strip, record[width:])) for record in records)
    torn = sum(any(map(_is_torn, record)) for record in records)
    return round((fit - torn) / len(records) * (width - 1) / width, 4)


def _is_torn(cell: str) -> bool:
    """Whether a value has a quote at one end only."""
    text = cell.strip()
    return len(text) > 1 and any((text[0] == quote) != (text[-1] == quote) for quote in ('"', "'"))


def _commonest(records: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, records)).most_common(1)[0][0]


def _shown(record: Sequence[str]) -> str:
    return next((cell.strip() for cell in record if cell.strip()), "")[:40]


def _image(header: Sequence[str]) -> str:
    return next(cell for cell in header if looks_like_image(cell))[:60]


def _fitted(header: list[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The header as long as the rows are: empty names at its end, or a first column without a name (R writes so)."""
    names = [" ".join(name.replace("\ufeff", "").split()) for name in header]
    while len(names) > width > 1 and not names[-1]:
        names.pop()
    firsts = [row[0] for row in rows if len(row) == width]
    trailing = all(not row[-1].strip() for row in rows if len(row) == width)
    if len(names) == width - 1 and not trailing and len(set(firsts)) == len(firsts):
        names.insert(0, "")
    return names
