"""Dates as people write them: which number is the day, decided from a whole column, or asked about."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from phisight.core.errors import SettingsError
from phisight.data.values.number_text import plain_text

Order = Literal["ymd", "dmy", "mdy"]
ORDERS: tuple[Order, ...] = ("ymd", "dmy", "mdy")
_ENGLISH = "january february march april may june july august september october november december"
_MONTHS = {
    name[:length]: number for number, name in enumerate(_ENGLISH.split(), 1) for length in range(3, len(name) + 1)
}
_MONTHS["sept"] = 9
_TIME = re.compile(
    r"(?:T|,? +)\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))*$"
)
_NUMBERS = re.compile(r"(\d{1,4})([-/. ])(\d{1,2})\2(\d{1,4})\.?")
_COMPACT = re.compile(r"((?:19|20)\d{2})(\d{2})(\d{2})")
_DAY_MONTH = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?[-. ]+(?:of )?([A-Za-z]{3,9})\.?,?[- ]+(\d{4}|\d{2})")
_MONTH_DAY = re.compile(r"([A-Za-z]{3,9})\.?[- ]+(\d{1,2})(?:st|nd|rd|th)?,?[- ]+(\d{4}|\d{2})")
_WEEKDAY = re.compile(r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? +", re.IGNORECASE)
_CENTURY_FROM = 69
"""Two digits from here on are of the last century, as POSIX has it."""
_SHOWN = 3


def possible_dates(text: str) -> dict[Order, datetime.date]:
    """The dates that a text can mean, by the order of its numbers; empty where it is no date. Times are left out."""
    text = _WEEKDAY.sub("", _TIME.sub("", plain_text(text)))
    named = _DAY_MONTH.fullmatch(text)
    if named:
        return dict.fromkeys(ORDERS, one) if (one := _named(named[1], named[2], named[3])) else {}
    named = _MONTH_DAY.fullmatch(text)
    if named:
        return dict.fromkeys(ORDERS, one) if (one := _named(named[2], named[1], named[3])) else {}
    compact = _COMPACT.fullmatch(text)
    numbers = _NUMBERS.fullmatch(text)
    first, second, third = (
        compact.groups() if compact else (numbers[1], numbers[3], numbers[4]) if numbers else ("",) * 3
    )
    if not first:
        return {}
    if len(first) == 4:
        return {"ymd": one} if (one := _date(first, second, third)) else {}
    found: dict[Order, datetime.date] = {}
    for order, parts in (("dmy", (third, second, first)), ("mdy", (third, first, second))):
        if len(third) in (2, 4) and (one := _date(*parts)):
            found[order] = one  # type: ignore[index]
    return found


def _named(day: str, month: str, year: str) -> datetime.date | None:
    number = _MONTHS.get(month.casefold())
    return _date(year, str(number), day) if number else None


def _date(year: str, month: str, day: str) -> datetime.date | None:
    full = int(year) + (0 if len(year) == 4 else 1900 if int(year) >= _CENTURY_FROM else 2000)
    try:
        return datetime.date(full, int(month), int(day))
    except ValueError:
        return None


@dataclass(frozen=True)
class DateStyle:
    """The order of day, month and year in one column."""

    order: Order

    def read(self, text: str) -> datetime.date | None:
        """The date of a cell; None where it is none, or one of another order."""
        dates = possible_dates(text)
        if self.order in dates:
            return dates[self.order]
        clear = set(dates.values()) if self.order == "ymd" else {dates["ymd"]} if "ymd" in dates else set()
        return clear.pop() if len(clear) == 1 else None  # a year in front, or 03/03/2024, leaves no doubt


def learn_dates(column: str, cells: Iterable[Any], given: Order | None = None) -> DateStyle:
    """Decide which number of a column's dates is the day.

    A date such as ``13/04/2024`` settles ``03/04/2024``. SettingsError where no date does, or where dates contradict
    each other; both name ``--date COLUMN:dmy`` and ``--date COLUMN:mdy``.
    """
    if given is not None:
        return DateStyle(given)
    clear: Counter[Order] = Counter()
    unclear: list[str] = []
    examples: dict[Order, str] = {}
    for cell in cells:
        dates = possible_dates(str(cell)) if cell is not None else {}
        orders = [order for order in ORDERS if order in dates]
        if len(orders) == 1:
            clear[orders[0]] += 1
            examples.setdefault(orders[0], str(cell)[:40])
        elif len(set(dates.values())) > 1 and len(unclear) < _SHOWN:
            unclear.append(str(cell)[:40])
    option = f"say --date {column}:dmy (day first) or --date {column}:mdy (month first)"
    if clear["dmy"] and clear["mdy"]:
        raise SettingsError(
            f"column {column!r} writes dates in two orders: {clear['dmy']} with the day first ({examples['dmy']!r}), "
            f"{clear['mdy']} with the month first ({examples['mdy']!r}); {option}"
        )
    if unclear and not (clear["dmy"] or clear["mdy"]):
        raise SettingsError(
            f"column {column!r}: dates such as {', '.join(map(repr, unclear))} can be read in two ways and no other "
            f"date settles it; {option}"
        )
    return DateStyle("mdy" if clear["mdy"] else "dmy" if clear["dmy"] else "ymd")
