"""Cells of a CSV file that a spreadsheet opens: none of them is run as a formula."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\u2212")
"""After NFKC, which writes full-width signs as ASCII."""
_IGNORED = (
    "".join(map(chr, range(33)))
    + "\x7f\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"
    + "".join(map(chr, range(0x2000, 0x2010)))
)
"""Spaces, controls and marks that spreadsheets drop before a formula."""
_MARK = "'"


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front.

    Lists and truth values are written as JSON.
    """
    if isinstance(value, list | bool):
        return json.dumps(value, ensure_ascii=False)
    return f"{_MARK}{value}" if isinstance(value, str) and _begins_like_a_formula(value) else value


def as_it_was(cell: str | None) -> str | None:
    """The text that ``harmless`` was given."""
    guarded = cell is not None and cell.startswith(_MARK) and _begins_like_a_formula(cell[1:])
    return cell[1:] if guarded and cell is not None else cell


def _begins_like_a_formula(text: str) -> bool:
    shown = unicodedata.normalize("NFKC", text.lstrip(_IGNORED))
    return shown.startswith(_FORMULA_STARTS) or text.startswith(("\t", "\r", "\n"))
