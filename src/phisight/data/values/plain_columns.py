"""Columns of a source as plain Python values, numbers that people wrote as numbers."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from phisight.core.errors import SettingsError
from phisight.data.images.image_names import looks_like_image
from phisight.data.sources.base import Source
from phisight.data.values.currencies import currency
from phisight.data.values.number_style import learn_style
from phisight.data.values.number_text import read_number_text

_CODE = re.compile(r"(?<![\d.,'])0\d")
_UNIT_LENGTH = 4
_MOSTLY = 0.8
"""Share of the filled cells that must be numbers."""


def is_written_number(text: str) -> bool:
    """A number with nothing or a unit beside it, no words; R-0001 and 007 are codes."""
    if _CODE.search(text):
        return False
    number = read_number_text(text)
    if number is None:
        return False
    return currency(number.unit) is not None or (len(number.unit) <= _UNIT_LENGTH and not text[0].isalpha())


def plain_columns(source: Source) -> dict[str, list[Any]]:
    """All cells by column; None for images and nested values. Prices as people write them (``1.299,00 €``) are floats.

    A column whose numbers can be read in several ways stays text.
    """
    columns: dict[str, list[Any]] = {name: [] for name in source.schema.names}
    for batch in source.batches():
        for field in source.schema:
            stored = pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
            cells = batch.table[field.name].to_pylist()
            if pa.types.is_decimal(field.type):
                cells = [None if cell is None else float(cell) for cell in cells]
            columns[field.name] += [None] * len(cells) if stored else cells
    return {name: _read_numbers(name, cells) for name, cells in columns.items()}


def _read_numbers(name: str, cells: list[Any]) -> list[Any]:
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    written = [text for text in texts if is_written_number(text) and not looks_like_image(text)]
    if len(written) < _MOSTLY * len(texts) or all(_is_plain(text) for text in written):
        return cells
    try:
        style = learn_style(name, texts).style
    except SettingsError:
        return cells
    found = [style.read(cell) if isinstance(cell, str) and cell.strip() else None for cell in cells]
    return [cell if one is None else one[0] for cell, one in zip(cells, found, strict=True)]


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
