"""What the first rows of a source show of each column: images, numbers, repeated values, unique ones."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.data.fetch.local_files import LocalFiles
from phisight.data.images.image_names import looks_like_address, looks_like_image
from phisight.data.sources.arrow import is_embedded
from phisight.data.sources.base import Source
from phisight.data.sources.products.image_cells import images_in
from phisight.data.values.booleans import form_a_pair, read_boolean
from phisight.data.values.date_style import possible_dates
from phisight.data.values.lists import is_list
from phisight.data.values.number_text import read_number_text
from phisight.data.values.plain_columns import is_written_number

PROFILED_ROWS = 2000
_PROFILED_CELLS, _FEWEST_ROWS = 1_000_000, 20
"""Of a very wide table fewer rows are looked at, but not fewer than these."""
_LOOKED_UP = 20
_LONGEST_PATH = 1000
_HALF = 0.5
_SEARCHED = 100
"""Columns whose texts are looked for among the files' names."""
_FOUND_OTHERWISE = 0.5
"""What a file counts that is there but called otherwise (another case, no ending)."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column in the first rows; shares are of the cells that hold something."""

    filled: float
    """Share of all cells that hold something."""
    images: float
    """Share that are images: bytes, files that are there, addresses or paths with an image's ending; an address without
    one counts a tenth, a file that is called otherwise half. Of a list the first counts."""
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
    rows: int = 0
    """Cells that hold something; 0 where they are images or nested values."""
    first: str = ""
    """The first of them."""
    unlike: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Of each kind that at least half of the cells, but not all, could be: how many could not, and the first."""


def profile(source: Source, rows: int = PROFILED_ROWS) -> dict[str, ColumnProfile]:
    """Profile of every column from the first rows; from fewer of them where the table is very wide."""
    rows = min(rows, max(_FEWEST_ROWS, _PROFILED_CELLS // max(1, len(source.schema))))
    tables, seen = [], 0
    for batch in source.batches():
        tables.append(batch.table)
        seen += batch.table.num_rows
        if seen >= rows:
            break
    table = pa.concat_tables(tables).slice(0, rows) if tables else source.schema.empty_table()
    found = {one.name: _column(source, one, table[one.name]) for one in source.schema}
    return _called_otherwise(source, table, found)


def _column(source: Source, declared: pa.Field, column: pa.ChunkedArray) -> ColumnProfile:
    kind = declared.type
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and (found := _lists_of_images(source, column)):
        return found
    if is_embedded(kind):
        filled = column.length() - column.null_count
        names = {child.name for child in kind} if pa.types.is_struct(kind) else {"bytes"}
        return ColumnProfile(filled / max(1, len(column)), float("bytes" in names), 0.0, {}, filled, False, 0.0, 0.0)
    cells = [cell for cell in column.to_pylist() if cell is not None and str(cell).strip()]
    texts = [str(cell).strip() for cell in cells]
    count = max(1, len(cells))
    typed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    each = [_looks(cell) for cell in cells]
    looks = Counter(name for found in each for name in found)
    if looks["boolean"] and not form_a_pair(set(texts)):
        del looks["boolean"]
    numbers = count if typed else looks[_NUMBER]
    return ColumnProfile(
        filled=len(cells) / max(1, len(column)),
        images=0.0
        if typed or looks[_PLAIN] == len(cells)
        else _image_share(source.root if numbers < count else None, texts),
        numbers=numbers / count if cells else 0.0,
        shares={name: looks[name] / count for name in _LOOKS} if cells else {},
        distinct=len(set(texts)),
        unique=len(set(texts)) == len(texts) > 1,
        words=sum(len(text.split()) for text in texts) / count,
        length=sum(map(len, texts)) / count,
        rows=len(cells),
        first=texts[0] if texts else "",
        unlike={} if typed else _unlike(texts, each, looks),
    )


def _unlike(
    texts: Sequence[str], each: Sequence[frozenset[str]], looks: Mapping[str, int]
) -> dict[str, tuple[int, str]]:
    found = {}
    for kind in (*_LOOKS, _NUMBER):
        if _HALF * len(texts) <= looks.get(kind, 0) < len(texts):
            first = next(text for text, could_be in zip(texts, each, strict=True) if kind not in could_be)
            found[kind] = len(texts) - looks[kind], first
    return found


def _looks(cell: Any) -> frozenset[str]:
    """The kinds that a cell could be, ``_NUMBER``, and ``_PLAIN`` where it is digits, a sign and a point at most."""
    if not isinstance(cell, str):
        found = {name for name, looks in _LOOKS.items() if looks(cell)}
        return frozenset(found | ({_NUMBER} if is_written_number(str(cell).strip()) else set()))
    text = cell.strip()
    return _looks_of_short(text) if len(text) <= _SHORT else _looks_of_text(text)


def _looks_of_text(text: str) -> frozenset[str]:
    if _PLAIN_NUMBER.fullmatch(text):
        return _WITH_POINT if "." in text else _WHOLE
    if not _DIGIT.search(text):  # words: no number, no day
        return frozenset(name for name in ("boolean", "list") if _LOOKS[name](text))
    found = {name for name, looks in _LOOKS.items() if looks(text)}
    found |= {_PLAIN} if _DIGITS.fullmatch(text) else set()
    return frozenset(found | ({_NUMBER} if is_written_number(text) else set()))


@lru_cache(maxsize=65536)
def _looks_of_short(text: str) -> frozenset[str]:
    return _looks_of_text(text)


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
_NUMBER, _PLAIN = "number", "plain"
_WHOLE, _WITH_POINT = frozenset({"integer", _NUMBER, _PLAIN}), frozenset({_NUMBER, _PLAIN})
_PLAIN_NUMBER = re.compile(r"-?(?:[2-9]|[1-9][0-9]{1,6}|[1-9][0-9]{8,17})|-?(?:0|[1-9][0-9]{0,17})\.[0-9]*[1-9]")
"""Numbers that nothing else could be: 0 and 1 may be truth values, eight digits a day, and 0.0 both."""
_DIGIT, _DIGITS = re.compile(r"\d"), re.compile(r"-?[0-9]{1,18}(?:\.[0-9]+)?")
_SHORT = 40


def _lists_of_images(source: Source, column: pa.ChunkedArray) -> ColumnProfile | None:
    """Profile of a column of lists where the first of each list is an image; None where it is none."""
    firsts = [images[0] for cell in column.to_pylist() if (images := images_in(cell))]
    filled = len(firsts) / max(1, len(column))
    texts = [one for one in firsts if isinstance(one, str)]
    share = 1.0 if len(texts) < len(firsts) else _image_share(source.root, texts)
    return ColumnProfile(filled, share, 0.0, {}, len(set(texts)), False, 0.0, 0.0) if share else None


def _image_share(root: Path | None, texts: list[str]) -> float:
    firsts = [next(iter(images_in(text)), text) for text in texts]
    shares = [1.0 if _is_image(one) else 0.1 if looks_like_address(str(one)) else 0.0 for one in firsts]
    if texts and not any(shares) and root is not None:
        looked_up = firsts[:_LOOKED_UP]
        return sum(_is_file(root, str(one)) for one in looked_up) / len(looked_up)
    return sum(shares) / max(1, len(shares))


def _is_image(image: object) -> bool:
    return not isinstance(image, str) or looks_like_image(image)


def _is_file(root: Path, text: str) -> bool:
    try:
        return len(text) < _LONGEST_PATH and (root / text).is_file()
    except (OSError, ValueError):
        return False


def _called_otherwise(source: Source, table: pa.Table, found: dict[str, ColumnProfile]) -> dict[str, ColumnProfile]:
    """The profiles where no column names files as they are called: those of which files are there otherwise count half.

    A shop's table often holds numbers that are the names of its images, without their ending.
    """
    if source.root is None or any(column.images for column in found.values()):
        return found
    files = LocalFiles(source.root)
    changed = {}
    for name in [one.name for one in table.schema if pa.types.is_string(one.type)][:_SEARCHED]:
        texts = [text for text in table[name].slice(0, _LOOKED_UP).to_pylist() if text and len(text) < _LONGEST_PATH]
        there = sum(files.has(text.strip()) for text in texts)
        if there:
            changed[name] = replace(found[name], images=_FOUND_OTHERWISE * there / len(texts))
    return {**found, **changed}
