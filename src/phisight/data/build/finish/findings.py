"""Findings: what looks wrong in the rows that were kept. Nothing is dropped for them; they are counted and shown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from phisight.core.task import Task
from phisight.data.build.finish.kept_rows import KeptRows
from phisight.data.images.rejection import NOTES

_SHOWN = 5
_ALL_FINDINGS = {
    "price_not_positive": "a price of zero or less",
    "price_above_full_price": "the price is higher than the full price",
    "category_once": "the category occurs once only: it cannot be both learned and tested",
    "key_twice": "the key stands in more than one row",
    "exact_duplicates": "another row has the very same picture",
    "near_duplicates": "another row has nearly the same picture",
    "one_picture_many_answers": "rows with one picture ask for different answers: no model can tell them apart",
    "large_group": "one group holds more than a tenth of all rows: the splits may miss their shares",
} | {f"image_{name}": sentence for name, sentence in NOTES.items()}


class Finding(BaseModel):
    """One kind of finding."""

    kind: str = Field(description="Name of the finding.")
    count: int = Field(description="Rows it concerns.")
    meaning: str = Field(description="What it means.")
    keys: list[str] = Field(description="Keys of the first few rows.")


class Findings:
    """Collects rows (by position among the kept ones) by kind of finding: the count and the first few."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rows: dict[str, list[int]] = defaultdict(list)

    def add(self, kind: str, row: int) -> None:
        """One row."""
        self.add_all(kind, [row])

    def add_all(self, kind: str, rows: np.ndarray | list[int]) -> None:
        """Some rows."""
        assert kind in _ALL_FINDINGS, kind
        self._counts[kind] += len(rows)
        shown = self._rows[kind]
        shown += [int(row) for row in rows[: _SHOWN - len(shown)]]

    def found(self, key_of: Callable[[int], str]) -> list[Finding]:
        """What was found, in the order of the table above."""
        return [
            Finding(kind=kind, count=self._counts[kind], meaning=meaning, keys=list(map(key_of, self._rows[kind])))
            for kind, meaning in _ALL_FINDINGS.items()
            if self._counts[kind]
        ]


def check_values(findings: Findings, at: int, row: Mapping[str, Any], task: Task) -> None:
    """What can be seen in one row: prices that cannot be."""
    numbers = {name: _number(row.get(name)) for name in {*task.of_kind("number"), "price", "full_price"}}
    prices = [numbers[name] for name in numbers if "price" in name.lower()]
    if any(price is not None and price <= 0 for price in prices):
        findings.add("price_not_positive", at)
    price, full = numbers["price"], numbers["full_price"]
    if price is not None and full is not None and price > full:
        findings.add("price_above_full_price", at)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def check_pictures(findings: Findings, kept: KeptRows, near: np.ndarray) -> None:
    """What can be seen between rows: the same or nearly the same picture (bool[K]), and what is asked of it."""
    _, first, inverse, counts = np.unique(kept.pictures, return_index=True, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    repeated = repeated[np.argsort(first[inverse[repeated]], kind="stable")]
    findings.add_all("exact_duplicates", repeated)
    columns = (inverse, kept.categories, kept.prices.view(np.int64))
    answers = np.stack([column[repeated] for column in columns], axis=1)
    asked = np.bincount(np.unique(answers, axis=0)[:, 0], minlength=len(first))
    findings.add_all("one_picture_many_answers", repeated[asked[inverse[repeated]] > 1])
    findings.add_all("near_duplicates", np.flatnonzero(near))


def check_table(findings: Findings, kept: KeptRows, leaders: np.ndarray) -> None:
    """What can be seen in the whole table: rare categories, keys that repeat, groups (int[K]) that are too large."""
    once = (np.bincount(kept.categories)[kept.categories] == 1) & (kept.categories > 0)
    findings.add_all("category_once", np.flatnonzero(once))
    findings.add_all("key_twice", np.flatnonzero(np.bincount(kept.keys)[kept.keys] > 1))
    if len(kept) >= 20:
        findings.add_all("large_group", np.flatnonzero(np.bincount(leaders)[leaders] > len(kept) / 10))
