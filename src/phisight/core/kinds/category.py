"""category: one of the values seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phisight.core.kinds.automata import Choice, Part
from phisight.core.kinds.kind import FieldOptions, FieldValue, Known, OneLine


class Category(OneLine):
    """A class by its name."""

    name = "category"
    about = "one of the values seen in training"
    deciding = "accuracy"
    label = True

    def part(self, known: Known, options: FieldOptions) -> Part:  # noqa: ARG002
        """See ``Kind``."""
        return Choice(sorted(set(known.values)))

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "string", **({"enum": sorted(set(known.values))} if known.values else {})}

    def needs_values(self, options: FieldOptions) -> bool:  # noqa: ARG002
        """See ``Kind``."""
        return True

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """See ``Kind``."""
        return max(known.values, key=len, default="")

    def known(self, values: Sequence[FieldValue], options: FieldOptions) -> Known:  # noqa: ARG002
        """See ``Kind``."""
        return Known(values=sorted(set(map(str, values))))
