"""Lists in the cell of a table: JSON, Python's own notation, or values with a separator between them."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_SEPARATORS = ("|", ";", "\n", ",")
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class ListStyle:
    """How a column writes its lists: brackets are always read, else this separator."""

    separator: str | None
    """None: a cell without brackets is one entry."""

    def read(self, cell: Any) -> list[str] | None:
        """Entries as text, stripped, without empty ones; None where the cell holds no list."""
        if cell is None:
            return None
        entries = _typed(cell) if not isinstance(cell, str) else _bracketed(cell)
        if entries is None and isinstance(cell, str):
            entries = cell.split(self.separator) if self.separator else [cell]
        if entries is None:
            return None
        texts = [" ".join(str(entry).split()) for entry in entries if entry is not None]
        return [text for text in texts if text] or None


def is_list(cell: Any) -> bool:
    """Whether a cell holds a list as such: entries, a JSON array or Python's notation."""
    return _typed(cell) is not None or (isinstance(cell, str) and _bracketed(cell) is not None)


def learn_list(cells: Iterable[Any]) -> ListStyle:
    """The separator that most cells without brackets hold, the rarer signs first: ``a, b | c`` is two entries."""
    counts: Counter[str] = Counter()
    for cell in cells:
        if isinstance(cell, str) and cell.strip() and _bracketed(cell) is None:
            counts.update(one for one in _SEPARATORS if one in cell.strip())
    most = max(counts.values(), default=0)
    return ListStyle(next((one for one in _SEPARATORS if counts[one] and counts[one] * 2 >= most), None))


def _typed(cell: Any) -> list[Any] | None:
    return list(cell) if isinstance(cell, list | tuple | set | frozenset) else None


def _bracketed(text: str) -> list[Any] | None:
    """A JSON array or a Python list of plain values."""
    text = text.strip()
    if not (text.startswith(("[", "(", "{")) and text.endswith(("]", ")", "}"))) or len(text) > _MOST_BYTES:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple | set) and not any(
            isinstance(one, list | dict | tuple | set) for one in value
        ):
            return list(value)
    return None
