"""Categories drawn together: the table is split value by value, coarse before fine, and every split gets its quota.

Quotas instead of independent draws keep the frequencies of the real table to within one row a split. A split with few
real rows borrows from wider ones; a value that fewer than ``RARE`` rows hold is not handed on at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.sample.like.column_kinds import Column

Rows = NDArray[np.int64]
RARE = 2
_ENOUGH = 12  # real rows that a split may be read from


@dataclass(frozen=True)
class Leaf:
    """Sample rows that share their categories; ``contexts`` are real rows like them, narrow to wide."""

    rows: Rows
    contexts: tuple[Rows, ...]


def quotas(shares: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` cut in proportion to ``shares``; rounding is random but adds up, and right on average."""
    order = rng.permutation(len(shares))
    edges = np.concatenate([[0.0], np.cumsum(shares[order] / shares.sum())])
    edges[-1] = 1.0
    steps = np.floor(edges * count + rng.random() * (1 - 1e-9))
    result = np.empty(len(shares), dtype=np.int64)
    result[order] = np.diff(steps).astype(np.int64)
    return result


class CategoryModel:
    """The joint distribution of the category columns of a real table."""

    def __init__(self, columns: list[Column], parents: dict[str, str], rows: int) -> None:
        self._rows = np.arange(rows)
        self._parents = parents
        self._values: dict[str, list[Any]] = {}
        self._codes: dict[str, NDArray[np.int64]] = {}
        for column in sorted(columns, key=lambda each: len(set(map(str, each.values)))):
            values, codes = _coded(column.values)
            self._values[column.name], self._codes[column.name] = values, codes
        self._order = self._coarse_first()

    def _coarse_first(self) -> list[str]:
        """Fewest values first, but a column never before the one that it refines."""
        order: list[str] = []
        for name in self._codes:
            chain = [name]
            while (above := self._parents.get(chain[-1])) and above not in order:
                chain.append(above)
            order.extend(each for each in reversed(chain) if each not in order)
        return order

    def sample(self, count: int, rng: np.random.Generator) -> tuple[dict[str, list[Any]], list[Leaf]]:
        """Category columns for ``count`` rows, and the leaves that the numbers are drawn in."""
        drawn = {name: np.zeros(count, dtype=np.int64) for name in self._order}
        leaves = list(self._split(0, np.arange(count), (self._rows,), drawn, rng))
        values = {name: [self._values[name][code] for code in codes] for name, codes in drawn.items()}
        return values, leaves

    def _split(
        self, level: int, rows: Rows, contexts: tuple[Rows, ...], drawn: dict[str, Rows], rng: np.random.Generator
    ) -> Iterator[Leaf]:
        if level == len(self._order):
            yield Leaf(rows, contexts)
            return
        name = self._order[level]
        context = self._context(name, contexts, drawn, int(rows[0]))
        codes, counts = np.unique(self._codes[name][context], return_counts=True)
        start = 0
        narrower = [self._by_code(name, each) for each in contexts[:2]]
        for code, quota in zip(codes.tolist(), quotas(counts.astype(np.float64), len(rows), rng), strict=True):
            if not quota:
                continue
            part = rows[start : start + quota]
            start += quota
            drawn[name][part] = code
            alike = [each[code] for each in narrower if code in each]
            yield from self._split(level + 1, part, (*alike, *contexts)[:6], drawn, rng)

    def _by_code(self, name: str, rows: Rows) -> dict[int, Rows]:
        """Real rows by their value of one column."""
        codes = self._codes[name][rows]
        order = np.argsort(codes, kind="stable")
        values, starts = np.unique(codes[order], return_index=True)
        return dict(zip(values.tolist(), np.split(rows[order], starts[1:]), strict=True))

    def _context(self, name: str, contexts: tuple[Rows, ...], drawn: dict[str, Rows], row: int) -> Rows:
        """The narrowest real rows with enough of them; a finer category always stays below its coarser one."""
        parent = self._parents.get(name)
        if parent is not None:
            same = self._codes[parent] == drawn[parent][row]
            contexts = (*(each[same[each]] for each in contexts), np.flatnonzero(same))
        filled = [each for each in contexts if len(each)]
        return next((each for each in filled if len(each) >= _ENOUGH), max(filled, key=len))


def _coded(values: list[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Distinct values and a code a row; a rare value is read as the most frequent one (unless all are rare)."""
    counts = Counter(values)
    common = [value for value, count in counts.items() if count >= RARE] or list(counts)
    number = {value: code for code, value in enumerate(common)}
    usual = number[max(common, key=lambda value: counts[value])]
    return common, np.array([number.get(value, usual) for value in values], dtype=np.int64)
