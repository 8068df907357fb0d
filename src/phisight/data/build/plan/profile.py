"""What the first rows of a source show of each column: images, numbers, repeated values, unique ones."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from phisight.data.sources.base import Source
from phisight.data.values.booleans import read_boolean
from phisight.data.values.currencies import currency
from phisight.data.values.date_style import possible_dates
from phisight.data.values.lists import is_list
from phisight.data.values.number_text import read_number_text

PROFILED_ROWS = 2000
_LOOKED_UP = 20
_UNIT_LENGTH = 4
_CODE = re.compile(r"(?<![\d.,'])0\d")
_SUFFIX = re.compile(r"\.(?:jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic|heif)(?:[?#].*)?$", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?:)?//[^\s/]+/?|s3://|gs://|data:image/", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnProfile:
    """One column in the first rows; shares are of the cells that hold something."""

    filled: float
    """Share of all cells that hold something."""
    images: float
    """Share that are images: bytes, files that are there, addresses or paths with an image's ending; an address without
    one counts a tenth."""
    numbers: float
    """Share that are numbers, as numbers or written."""
    shares: Mapping[str, float]
    """Share that an integer, a date, a boolean or a list could be, by kind."""
    distinct: int
    """Different values."""
    unique: bool
    """No value stands twice."""
    words: float
    """Mean number of words of a text."""
    length: float
    """Mean number of characters of a text."""


def profile(source: Source, rows: int = PROFILED_ROWS) -> dict[str, ColumnProfile]:
    """Profile of every column from the first rows."""
    tables, seen = [], 0
    for batch in source.batches():
        tables.append(batch.table)
        seen += batch.table.num_rows
        if seen >= rows:
            break
    table = pa.concat_tables(tables).slice(0, rows) if tables else source.schema.empty_table()
    return {field.name: _column(source, field, table[field.name]) for field in source.schema}


def _column(source: Source, field: pa.Field, column: pa.ChunkedArray) -> ColumnProfile:
    kind = field.type
    if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        filled = column.length() - column.null_count
        names = {child.name for child in kind} if pa.types.is_struct(kind) else {"bytes"}
        return ColumnProfile(filled / max(1, len(column)), float("bytes" in names), 0.0, {}, filled, False, 0.0, 0.0)
    cells = [cell for cell in column.to_pylist() if cell is not None and str(cell).strip()]
    texts = [str(cell).strip() for cell in cells]
    count = max(1, len(cells))
    typed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    numbers = count if typed else sum(map(_is_number, texts))
    return ColumnProfile(
        filled=len(cells) / max(1, len(column)),
        images=0.0 if typed else _image_share(source, texts),
        numbers=numbers / count if cells else 0.0,
        shares={name: sum(map(looks, cells)) / count for name, looks in _LOOKS.items()} if cells else {},
        distinct=len(set(texts)),
        unique=len(set(texts)) == len(texts) > 1,
        words=sum(len(text.split()) for text in texts) / count,
        length=sum(map(len, texts)) / count,
    )


def _is_integer(cell: Any) -> bool:
    if isinstance(cell, bool | float):
        return False
    number = read_number_text(str(cell))
    whole = number is not None and not number.unit and all(one.decimal is None for one in number.readings)
    return whole and not str(cell).strip().startswith("0")


def _is_date(cell: Any) -> bool:
    return isinstance(cell, datetime.date) or (isinstance(cell, str) and bool(possible_dates(cell)))


def _is_boolean(cell: Any) -> bool:
    return isinstance(cell, bool) or (isinstance(cell, str) and cell.strip() != "-" and read_boolean(cell) is not None)


_LOOKS: dict[str, Callable[[Any], bool]] = {
    "integer": _is_integer,
    "date": _is_date,
    "boolean": _is_boolean,
    "list": is_list,
}


def _is_number(text: str) -> bool:
    """A number with nothing or a unit beside it, no words; R-0001 and 007 are codes."""
    if _CODE.search(text):
        return False
    number = read_number_text(text)
    return number is not None and (len(number.unit) <= _UNIT_LENGTH or currency(number.unit) is not None)


def _image_share(source: Source, texts: list[str]) -> float:
    shares = [1.0 if _SUFFIX.search(text) else 0.1 if _ADDRESS.match(text) else 0.0 for text in texts]
    if texts and not any(shares) and source.root is not None:
        some = texts[:_LOOKED_UP]
        return sum(_is_file(source.root, text) for text in some) / len(some)
    return sum(shares) / max(1, len(shares))


def _is_file(root: Any, text: str) -> bool:
    try:
        return len(text) < 1000 and (root / text).is_file()
    except (OSError, ValueError):
        return False
