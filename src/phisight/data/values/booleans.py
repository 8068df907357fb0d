"""Yes and no as people write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from phisight.data.values.number_text import plain_text

_PAIRS = (
    (("true",), ("false",)),
    (("t",), ("f",)),
    (("yes",), ("no",)),
    (("y",), ("n",)),
    (("1",), ("0",)),
    (("1.0",), ("0.0",)),
    (("on",), ("off",)),
    (("x",), ("-",)),
    (("✓", "✔"), ("✗", "✘", "-")),
    (("ja",), ("nein",)),
    (("wahr",), ("falsch",)),
    (("oui",), ("non",)),
    (("vrai",), ("faux",)),
    (("si", "sí", "sì"), ("no",)),
    (("sim",), ("não",)),
    (("да",), ("нет",)),
    (("是",), ("否",)),
)
"""Words for yes and for no that one column uses side by side; several stand for spellings of one word."""
_YES = frozenset(word for yes, _ in _PAIRS for word in yes)
_NO = frozenset(word for _, no in _PAIRS for word in no)


def read_boolean(cell: Any) -> bool | None:
    """The truth value of a cell; None where it is none. Empty cells are no value, not "no"."""
    if isinstance(cell, bool):
        return cell
    text = _word(cell)
    return True if text in _YES else False if text in _NO else None


def form_a_pair(cells: Iterable[Any]) -> bool:
    """Whether the truth values among the cells are words of one pair; ``x`` and ``y``, both yes, are not."""
    words = {_word(cell) for cell in cells} & (_YES | _NO)
    return any(words <= {*yes, *no} for yes, no in _PAIRS)


def _word(cell: Any) -> str:
    return plain_text(str(cell)).casefold() if cell is not None else ""
