"""What a kind of field is: everything phisight has to know of it, in one class and one file.

    cell of a table --typed--> value --write--> text of the answer --parse--> value
                                        part: the texts that constrained decoding allows

A new kind is a class of its own file and a line in ``registry.py``; data, grammar, metrics, baselines, tables and
schema ask the class.
"""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from phisight.core.kinds.automata import Part

FieldValue = str | float | datetime.date | tuple[str, ...] | None
"""A field's value: text, a number (int, bool), a date, entries; None where an optional field has none."""
Storage = Literal["string", "double", "int64", "date32", "bool", "list<string>"]
Reduce = Literal["mean", "median", "balanced"]


class FieldOptions(BaseModel):
    """What can be said of a field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(
        default="text",
        description="text (free), category (one of the values seen in training), number, integer, date, boolean or "
        "list; a question mark behind it (number?) makes the field optional.",
    )
    decimals: int | None = Field(
        default=None,
        ge=0,
        le=10,
        description="Digits after the point of a number; None means as short as exact (470.0, 12.99).",
    )
    optional: bool = Field(default=False, description="Whether a row may be without a value.")
    abstain: bool = Field(
        default=False, description="Whether an answer may be without a value although every row has one: not shown."
    )
    absent: str = Field(default="none", description="What stands in an answer where there is no value.")
    of: Literal["text", "category"] = Field(default="text", description="What the entries of a list are.")
    separator: str = Field(default="; ", description="What stands between the entries of a list.")


@dataclass(frozen=True)
class Known:
    """What the training values of a field show, for constrained decoding and the schema."""

    values: Sequence[str] = ()
    """Texts of a category, or of a list's entries; empty for other kinds."""
    low: float | None = None
    high: float | None = None
    decimals: int | None = None
    """Most digits after the point."""


def known_values(
    categories: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[float, float]] | None = None,
    decimals: Mapping[str, int] | None = None,
) -> dict[str, Known]:
    """By field what lists of values, least and largest numbers and counts of digits say."""
    ends: dict[str, tuple[float | None, float | None]] = dict(ranges or {})
    return {
        name: Known(categories.get(name, ()), *ends.get(name, (None, None)), (decimals or {}).get(name))
        for name in dict.fromkeys([*categories, *ends, *(decimals or {})])
    }


@dataclass(frozen=True)
class Figure:
    """A metric of a kind that follows from one figure a row."""

    name: str
    label: str
    """What the report calls it."""
    about: str
    """What it says, in a few words."""
    of_row: Callable[[Any, Any], float]
    """Truth and answer of a row to its figure; NaN where it is not defined."""
    unanswered: float | None = 0.0
    """Of a row without an answer; None leaves it out."""
    higher_is_better: bool = True
    reduce: Reduce = "mean"
    """balanced: the mean of each true value's mean."""
    share: bool = True
    """A fraction, shown in percent; else in the field's own unit."""


class Kind(ABC):
    """One kind of field. Texts of errors follow on "field 'name' "."""

    name: ClassVar[str]
    about: ClassVar[str]
    storage: ClassVar[Storage]
    """Type of a column of its values, as Arrow calls it."""
    figures: ClassVar[tuple[Figure, ...]] = ()
    """Its metrics that are means or medians of one figure a row."""
    deciding: ClassVar[str]
    """The metric by which answers are compared: a mean over all rows."""
    never_a_sign: ClassVar[bool] = False
    """No value of it looks like the usual signs for no value (n/a, -, null)."""
    label: ClassVar[bool] = False
    """Values are classes that a classifier can learn."""

    @abstractmethod
    def typed(self, value: Any, options: FieldOptions) -> FieldValue:
        """The value of a cell that holds something; ValueError says what it should be."""

    @abstractmethod
    def write(self, value: Any, options: FieldOptions) -> str:
        """The value as it stands in an answer."""

    @abstractmethod
    def parse(self, text: str, options: FieldOptions) -> FieldValue:
        """The value of a text without white space around it; ValueError says what it is not."""

    @abstractmethod
    def part(self, known: Known, options: FieldOptions) -> Part:
        """The texts that it may have in an answer."""

    @abstractmethod
    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:
        """JSON schema of its values."""

    def needs_values(self, options: FieldOptions) -> bool:  # noqa: ARG002
        """Whether constrained decoding needs the values of the training rows."""
        return False

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002 - a kind may ask them
        """A text as long as its answers may get, apart from free text, which is counted by itself."""
        return ""

    def known(self, values: Sequence[FieldValue], options: FieldOptions) -> Known:  # noqa: ARG002
        """What values of the training rows show."""
        return Known()

    @property
    def learns(self) -> bool:
        """Whether ``known`` says anything, so that the training rows are worth reading."""
        return type(self).known is not Kind.known

    def as_json(self, value: FieldValue) -> Any:
        """The value for JSON; ``typed`` reads it again."""
        return value

    def similarity(self, truth: Any, given: Any) -> float:
        """How right an answer is, 0 to 1."""
        return float(truth == given)

    def is_right(self, truth: Any, given: Any, near: float) -> bool:  # noqa: ARG002 - numbers are right when near
        """Whether an answer counts as right; a number within the share ``near`` of its truth."""
        return bool(truth == given)

    def typical(self, values: Sequence[Any]) -> Any:
        """The best answer that knows no image: the commonest of at least one value, or their median."""
        return Counter(values).most_common(1)[0][0]

    def to_number(self, value: Any) -> float | None:  # noqa: ARG002
        """The value on a scale that has a median and can be fitted; None for a kind without one."""
        return None

    @property
    def has_scale(self) -> bool:
        """Whether ``to_number`` gives its values a place on a scale."""
        return type(self).to_number is not Kind.to_number

    def of_number(self, number: float) -> FieldValue:
        """The value at a place of that scale."""
        raise NotImplementedError(f"{self.name} has no scale")


class OneLine(Kind):
    """A kind whose values are texts on one line; white space is single spaces."""

    storage = "string"

    def typed(self, value: Any, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return one_line(value)

    def write(self, value: Any, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return str(value)

    def parse(self, text: str, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return text


def as_number(value: FieldValue) -> float:
    """The value of a number field that has one."""
    assert isinstance(value, int | float), value
    return float(value)


def shown(value: Any) -> str:
    """The beginning of a cell, for an error message."""
    return repr(str(value)[:40])


def one_line(value: Any) -> str:
    """Text with single spaces between its words."""
    return " ".join(str(value).split())
