"""Yes and no as people write them."""

from __future__ import annotations

from typing import Any

from phisight.data.values.number_text import plain_text

_YES = frozenset(
    (
        "true",
        "t",
        "yes",
        "y",
        "1",
        "1.0",
        "on",
        "x",
        "✓",
        "✔",
        "ja",
        "wahr",
        "oui",
        "vrai",
        "si",
        "sí",
        "sì",
        "sim",
        "да",
        "是",
    )
)
_NO = frozenset(
    ("false", "f", "no", "n", "0", "0.0", "off", "-", "✗", "✘", "nein", "falsch", "non", "faux", "não", "нет", "否")
)


def read_boolean(cell: Any) -> bool | None:
    """The truth value of a cell; None where it is none. Empty cells are no value, not "no"."""
    if isinstance(cell, bool):
        return cell
    text = plain_text(str(cell)).casefold() if cell is not None else ""
    return True if text in _YES else False if text in _NO else None
