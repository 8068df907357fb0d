"""Excel workbooks and OpenDocument sheets: one sheet, its first row with values naming the columns."""

from __future__ import annotations

import contextlib
import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import MissingExtraError, SourceError, some
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.tables import batches_of_records, check_names, column_types, file_description, fitted

SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
_MOST_ROWS = 10
"""A workbook is read whole: it may unfold to this many rows of the size that ``--max-bytes`` allows."""
_SHARED = re.compile(rb"""<(?:\w+:)?c [^>]*\bt=["']s["'][^>]*>\s*<(?:\w+:)?v>(\d+)""")
_TEXT = re.compile(rb"<(?:\w+:)?si\b")


class ExcelSource(Source):
    """One sheet of a workbook; whole numbers stay whole, dates become ISO text, text stays the text it is."""

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path, sheet: str | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.root: Path | None = path.parent
        rows, name = _read(path, sheet, _MOST_ROWS * max_bytes)
        self.description: dict[str, Any] = {**file_description("excel", path), "sheet": name}
        first = next((at for at, row in enumerate(rows) if any(cell != "" for cell in row)), None)
        if first is None:
            raise SourceError(f"{path}, sheet {name!r}, is empty; the first row must name the columns")
        header = [str(cell).strip() for cell in rows[first]]
        used = max(at for at, cell in enumerate(header) if cell) + 1
        header = header[:used]
        check_names(header, path)
        self._records = [_record(header, row) for row in rows[first + 1 :] if any(cell != "" for cell in row)]
        self.schema = pa.schema((column_types(self._records) or dict.fromkeys(header, pa.string())).items())

    def count(self) -> int | None:
        """Rows below the header that hold something."""
        return len(self._records)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        yield from batches_of_records(fitted(self._records, self.schema), self.schema)


def _read(path: Path, sheet: str | None, most: int) -> tuple[list[list[Any]], str]:
    """The cells of a sheet and its name."""
    try:
        import python_calamine
    except ImportError as error:
        raise MissingExtraError(f"{path} is an Excel workbook, which", "excel") from error
    _check_size(path, most)
    try:
        with python_calamine.load_workbook(path) as book:
            name = _sheet_name(path, book.sheet_names, sheet)
            return book.get_sheet_by_name(name).to_python(skip_empty_area=False), name
    except (python_calamine.CalamineError, OSError, IndexError) as error:
        raise SourceError(f"{path} cannot be read as a workbook: {str(error)[:200]}; save it as CSV") from error


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


def _sheet_name(path: Path, names: list[str], wanted: str | None) -> str:
    """The wanted sheet by name, or by number from 1; the first where none is named."""
    if wanted is None:
        return names[0]
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
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(sep=" ")
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, datetime.timedelta) else cell
