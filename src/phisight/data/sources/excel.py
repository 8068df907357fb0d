"""Excel workbooks and OpenDocument sheets: one sheet, its first row with values naming the columns."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import MissingExtraError, SourceError, some
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.tables import batches_of_records, check_names, column_types, file_description, fitted

SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
_UNPACKED_BYTES = 2_000_000_000
"""A workbook is a zip file; one that unfolds to more is refused before it is read."""


class ExcelSource(Source):
    """One sheet of a workbook; whole numbers stay whole, dates become ISO text, text stays the text it is."""

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path, sheet: str | None = None) -> None:
        self.path = path
        self.root: Path | None = path.parent
        rows, name = _read(path, sheet)
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


def _read(path: Path, sheet: str | None) -> tuple[list[list[Any]], str]:
    """The cells of a sheet and its name."""
    try:
        import python_calamine
    except ImportError as error:
        raise MissingExtraError(f"{path} is an Excel workbook, which", "excel") from error
    _check_size(path)
    try:
        with python_calamine.load_workbook(path) as book:
            name = _sheet_name(path, book.sheet_names, sheet)
            return book.get_sheet_by_name(name).to_python(skip_empty_area=False), name
    except (python_calamine.CalamineError, OSError, IndexError) as error:
        raise SourceError(f"{path} cannot be read as a workbook: {str(error)[:200]}; save it as CSV") from error


def _check_size(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > _UNPACKED_BYTES:
        raise SourceError(f"{path} unfolds to {unpacked} bytes, more than {_UNPACKED_BYTES}; save the sheet as CSV")


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
