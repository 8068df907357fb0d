"""number: a measure, such as a price."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from phisight.core.kinds.automata import MOST_DECIMALS, Digits, Part
from phisight.core.kinds.kind import FieldOptions, FieldValue, Kind, Known, shown

_WRITTEN = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
LARGEST = 1e15
"""A number of this size or more is no value: its digits are beyond what a float holds."""
LONGEST = "-999999999.9999"
"""The longest number of a constrained answer, unless the training rows hold longer ones."""


class Number(Kind):
    """A finite number with a point and never an exponent: 470.0, 12.99, 0.00001."""

    name = "number"
    about = "a measure, such as a price"
    storage = "double"
    deciding = "mae_penalized"
    never_a_sign = True

    def typed(self, value: Any, options: FieldOptions) -> float:  # noqa: ARG002
        """See ``Kind``."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"should be a number but holds {shown(value)}") from None
        if not math.isfinite(number):
            raise ValueError(f"should be a finite number but holds {number}")
        return number

    def write(self, value: Any, options: FieldOptions) -> str:
        """See ``Kind``; as short as exact where the field does not say its decimals."""
        number = float(value) + 0.0  # no -0.0
        if options.decimals is not None:
            text = f"{number:.{options.decimals}f}"
            return text if float(text) else text.removeprefix("-")
        text = format(Decimal(repr(number)), "f")
        return text if "." in text else f"{text}.0"

    def parse(self, text: str, options: FieldOptions) -> float:  # noqa: ARG002
        """See ``Kind``; a model may write thousands with a comma, or an exponent."""
        if not _WRITTEN.fullmatch(text):
            raise ValueError(f"is no number: {shown(text)}")
        number = float(text.replace(",", ""))
        if not abs(number) < LARGEST:
            raise ValueError("is no number: too large")
        return number

    def part(self, known: Known, options: FieldOptions) -> Part:
        """Digits that look like those between the two known ones."""
        most = MOST_DECIMALS if known.decimals is None else known.decimals
        if known.low is None or known.high is None:
            return Digits(options.decimals, most_decimals=most)
        whole = max(abs(known.low), abs(known.high))
        return Digits(options.decimals, digits=len(f"{whole:.0f}"), signed=known.low < 0, most_decimals=most)

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "number"}

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``; nines, where the training rows say how many."""
        if known.low is None or known.high is None or known.decimals is None:
            return LONGEST
        digits = "9" * len(f"{max(abs(known.low), abs(known.high)):.0f}")
        return max(LONGEST, f"{'-' if known.low < 0 else ''}{digits}.{'9' * known.decimals}", key=len)

    def known(self, values: Sequence[FieldValue], options: FieldOptions) -> Known:
        """Least, largest, and how many decimals they are written with."""
        numbers = [self.typed(value, options) for value in values]
        if not numbers:
            return Known()
        decimals = max(len(self.write(number, options).partition(".")[2]) for number in set(numbers))
        return Known(low=min(numbers), high=max(numbers), decimals=decimals)

    def similarity(self, truth: Any, given: Any) -> float:
        """1 less the error as a share of the truth."""
        gap = abs(float(given) - float(truth))
        return max(0.0, 1 - (gap / abs(float(truth)) if float(truth) else float(gap > 0)))

    def is_right(self, truth: Any, given: Any, near: float) -> bool:
        """Within a share of the truth."""
        return abs(float(given) - float(truth)) <= near * abs(float(truth)) * (1 + 1e-9)

    def typical(self, values: Sequence[Any]) -> float:
        """The median."""
        return float(statistics.median(values))

    def to_number(self, value: Any) -> float:
        """See ``Kind``."""
        return float(value)

    def of_number(self, number: float) -> float:
        """See ``Kind``."""
        return float(number)
