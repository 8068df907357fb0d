"""date: a day of the calendar, written YYYY-MM-DD."""

from __future__ import annotations

import datetime
import re
import statistics
from collections.abc import Sequence
from typing import Any

from phisight.core.kinds.automata import IsoDate, Part
from phisight.core.kinds.kind import FieldOptions, Figure, Kind, Known, shown

_WRITTEN = re.compile(r"\d{4}-\d{2}-\d{2}")


def parts_right(truth: Any, given: Any) -> float:
    """Share of year, month and day that are right."""
    return float(sum(getattr(truth, name) == getattr(given, name) for name in ("year", "month", "day")) / 3)


class Date(Kind):
    """A day; the time of day is no part of it."""

    name = "date"
    about = "a day, written 2024-03-31"
    storage = "date32"
    deciding = "parts_right"
    never_a_sign = True
    figures = (
        Figure("exact", "exactly right", "share of the rows with every letter right", lambda a, b: float(a == b)),
        Figure("parts_right", "year, month, day right", "share of the three parts that are right", parts_right),
        Figure(
            "days_off",
            "median days off",
            "half of the answers are closer than this",
            lambda truth, given: float(abs((given - truth).days)),
            unanswered=None,
            higher_is_better=False,
            reduce="median",
            share=False,
        ),
    )

    def typed(self, value: Any, options: FieldOptions) -> datetime.date:  # noqa: ARG002
        """See ``Kind``; text must be YYYY-MM-DD, other forms are read where the whole column is known."""
        if isinstance(value, datetime.datetime):
            return value.date()
        if isinstance(value, datetime.date):
            return value
        day = _day(str(value).strip())
        if day is None:
            raise ValueError(f"should be a date but holds {shown(value)}")
        return day

    def write(self, value: Any, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return str(value.isoformat())

    def parse(self, text: str, options: FieldOptions) -> datetime.date:  # noqa: ARG002
        """See ``Kind``."""
        day = _day(text)
        if day is None:
            raise ValueError(f"is no date: {shown(text)}")
        return day

    def part(self, known: Known, options: FieldOptions) -> Part:  # noqa: ARG002
        """See ``Kind``."""
        return IsoDate()

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "string", "format": "date"}

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return "2024-12-31"

    def as_json(self, value: Any) -> Any:
        """See ``Kind``."""
        return None if value is None else value.isoformat()

    def similarity(self, truth: Any, given: Any) -> float:
        """Share of year, month and day that are right."""
        return parts_right(truth, given)

    def typical(self, values: Sequence[Any]) -> datetime.date:
        """The middle day, of two the earlier one."""
        day: datetime.date = statistics.median_low(values)
        return day

    def to_number(self, value: Any) -> float:
        """Days since the year 1."""
        return float(value.toordinal())

    def of_number(self, number: float) -> datetime.date:
        """See ``Kind``."""
        return datetime.date.fromordinal(min(max(round(number), 1), datetime.date.max.toordinal()))


def _day(text: str) -> datetime.date | None:
    """The day of YYYY-MM-DD; None for another form, or a day that no calendar has."""
    if not _WRITTEN.fullmatch(text):
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
