"""boolean: yes or no."""

from __future__ import annotations

from typing import Any

from phisight.core.kinds.automata import Choice, Part
from phisight.core.kinds.kind import FieldOptions, Figure, Kind, Known, shown

_READ = {"yes": True, "true": True, "no": False, "false": False}


class Boolean(Kind):
    """A truth value, written yes or no."""

    name = "boolean"
    about = "yes or no"
    storage = "bool"
    deciding = "accuracy"
    label = True
    figures = (
        Figure("accuracy", "right", "share of the rows with the right value", lambda a, b: float(a == b)),
        Figure(
            "balanced_accuracy",
            "right, balanced",
            "mean of the shares of right answers where the truth is yes and where it is no",
            lambda a, b: float(a == b),
            reduce="balanced",
        ),
    )

    def typed(self, value: Any, options: FieldOptions) -> bool:  # noqa: ARG002
        """See ``Kind``; other words than yes, no, true and false are read where the column is known."""
        if isinstance(value, int | float) and value in (0, 1):
            return bool(value)
        found = _READ.get(str(value).strip().casefold())
        if found is None:
            raise ValueError(f"should be yes or no but holds {shown(value)}")
        return found

    def write(self, value: Any, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return "yes" if value else "no"

    def parse(self, text: str, options: FieldOptions) -> bool:  # noqa: ARG002
        """See ``Kind``; a model may write true and false."""
        found = _READ.get(text.casefold())
        if found is None:
            raise ValueError(f"is neither yes nor no: {shown(text)}")
        return found

    def part(self, known: Known, options: FieldOptions) -> Part:  # noqa: ARG002
        """See ``Kind``."""
        return Choice(["yes", "no"])

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "boolean"}

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return "yes"
