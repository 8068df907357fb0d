"""Kinds of field: text, category, number, integer, date, boolean, list; a file each."""

from phisight.core.kinds.kind import FieldOptions, FieldValue, Figure, Kind, Known
from phisight.core.kinds.registry import KINDS, NO_SHARES

__all__ = ["KINDS", "NO_SHARES", "FieldOptions", "FieldValue", "Figure", "Kind", "Known"]
