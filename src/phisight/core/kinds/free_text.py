"""text: free text on one line."""

from __future__ import annotations

from typing import Any

from rapidfuzz.distance import Levenshtein

from phisight.core.kinds.automata import Part, Text
from phisight.core.kinds.kind import FieldOptions, Known, OneLine


class FreeText(OneLine):
    """Free text; white space is single spaces."""

    name = "text"
    about = "free text"
    deciding = "token_f1"

    def part(self, known: Known, options: FieldOptions) -> Part:  # noqa: ARG002
        """See ``Kind``."""
        return Text()

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:  # noqa: ARG002
        """See ``Kind``."""
        return {"type": "string"}

    def similarity(self, truth: Any, given: Any) -> float:
        """Letters that agree (normalized edit distance)."""
        return float(Levenshtein.normalized_similarity(str(truth), str(given)))
