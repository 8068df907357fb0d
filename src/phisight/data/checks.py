"""Findings: what looks wrong in the rows that were kept. Nothing is dropped for them; they are counted and shown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from phisight.core.task import Task
from phisight.data.outcomes import NOTES

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
    """Collects rows by kind of finding, keeping the count and the first few keys."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._keys: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, key: str) -> None:
        """One row."""
        assert kind in _ALL_FINDINGS, kind
        self._counts[kind] += 1
        if len(self._keys[kind]) < _SHOWN:
            self._keys[kind].append(key)

    def found(self) -> list[Finding]:
        """What was found, in the order of the table above."""
        return [
            Finding(kind=kind, count=self._counts[kind], meaning=meaning, keys=self._keys[kind])
            for kind, meaning in _ALL_FINDINGS.items()
            if self._counts[kind]
        ]


def check_values(findings: Findings, key: str, row: Mapping[str, Any], task: Task) -> None:
    """What can be seen in one row: prices that cannot be."""
    numbers = {name: _number(row.get(name)) for name in {*task.of_kind("number"), "price", "full_price"}}
    prices = [numbers[name] for name in numbers if "price" in name.lower()]
    if any(price is not None and price <= 0 for price in prices):
        findings.add("price_not_positive", key)
    price, full = numbers["price"], numbers["full_price"]
    if price is not None and full is not None and price > full:
        findings.add("price_above_full_price", key)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def check_pictures(
    findings: Findings, keys: Sequence[str], shas: Sequence[str], near: Iterable[int], answers: Sequence[str]
) -> None:
    """What can be seen between rows: the same or nearly the same picture, and what is asked of it."""
    by_picture: dict[str, list[int]] = defaultdict(list)
    for at, sha in enumerate(shas):
        by_picture[sha].append(at)
    for members in by_picture.values():
        if len(members) > 1:
            for at in members:
                findings.add("exact_duplicates", keys[at])
            if len({answers[at] for at in members}) > 1:
                for at in members:
                    findings.add("one_picture_many_answers", keys[at])
    for at in sorted(near):
        findings.add("near_duplicates", keys[at])


def check_table(findings: Findings, keys: Sequence[str], categories: Sequence[str], groups: Sequence[str]) -> None:
    """What can be seen in the whole table: rare categories, keys that repeat, groups that are too large."""
    category_counts, key_counts, group_counts = Counter(categories), Counter(keys), Counter(groups)
    for key, category, group in zip(keys, categories, groups, strict=True):
        if category and category_counts[category] == 1:
            findings.add("category_once", key)
        if key_counts[key] > 1:
            findings.add("key_twice", key)
        if len(keys) >= 20 and group_counts[group] > len(keys) / 10:
            findings.add("large_group", key)
