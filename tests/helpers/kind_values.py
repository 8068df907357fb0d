"""Values of every kind of field, drawn: what a table may hold, and the field that is asked for them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from phisight.core.kinds import KINDS, FieldValue, Known
from phisight.core.task_field import TaskField, field_of

PRINTED = st.characters(exclude_categories=["C", "Z"])
WORDS = st.lists(st.text(PRINTED, min_size=1, max_size=8), min_size=1, max_size=3).map(" ".join)
CATEGORIES = ["HATS", "HATS & CAPS", "Schürzen", "裙"]
ENTRIES = ["wool", "wool blend", "silk"]
FIELDS = ["text", "category", "number", "number:2", "integer", "date", "boolean", "list", "list:category"]
"""Every kind, with what can be said of it."""
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": WORDS.filter(lambda text: text.casefold() != "none"),
    "category": st.sampled_from(CATEGORIES),
    "number": st.floats(allow_nan=False, allow_infinity=False, min_value=-9e14, max_value=9e14),
    "number:2": st.integers(-(10**9), 10**9).map(lambda cents: cents / 100),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "date": st.dates(),
    "boolean": st.booleans(),
    "list": st.lists(WORDS.map(lambda text: text.replace(";", ",")), min_size=1, max_size=4)
    .filter(lambda entries: [entry.casefold() for entry in entries] != ["none"])
    .map(tuple),
    "list:category": st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=4).map(tuple),
}
EXAMPLES: dict[str, Sequence[FieldValue]] = {
    "text": ["Vintage Check Scarf", "Cap"],
    "category": ["HATS", "BAGS"],
    "number": [12.5, 0.00001],
    "integer": [12345678901234567, 3],
    "date": [datetime.date(2024, 2, 29), datetime.date(1999, 12, 31)],
    "boolean": [True, False],
    "list": [("milk", "bread"), ("milk",)],
}
"""Two different values of each kind."""


def field(short: str) -> TaskField:
    """A field by its short form."""
    return TaskField(**field_of(short))


def known_of(short: str, values: Sequence[FieldValue]) -> Known:
    """What training rows with these values show; the categories are all that there are."""
    if short == "category":
        return Known(CATEGORIES)
    if short == "list:category":
        return Known(ENTRIES)
    return field(short).rules.known([value for value in values if value is not None], field(short))


def covers_every_kind() -> bool:
    """Whether a kind that is registered has values here."""
    return set(EXAMPLES) == set(KINDS) == {short.split(":")[0] for short in FIELDS}
