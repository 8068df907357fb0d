"""Findings: suspect values, duplicates and groups among the accepted rows; counted and shown, never dropped."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from phisight.core.task import Task
from phisight.data.build.finish.accepted_rows import AcceptedRows
from phisight.data.images.rejection import NOTES

_SHOWN = 5
_ALL_FINDINGS = {
    "price_not_positive": "a price of zero or less",
    "price_above_full_price": "the price is higher than the full price",
    "category_once": "the category occurs once only: it cannot be both learned and tested",
    "key_twice": "the key stands in more than one row",
    "exact_duplicates": "another row has the very same image",
    "near_duplicates": "another row has nearly the same image",
    "one_image_many_answers": "rows with one image ask for different answers: no model can tell them apart",
    "near_duplicates_apart": "nearly equal images stand in different splits: together they would be most of the rows "
    "(plain backgrounds?); --no-near-duplicates says so from the start",
    "large_group": "one group holds more than a tenth of all rows: the splits may miss their shares",
} | {f"image_{name}": sentence for name, sentence in NOTES.items()}


class Finding(BaseModel):
    """One kind of finding."""

    kind: str = Field(description="Name of the finding.")
    count: int = Field(description="Rows it concerns.")
    meaning: str = Field(description="What it means.")
    keys: list[str] = Field(description="Keys of the first few rows.")


class Findings:
    """Collects rows (by position among the accepted ones) by kind of finding: the count and the first few."""

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
    """Findings of one row: impossible prices."""
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


def check_images(findings: Findings, rows: AcceptedRows, near: np.ndarray) -> None:
    """Findings between rows: the same or nearly the same image (bool[K]), and different answers to it."""
    _, first, inverse, counts = np.unique(rows.images, return_index=True, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    repeated = repeated[np.argsort(first[inverse[repeated]], kind="stable")]
    findings.add_all("exact_duplicates", repeated)
    columns = (inverse, rows.categories, rows.prices.view(np.int64))
    answers = np.stack([column[repeated] for column in columns], axis=1)
    asked = np.bincount(np.unique(answers, axis=0)[:, 0], minlength=len(first))
    findings.add_all("one_image_many_answers", repeated[asked[inverse[repeated]] > 1])
    findings.add_all("near_duplicates", np.flatnonzero(near))


def check_table(findings: Findings, rows: AcceptedRows, leaders: np.ndarray) -> None:
    """Findings of the whole table: rare categories, keys that repeat, groups (int[K]) that are too large."""
    once = (np.bincount(rows.categories)[rows.categories] == 1) & (rows.categories > 0)
    findings.add_all("category_once", np.flatnonzero(once))
    findings.add_all("key_twice", np.flatnonzero(np.bincount(rows.keys)[rows.keys] > 1))
    if len(rows) >= 20:
        findings.add_all("large_group", np.flatnonzero(np.bincount(leaders)[leaders] > len(rows) / 10))
