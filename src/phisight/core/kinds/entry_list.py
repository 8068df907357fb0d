"""list: entries in order, free texts or categories, with a separator between them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from phisight.core.kinds.automata import Choice, Listed, Part, Text
from phisight.core.kinds.kind import FieldOptions, FieldValue, Figure, Kind, Known, one_line, shown


def _shared(truth: Sequence[str], given: Sequence[str]) -> tuple[float, float, float]:
    """Entries in both, each as often as it stands in both; entries of the truth; of the answer."""
    both = (Counter(truth) & Counter(given)).total()
    return float(both), float(len(truth)), float(len(given))


def precision(truth: Sequence[str], given: Sequence[str]) -> float:
    """Share of the answer's entries that are right."""
    both, _, answered = _shared(truth, given)
    return both / answered if answered else 0.0


def recall(truth: Sequence[str], given: Sequence[str]) -> float:
    """Share of the true entries that were found."""
    both, wanted, _ = _shared(truth, given)
    return both / wanted if wanted else 0.0


def f1(truth: Sequence[str], given: Sequence[str]) -> float:
    """Precision and recall in one."""
    both, wanted, answered = _shared(truth, given)
    return 2 * both / (wanted + answered) if wanted or answered else 1.0


class EntryList(Kind):
    """Entries, written ``milk; bread``; metrics ask which entries are there, not in which order."""

    name = "list"
    about = "entries: free texts, or categories (list:category)"
    storage = "list<string>"
    deciding = "entry_f1"
    figures = (
        Figure("exact", "exactly right", "share of the rows with every letter right", lambda a, b: float(a == b)),
        Figure("precision", "precision", "share of the answered entries that are right", precision),
        Figure("recall", "recall", "share of the true entries that were found", recall),
        Figure("entry_f1", "entries right (F1)", "precision and recall of the entries in one", f1),
    )

    def typed(self, value: Any, options: FieldOptions) -> tuple[str, ...]:
        """See ``Kind``; text must be a JSON array or have the separator, other forms are read where the column is
        known.
        """
        entries = value
        if isinstance(value, str):
            text = value.strip()
            try:
                entries = json.loads(text) if text.startswith("[") else text.split(options.separator.strip())
            except ValueError:
                entries = None
        if not isinstance(entries, list | tuple) or any(isinstance(one, list | tuple | dict) for one in entries):
            raise ValueError(f"should be a list but holds {shown(value)}")
        return tuple(text for one in entries if one is not None and (text := one_line(one)))

    def write(self, value: Any, options: FieldOptions) -> str:
        """See ``Kind``."""
        return options.separator.join(value)

    def parse(self, text: str, options: FieldOptions) -> tuple[str, ...]:
        """See ``Kind``."""
        entries = tuple(entry.strip() for entry in text.split(options.separator.strip()))
        if not all(entries):
            raise ValueError(f"is no list (an entry is empty): {shown(text)}")
        return entries

    def part(self, known: Known, options: FieldOptions) -> Part:
        """See ``Kind``."""
        sign = options.separator.strip()
        if options.of == "text":
            return Listed(Text(without=ord(sign)), options.separator.encode())
        values = sorted({value for value in known.values if sign not in value})
        return Listed(Choice(values), options.separator.encode())

    def schema(self, known: Known, options: FieldOptions) -> dict[str, Any]:
        """See ``Kind``."""
        values = {"enum": sorted(set(known.values))} if options.of == "category" and known.values else {}
        return {"type": "array", "items": {"type": "string", **values}}

    def needs_values(self, options: FieldOptions) -> bool:
        """See ``Kind``."""
        return options.of == "category"

    def longest(self, known: Known, options: FieldOptions) -> str:  # noqa: ARG002
        """One entry; how many there may be is counted like free text."""
        return max(known.values, key=len, default="")

    def known(self, values: Sequence[FieldValue], options: FieldOptions) -> Known:
        """The entries, where these are categories."""
        if options.of == "text":
            return Known()
        return Known(values=sorted({entry for value in values if isinstance(value, tuple) for entry in value}))

    def as_json(self, value: Any) -> Any:
        """See ``Kind``."""
        return None if value is None else list(value)

    def similarity(self, truth: Any, given: Any) -> float:
        """Precision and recall of the entries in one."""
        return f1(truth, given)

    def typical(self, values: Sequence[Any]) -> tuple[str, ...]:
        """The entries that stand in at least half of the lists; where there is none, the commonest list."""
        counts = Counter(entry for value in values for entry in set(value))
        common = tuple(entry for entry, count in counts.most_common() if 2 * count >= len(values))
        return common or Counter(values).most_common(1)[0][0]
