"""integer: a count or a code of digits, exact to the last one."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from phisight.core.kinds.automata import Digits, Part
from phisight.core.kinds.kind import FieldOptions, FieldValue, Figure, Kind, Known, shown

_WRITTEN = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)")
_LEADING_ZERO = re.compile(r"[-+]?0\d+")
_EXACT = 2**53
"""Up to here a float is the integer that was meant."""
_DIGITS = 19
"""Of the largest that a column of 64 bits holds."""


def relative_error(truth: Any, given: Any) -> float:
    """The distance as a share of the truth, at most 1."""
    gap = abs(int(given) - int(truth))
    return min(1.0, gap / abs(int(truth))) if truth else float(gap > 0)


class Integer(Kind):
    """A whole number of at most 64 bits: 3 is not 3.0, and of 17 digits none is lost."""

    name = "integer"
    about = "a count or a code of digits, exact"
    storage = "int64"
    deciding = "relative_error"
    never_a_sign = True
    figures = (
        Figure("exact", "exactly right", "share of the rows with every letter right", lambda a, b: float(a == b)),
        Figure(
            "relative_error",
            "relative error",
            "mean distance as a share of the truth, at most 100 %; an unread answer counts as 100 %",
            relative_error,
            unanswered=1.0,
            higher_is_better=False,
        ),
        Figure(
            "median_off",
            "median distance",
            "half of the answers are closer than this",
            lambda truth, given: float(abs(int(given) - int(truth))),
            unanswered=None,
            higher_is_better=False,
            reduce="median",
            share=False,
        ),
    )

    def typed(self, value: Any, options: FieldOptions) -> int:  # noqa: ARG002
        """See ``Kind``; a float counts where it is whole and exact, leading zeros do not."""
        if isinstance(value, int):
            number = int(value)
        elif isinstance(value, float):
            if not value.is_integer() or abs(value) > _EXACT:
                raise ValueError(f"should be an integer but holds {shown(value)}")
            number = int(value)
        else:
            number = _of_text(str(value).strip())
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"should be an integer of at most 64 bits but holds {shown(value)}; make it text")
        return number

    def write(self, value: Any, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return str(int(value))

    def parse(self, text: str, options: FieldOptions) -> int:  # noqa: ARG002
        """See ``Kind``; a model may write thousands with a comma."""
        if not _WRITTEN.fullmatch(text) or len(text) > 2 * _DIGITS:
            raise ValueError(f"is no integer: {shown(text)}")
        number = int(text.replace(",", ""))
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"is no integer of at most 64 bits: {shown(text)}")
        return number

    def part(self, known: Known, options: FieldOptions) -> Part:  # noqa: ARG002
        """As many digits as the longest known one has."""
        if known.low is None or known.high is None:
            return Digits(0, digits=_DIGITS - 1)
        digits = max(len(str(abs(int(end)))) for end in (known.low, known.high))
        return Digits(0, digits=min(digits, _DIGITS), signed=known.low < 0)

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "integer"}

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        ends = [str(int(end)) for end in (known.low, known.high) if end is not None]
        return max(ends, key=len, default="9" * _DIGITS)

    def known(self, values: Sequence[FieldValue], options: FieldOptions) -> Known:
        """Least and largest."""
        numbers = [self.typed(value, options) for value in values]
        return Known(low=min(numbers), high=max(numbers)) if numbers else Known()

    def similarity(self, truth: Any, given: Any) -> float:
        """1 less the error as a share of the truth."""
        return 1 - relative_error(truth, given)

    def typical(self, values: Sequence[Any]) -> int:
        """The median, of two the lower one."""
        return int(statistics.median_low(values))

    def to_number(self, value: Any) -> float:
        """See ``Kind``."""
        return float(value)

    def of_number(self, number: float) -> int:
        """See ``Kind``."""
        return round(number)


def _of_text(text: str) -> int:
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f"should be an integer but holds {shown(text)}, whose zeros would be lost; make it text")
    try:
        number = Decimal(text)
        whole = int(number) if number.is_finite() and abs(number) < Decimal(10) ** 30 else None
    except InvalidOperation:
        whole = None
    if whole is None or whole != number:
        raise ValueError(f"should be an integer but holds {shown(text)}")
    return whole
