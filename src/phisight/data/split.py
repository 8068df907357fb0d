"""Splits: deterministic, whole groups, stratified by category and price band.

Groups are laid out in one line - by category, inside a category by price band, inside a band by a hash of seed and
group name - and dealt out along it, each to the split that lags furthest behind its share (systematic sampling: every
stretch of the line, so every category and band with enough groups, is shared out alike). The first group of a category
goes to train, so that no category is asked for that was never shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phisight.core.datadir import SPLITS, Split
from phisight.core.errors import SettingsError
from phisight.core.seeding import hashed_fraction

PRICE_BANDS = 5


@dataclass(frozen=True)
class SplitShares:
    """Shares of rows for train, validation and test; they add up to 1."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        values = (self.train, self.validation, self.test)
        if min(values) < 0 or abs(sum(values) - 1) > 1e-9 or self.train == 0:
            raise SettingsError(
                f"split shares {', '.join(f'{v:g}' for v in values)} must be >= 0 and add up to 1, train > 0"
            )

    def __getitem__(self, name: Split) -> float:
        return float(getattr(self, name))


@dataclass
class _Group:
    name: str
    category: str
    price: float
    rows: int = 1
    band: int = 0


def assign_splits(
    groups: Sequence[str],
    categories: Sequence[str],
    prices: Sequence[float],
    shares: SplitShares | None = None,
    seed: int = 0,
) -> list[Split]:
    """A split for each row; rows are described by group name, category and price (nan where there is none)."""
    shares = shares or SplitShares()
    found: dict[str, _Group] = {}
    for name, category, price in sorted(zip(groups, categories, prices, strict=True), key=_sort_key):
        if name in found:
            found[name].rows += 1
        else:
            found[name] = _Group(name, category, price)
    by_category: dict[str, list[_Group]] = {}
    for group in found.values():
        by_category.setdefault(group.category, []).append(group)
    chosen: dict[str, Split] = {}
    rows = dict.fromkeys(SPLITS, 0)
    for category in sorted(by_category):
        members = _in_line(by_category[category], seed)
        for position, group in enumerate(members):
            total = sum(rows.values()) + group.rows
            lag = {name: shares[name] * total - rows[name] for name in SPLITS if shares[name] > 0}
            split = "train" if position == 0 else max(SPLITS, key=lambda name: lag.get(name, float("-inf")))
            chosen[group.name] = split
            rows[split] += group.rows
    return [chosen[name] for name in groups]


def _sort_key(row: tuple[str, str, float]) -> tuple[str, str, bool, float]:
    name, category, price = row
    return name, category, price != price, 0.0 if price != price else price


def _in_line(members: list[_Group], seed: int) -> list[_Group]:
    """The groups of one category by price band, inside a band by hash."""
    members = sorted(members, key=lambda g: (*_sort_key((g.name, "", g.price))[2:], g.name))
    for position, group in enumerate(members):
        group.band = position * PRICE_BANDS // len(members)
    return sorted(members, key=lambda g: (g.band, hashed_fraction(seed, "split", g.name), g.name))
