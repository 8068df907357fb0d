"""Splits: deterministic, whole groups, stratified by category and price band.

Groups are laid out in one line - by category, inside a category by price band, inside a band by a hash of seed and
group name - and dealt out along it, each to the split that lags furthest behind its share (systematic sampling: every
stretch of the line, so every category and band with enough groups, is shared out alike). The first group of a category
goes to train, so that no category is tested that was never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phisight.core.dataset_folder import SPLITS, Split
from phisight.core.errors import SettingsError
from phisight.core.seeding import hashed_fraction

PRICE_BANDS = 5
_ROWS = 4
"""Rows that a split should have at least."""


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


def parse_shares(text: str) -> SplitShares:
    """Shares as an option gives them: ``0.8,0.1,0.1``; SettingsError for anything else."""
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--shares {text!r} must be three numbers with commas between: 0.8,0.1,0.1") from None
    return SplitShares(train, validation, test)


def empty_splits(counts: Mapping[Split, int], groups: int, shares: SplitShares, column: str | None = None) -> list[str]:
    """A sentence where a split that was asked for has no row; ``column`` is the one that names the splits itself."""
    empty = [name for name in SPLITS if not counts[name] and (column is not None or shares[name])]
    if not empty:
        return []
    found = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
    if column is not None:
        why = f"column {column!r} names none; add rows there, or deal anew with --no-own-split"
    else:
        enough = math.ceil(_ROWS / min(shares[name] for name in empty))
        products = "product" if groups == 1 else "products"
        why = f"only {groups} {products} to deal out; add some ({enough} or more), or ask for larger --shares"
    return [f"no row in split {' and '.join(empty)} ({found}): {why}"]


def assign_splits(
    groups: np.ndarray,
    categories: np.ndarray,
    prices: np.ndarray,
    fraction: np.ndarray,
    shares: SplitShares | None = None,
) -> np.ndarray:
    """uint8[K], an index into SPLITS for each of K rows.

    ``groups`` int[K] and ``categories`` int[K] are ranks in the order of the names, ``prices`` float[K] (nan: none);
    ``fraction`` float[K] in [0, 1) is a hash of seed and group name, the same for all rows of a group. A group has the
    category and price of its first row in their order.
    """
    shares = shares or SplitShares()
    priceless = np.isnan(prices)
    in_order = np.lexsort((np.nan_to_num(prices), priceless, categories, groups))
    begins = _begins(groups[in_order])
    first = in_order[begins]
    rows = np.diff(begins, append=len(groups))
    line = _line(groups[first], categories[first], priceless[first], np.nan_to_num(prices[first]), fraction[first])
    chosen = np.zeros(len(first), dtype=np.uint8)
    chosen[line] = _deal(rows[line], categories[first][line], shares)
    found = np.zeros(len(groups), dtype=np.uint8)
    found[in_order] = np.repeat(chosen, rows)
    return found


def split_fraction(seed: int, name: str) -> float:
    """Where a group stands inside its category and band, in [0, 1)."""
    return hashed_fraction(seed, "split", name)


def _begins(values: np.ndarray) -> np.ndarray:
    """Where a run of equal values begins."""
    return np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])


def _line(
    names: np.ndarray, categories: np.ndarray, priceless: np.ndarray, prices: np.ndarray, fraction: np.ndarray
) -> np.ndarray:
    """The groups by category, inside one by price band, inside that by fraction."""
    by_price = np.lexsort((names, prices, priceless, categories))
    begins = _begins(categories[by_price])
    lengths = np.diff(begins, append=len(names))
    positions = np.arange(len(names)) - np.repeat(begins, lengths)
    bands = np.zeros(len(names), dtype=np.int64)
    bands[by_price] = positions * PRICE_BANDS // np.repeat(lengths, lengths)
    return np.lexsort((names, fraction, bands, categories))


def _deal(rows: np.ndarray, categories: np.ndarray, shares: SplitShares) -> list[int]:
    """A split for each group of the line: the one that lags furthest behind its share, train for a new category."""
    wanted = [(at, shares[name]) for at, name in enumerate(SPLITS) if shares[name] > 0]
    dealt, chosen, total, last = [0] * len(SPLITS), [], 0, None
    for count, category in zip(rows.tolist(), categories.tolist(), strict=True):
        total += count
        split = 0
        if category == last:
            split = max(wanted, key=lambda share: share[1] * total - dealt[share[0]])[0]
        last = category
        dealt[split] += count
        chosen.append(split)
    return chosen
