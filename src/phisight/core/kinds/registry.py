"""Every kind of field by its name: the one list that all layers read."""

from __future__ import annotations

from phisight.core.kinds.boolean import Boolean
from phisight.core.kinds.category import Category
from phisight.core.kinds.date import Date
from phisight.core.kinds.entry_list import EntryList
from phisight.core.kinds.free_text import FreeText
from phisight.core.kinds.integer import Integer
from phisight.core.kinds.kind import Kind
from phisight.core.kinds.number import Number

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (FreeText(), Category(), Number(), Integer(), Date(), Boolean(), EntryList())
}
NO_SHARES: tuple[str, ...] = (
    "mae",
    "mae_penalized",
    "rmsle",
    "r2",
    *(figure.name for kind in KINDS.values() for figure in kind.figures if not figure.share),
)
"""Metrics whose values are no fractions, so that nobody shows them in percent."""
