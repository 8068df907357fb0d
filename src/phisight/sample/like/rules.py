"""Rules of a table that every row keeps: found, then kept by construction.

- hierarchy: the finer category fixes the coarser one
- rate:      one number is another times a constant (a currency)
- order:     one number never exceeds another (price <= full_price)
- flag:      a 0/1 column says whether one number is below another
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.sample.like.column_kinds import Column

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """``target`` is ``source`` times ``rate``, rounded to ``decimals``."""

    source: str
    target: str
    rate: float
    decimals: int


@dataclass(frozen=True)
class Order:
    """``low`` never exceeds ``high``; ``close`` when they mostly move together (a sold price and a full price)."""

    low: str
    high: str
    close: bool


@dataclass(frozen=True)
class Flag:
    """``column`` is ``below`` where ``low`` < ``high`` and ``level`` where they are equal."""

    column: str
    low: str
    high: str
    below: Any
    level: Any


@dataclass(frozen=True)
class Rules:
    """Everything found in one table."""

    parents: dict[str, str] = field(default_factory=dict)
    """Finer category -> the coarser one that it fixes."""
    rates: list[Rate] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)


def decimals_of(values: Floats) -> int:
    """Digits after the point that the values need, at most 6."""
    filled = values[~np.isnan(values)]
    for digits in range(6):
        if np.allclose(filled, np.round(filled, digits), rtol=0, atol=1e-9):
            return digits
    return 6


def find_rules(columns: list[Column]) -> Rules:
    """The rules of a table that all its rows keep."""
    numbers = [column for column in columns if column.kind == "number"]
    rates = _rates(numbers)
    derived = {rate.target for rate in rates}
    free = [column for column in numbers if column.name not in derived]
    orders = _orders(free)
    return Rules(_parents(columns), rates, orders, _flags(columns, orders))


def _parents(columns: list[Column]) -> dict[str, str]:
    """Each category's nearest coarser category: the one with most values among those it fixes."""
    categories = [column for column in columns if column.kind == "category"]
    counts = {column.name: len(set(map(str, column.values))) for column in categories}
    parents: dict[str, str] = {}
    for fine in categories:
        fixed = [
            coarse.name
            for coarse in categories
            if counts[coarse.name] < counts[fine.name] and counts[coarse.name] > 1 and _fixes(fine, coarse)
        ]
        if fixed and counts[fine.name] < 0.5 * len(fine.values):
            parents[fine.name] = max(fixed, key=lambda name: counts[name])
    return parents


def _fixes(fine: Column, coarse: Column) -> bool:
    seen: dict[str, str] = {}
    for value, above in zip(fine.values, coarse.values, strict=True):
        if value is None or above is None:
            continue
        if seen.setdefault(str(value), str(above)) != str(above):
            return False
    return True


def _both(a: Column, b: Column) -> tuple[Floats, Floats]:
    keep = ~np.isnan(a.numbers) & ~np.isnan(b.numbers)
    return a.numbers[keep], b.numbers[keep]


def _rates(numbers: list[Column]) -> list[Rate]:
    rates: list[Rate] = []
    taken: set[str] = set()
    for position, source in enumerate(numbers):
        for target in numbers[position + 1 :]:
            if source.name in taken or target.name in taken:
                continue
            a, b = _both(source, target)
            large = np.abs(a) > 0
            if large.sum() < 3 or len(np.unique(a[large])) < 3:
                continue
            rate = float(np.median(b[large] / a[large]))
            decimals = decimals_of(b)
            # the constant itself is only known as well as the largest pair shows it
            biggest = int(np.argmax(np.abs(a)))
            refined = float(b[biggest] / a[biggest])
            for guess in (round(rate, 4), refined, rate):
                if np.all(np.abs(b - a * guess) <= 0.51 * 10.0**-decimals + 1e-9 * np.abs(b)):
                    rates.append(Rate(source.name, target.name, guess, decimals))
                    taken.add(target.name)
                    break
    return rates


def _orders(numbers: list[Column]) -> list[Order]:
    orders: list[Order] = []
    for low in numbers:
        for high in numbers:
            if low is high:
                continue
            a, b = _both(low, high)
            if len(a) < 5 or not np.all(a <= b) or np.all(a == b):
                continue
            orders.append(Order(low.name, high.name, bool(np.mean(a == b) >= 0.05)))
    return orders


def _flags(columns: list[Column], orders: list[Order]) -> list[Flag]:
    by_name = {column.name: column for column in columns}
    flags: list[Flag] = []
    for column in columns:
        if column.kind != "category" or len({v for v in map(str, column.values) if v != "None"}) != 2:
            continue
        for order in orders:
            seen: dict[bool, set[Any]] = defaultdict(set)
            low, high = by_name[order.low].numbers, by_name[order.high].numbers
            for value, a, b in zip(column.values, low, high, strict=True):
                if value is not None and not np.isnan(a) and not np.isnan(b):
                    seen[bool(a < b)].add(value)
            if len(seen[True]) == 1 and len(seen[False]) == 1 and seen[True] != seen[False]:
                flags.append(Flag(column.name, order.low, order.high, seen[True].pop(), seen[False].pop()))
                break
    return flags
