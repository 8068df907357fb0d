"""Excel workbooks and OpenDocument sheets: one sheet, a row with values naming the columns."""

from __future__ import annotations

import contextlib
import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from phisight.core.errors import MissingExtraError, SourceError, some
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.tables import (
    batches_of_records,
    column_types,
    distinct_names,
    file_description,
    fitted,
    header_at,
)

SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
_LOOKED_AT = 300
"""Rows that the header is looked for among."""
_MOST_ROWS = 10
"""A workbook is read whole: it may unfold to this many rows of the size that ``--max-bytes`` allows."""
_SHARED = re.compile(rb"""<(?:\w+:)?c [^>]*\bt=["']s["'][^>]*>\s*<(?:\w+:)?v>(\d+)""")
_TEXT = re.compile(rb"<(?:\w+:)?si\b")


class ExcelSource(Source):
    """One sheet of a workbook; whole numbers stay whole, dates become ISO text, text stays the text it is.

    Lines above the header are left out, columns without a name and those that stand twice get one, and a cell that is
    merged over several rows stands in each of them; all of it is said in ``notes``.
    """

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path, sheet: str | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.root: Path | None = path.parent
        found = _read(path, sheet, _MOST_ROWS * max_bytes)
        rows = found.rows
        self.description: dict[str, Any] = {**file_description("excel", path), "sheet": found.name}
        filled = [at for at, row in enumerate(rows) if any(str(cell).strip() for cell in row)]
        if not filled:
            hint = f"; name another one with --sheet ({some(found.others)})" if found.others else ""
            raise SourceError(
                f"{path}, sheet {found.name!r}, is empty; the first row with values must name the columns{hint}"
            )
        texts = [[str(cell) for cell in rows[at]] for at in filled[:_LOOKED_AT]]
        above = header_at(texts, max(map(len, texts)))
        first = filled[above]
        header = [text.strip() for text in texts[above]]
        while not header[-1]:
            header.pop()
        names, named = distinct_names(header)
        merged = _filled_down(rows, found.merged, first)
        self._records = [_record(names, rows[at]) for at in filled if at > first]
        self.schema = pa.schema((column_types(self._records) or dict.fromkeys(names, pa.string())).items())
        self.notes = [
            *(
                [f"sheet {found.name!r} is read, others are not ({some(found.others)}): --sheet"]
                if found.others
                else []
            ),
            *([f"{above} lines above the header are left out ({' '.join(texts[0]).strip()[:40]!r})"] if above else []),
            *named,
            *([f"{merged} cells that are merged over several rows stand in each of them"] if merged else []),
        ]

    def count(self) -> int | None:
        """Rows below the header that hold something."""
        return len(self._records)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        yield from batches_of_records(fitted(self._records, self.schema), self.schema)


class _Sheet(NamedTuple):
    """What a sheet holds."""

    name: str
    rows: list[list[Any]]
    merged: list[Any]
    """Ranges of merged cells, ((row, column), (row, column)) each."""
    others: list[str]
    """Further sheets, where none was asked for by name."""


def _read(path: Path, wanted: str | None, most: int) -> _Sheet:
    """The sheet that is asked for; else the first that can be seen and holds something."""
    try:
        import python_calamine
    except ImportError as error:
        raise MissingExtraError(f"{path} is an Excel workbook, which", "excel") from error
    _check_size(path, most)
    try:
        with python_calamine.load_workbook(path) as book:
            seen = [one.name for one in book.sheets_metadata if one.visible == python_calamine.SheetVisibleEnum.Visible]
            names = [_sheet_name(path, book.sheet_names, wanted)] if wanted is not None else seen or book.sheet_names
            for name in names:
                sheet = book.get_sheet_by_name(name)
                rows = sheet.to_python(skip_empty_area=False)
                if rows:
                    break
            others = [one for one in names if one != name]
            return _Sheet(name, rows, sheet.merged_cell_ranges or [], others)
    except (python_calamine.CalamineError, OSError, IndexError) as error:
        raise SourceError(f"{path} cannot be read as a workbook: {str(error)[:200]}; save it as CSV") from error


def _filled_down(rows: list[list[Any]], merged: list[Any], header: int) -> int:
    """Write the value of cells that are merged downwards into each of their rows; how many there are."""
    count = 0
    for (top, left), (bottom, right) in merged:
        if top <= header or left != right or bottom <= top or left >= len(rows[top]) or rows[top][left] == "":
            continue
        count += 1
        for row in rows[top + 1 : bottom + 1]:
            row += [""] * (left + 1 - len(row))
            row[left] = rows[top][left]
    return count


def _check_size(path: Path, most: int) -> None:
    """SourceError for a workbook of more bytes than ``most``, unfolded or with its repeated text written out."""
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
    else:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size <= most:
                size += _repeated(archive)
    if size > most:
        raise SourceError(f"{path} unfolds to {size} bytes, more than {most}; save the sheet as CSV, or --max-bytes")


def _repeated(archive: zipfile.ZipFile) -> int:
    """Bytes of the texts that cells name by number, once for each cell; parts that are damaged count nothing."""
    with contextlib.suppress(KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        texts = [len(text) for text in _TEXT.split(archive.read("xl/sharedStrings.xml"))[1:]]
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
        return sum(
            texts[at]
            for name in sheets
            for one in _SHARED.finditer(archive.read(name))
            if (at := int(one[1])) < len(texts)
        )
    return 0


def _sheet_name(path: Path, names: list[str], wanted: str) -> str:
    """The wanted sheet by name, or by number from 1."""
    if wanted in names:
        return wanted
    if wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise SourceError(f"{path} has no sheet {wanted!r}; name one of {some(names)}, or 1 for the first")


def _record(header: list[str], row: list[Any]) -> dict[str, Any] | str:
    if any(cell != "" for cell in row[len(header) :]):
        return f"{len(row)} values where the header names {len(header)} columns"
    return {name: _plain(cell) for name, cell in zip(header, row, strict=False)}  # rows end at their last cell


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: Excel keeps every number as a float, so a whole one is whole."""
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**63:
        return int(cell)
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(sep=" ")
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, datetime.timedelta) else cell
