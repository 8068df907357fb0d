"""What kind of thing a column holds, from its values alone."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["empty", "constant", "category", "number", "date", "key", "text", "url", "image"]

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_IMAGE = re.compile(r"[^\s:]+\.(?:jpe?g|png|webp|gif|bmp|tiff?)", re.IGNORECASE)
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y/%m/%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%Y%m%d",
)
_MOSTLY = 0.8  # share of the filled cells that must parse


@dataclass(frozen=True)
class Column:
    """A column, classified."""

    name: str
    kind: Kind
    values: list[Any]
    numbers: NDArray[np.float64]
    """float64[rows]: numbers, or dates as days; NaN where missing, and everywhere in other kinds."""
    odd: int = 0
    """Filled cells that do not fit the kind (text among prices); they count as missing."""

    @property
    def numeric(self) -> bool:
        """A number or a date."""
        return self.kind in ("number", "date")

    @property
    def missing(self) -> NDArray[np.bool_]:
        """bool[rows]."""
        if self.numeric:
            return np.asarray(np.isnan(self.numbers), dtype=np.bool_)
        return np.array([value is None for value in self.values], dtype=np.bool_)


def plain_column(name: str, kind: Kind, values: list[Any]) -> Column:
    """A column without numbers."""
    return Column(name, kind, values, np.full(len(values), np.nan))


def classify(name: str, values: list[Any]) -> Column:
    """The kind of a column."""
    filled = [value for value in values if value is not None]
    if not filled:
        return plain_column(name, "empty", values)
    distinct = len(set(map(str, filled)))
    if distinct == 1 and len(values) > 1:
        return plain_column(name, "constant", values)
    if all(isinstance(value, bool) for value in filled):
        return plain_column(name, "category", values)
    if (column := _numeric(name, values, len(filled), distinct)) is not None:
        return column
    if (column := _dated(name, values, len(filled))) is not None:
        return column
    texts = [None if value is None else str(value) for value in values]
    return plain_column(name, _textual([text for text in texts if text is not None], distinct), texts)


def _numeric(name: str, values: list[Any], filled: int, distinct: int) -> Column | None:
    numbers = np.array([as_number(value) for value in values], dtype=np.float64)
    parsed = int((~np.isnan(numbers)).sum())
    if parsed < _MOSTLY * filled:
        return None
    texts = [str(value) for value in values if value is not None]
    whole = bool(np.all(numbers[~np.isnan(numbers)] % 1 == 0))
    if distinct <= min(12, filled // 3) and whole:
        return plain_column(name, "category", values)
    as_text = sum(isinstance(value, str) for value in values)
    same_length = len({len(text) for text in texts}) <= 2 and min(map(len, texts)) >= 5
    leading = any(text.startswith("0") and text.isdigit() and len(text) > 1 for text in texts)
    dates = whole and all(len(text) == 8 and _date(text, ("%Y%m%d",)) for text in texts)
    if whole and not dates and distinct > 0.9 * filled and (leading or same_length) and (as_text or _named_key(name)):
        return plain_column(name, "key", values)
    if dates:
        return None
    return Column(name, "number", values, numbers, filled - parsed)


def _named_key(name: str) -> bool:
    return re.search(r"(^|_)(id|code|sku|key|ean|upc|gtin)($|_)", name.lower()) is not None


def as_number(value: Any) -> float:
    """A cell as a float; NaN when it is not one."""
    if isinstance(value, bool) or value is None:
        return float("nan")
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value.replace(",", ""))
    return float("nan")


def _dated(name: str, values: list[Any], filled: int) -> Column | None:
    probe = [value for value in values if value is not None][:50]
    if sum(_date(value, DATE_FORMATS) is not None for value in probe) < 0.5 * len(probe):
        return None
    days = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        found = _date(value, DATE_FORMATS)
        if found:
            days[row] = found[0].toordinal()
    parsed = int((~np.isnan(days)).sum())
    return Column(name, "date", values, days, filled - parsed) if parsed >= _MOSTLY * filled else None


def _date(value: Any, formats: tuple[str, ...]) -> tuple[datetime.date, str] | None:
    if isinstance(value, datetime.datetime):
        return value.date(), "datetime"
    if isinstance(value, datetime.date):
        return value, "date"
    if not isinstance(value, str) or not 6 <= len(value) <= 24 or not any(c.isdigit() for c in value):
        return None
    for form in formats:
        try:
            return datetime.datetime.strptime(value, form).date(), form
        except ValueError:
            continue
    return None


def date_formats(column: Column) -> Counter[str]:
    """How often each way of writing a date occurs."""
    found = (_date(value, DATE_FORMATS) for value in column.values)
    return Counter(each[1] for each in found if each)


def write_date(ordinal: float, form: str) -> Any:
    """A day number in one of the formats of ``date_formats``."""
    day = datetime.date.fromordinal(max(1, round(ordinal)))
    if form == "date":
        return day
    moment = datetime.datetime(day.year, day.month, day.day)
    return moment if form == "datetime" else moment.strftime(form)


def _textual(texts: list[str], distinct: int) -> Kind:
    count = len(texts)
    if sum("://" in text for text in texts) > _MOSTLY * count:
        return "url"
    if sum(_IMAGE.fullmatch(text) is not None for text in texts) > _MOSTLY * count:
        return "image"
    spaces = sum(" " in text for text in texts) / count
    digits = sum(any(c.isdigit() for c in text) for text in texts) / count
    ascii_only = all(text.isascii() for text in texts)
    if (
        distinct > 0.9 * count
        and spaces < 0.05
        and ascii_only
        and (digits > 0.5 or max(map(len, texts)) <= 4)
        and count > 1
    ):
        return "key"
    if distinct <= max(2, count * 0.25) or (distinct <= 0.5 * count and spaces < 0.5):
        return "category"
    return "text"
