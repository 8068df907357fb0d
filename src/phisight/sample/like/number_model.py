"""Numbers drawn within their categories: smoothed quantiles, ranks that move together, endings like the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.sample.like.categories import Leaf, Rows
from phisight.sample.like.column_kinds import Column
from phisight.sample.like.rules import Rules, decimals_of

Floats = NDArray[np.float64]
_ENOUGH = 30  # values that show the shape of a distribution
_PRIOR = 3.0  # weight, in rows, of the wider context


@dataclass(frozen=True)
class _Ending:
    """Values end in one of ``residues`` modulo ``modulus``, with these shares."""

    modulus: float
    residues: Floats
    shares: Floats


class Endings:
    """How the numbers of a column end, by order of magnitude: 0.99, 90, multiples of 5."""

    def __init__(self, values: Floats) -> None:
        filled = values[~np.isnan(values)]
        self._decimals = decimals_of(filled)
        usual = _ending(filled, 0, self._decimals)
        self._by_decade = {
            int(decade): _ending(filled[_decade(filled) == decade], int(decade), self._decimals) or usual
            for decade in np.unique(_decade(filled))
        }

    def snap(self, values: Floats, rng: np.random.Generator) -> Floats:
        """The nearest values with an ending of the column; the ending is drawn as often as it really occurs."""
        snapped = np.round(values, self._decimals)
        decades = _decade(values)
        for decade, ending in self._by_decade.items():
            here = decades == decade
            if ending is None or not here.any():
                continue
            residue = rng.choice(ending.residues, size=int(here.sum()), p=ending.shares)
            steps = np.round((values[here] - residue) / ending.modulus)
            moved = steps * ending.modulus + residue
            snapped[here] = np.round(np.where((moved > 0) == (values[here] > 0), moved, values[here]), self._decimals)
        return snapped


def _decade(values: Floats) -> NDArray[np.int64]:
    size = np.maximum(np.abs(values), 1e-6)
    result: NDArray[np.int64] = np.floor(np.log10(size) + 1e-9).astype(np.int64)
    return result


def _ending(values: Floats, decade: int, decimals: int) -> _Ending | None:
    for modulus in (1000.0, 100.0, 10.0, 1.0, 0.1):
        if modulus > max(1.0, 10.0 ** (decade - 1)) or len(values) < 8:
            continue
        residues, counts = np.unique(np.round(values % modulus, decimals), return_counts=True)
        often = counts >= 2
        if often.sum() <= 12 and counts[often].sum() >= 0.95 * len(values) and often.any():
            return _Ending(modulus, residues[often], counts[often] / counts[often].sum())
    return None


@dataclass(frozen=True)
class _Shape:
    """A column over some real rows: those that hold a value, and their values sorted."""

    rows: Rows
    filled: Rows
    z: Floats
    mean: float
    variance: float

    def quantile(self, ranks: Floats) -> Floats:
        """Values at ranks 0 to 1, between the real ones."""
        return np.interp(ranks, (np.arange(len(self.z)) + 0.5) / len(self.z), self.z)


class NumberModel:
    """Distribution of one number column within the leaves of the categories."""

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self._values = column.numbers
        self._shapes: dict[int, _Shape] = {}
        filled = column.numbers[~np.isnan(column.numbers)]
        self._log = bool(len(filled) and filled.min() > 0 and filled.max() > 3 * np.median(filled))
        self._z = np.log(column.numbers) if self._log else column.numbers
        self._low, self._high = float(np.nanmin(self._z)), float(np.nanmax(self._z))
        self.endings = Endings(column.numbers) if column.kind == "number" else None

    def shape(self, rows: Rows) -> _Shape:
        """The values of some real rows; kept, since many leaves share their wider rows."""
        known = self._shapes.get(id(rows))
        if known is None:
            filled = rows[~np.isnan(self._values[rows])]
            z = np.sort(self._z[filled])
            mean, variance = (float(z.mean()), float(z.var())) if len(z) else (0.0, 0.0)
            known = self._shapes[id(rows)] = _Shape(rows, filled, z, mean, variance)
        return known

    def context(self, leaf: Leaf) -> _Shape:
        """The narrowest real rows that show a shape."""
        shapes = [self.shape(rows) for rows in leaf.contexts]
        return next((each for each in shapes if len(each.z) >= _ENOUGH), max(shapes, key=lambda each: len(each.z)))

    def draw(self, leaf: Leaf, ranks: Floats) -> Floats:
        """Values at the given ranks (0 to 1) for the rows of a leaf."""
        wide, near = self.context(leaf), self.shape(leaf.contexts[0])
        z = wide.quantile(ranks)
        if 0 < len(near.z) < len(wide.z):
            weight = len(near.z) / (len(near.z) + _PRIOR)
            center = weight * near.mean + (1 - weight) * wide.mean
            variance = weight * near.variance + (1 - weight) * 0.5 * wide.variance
            scale = min(1.0, float(np.sqrt(variance / wide.variance))) if wide.variance > 0 else 1.0
            z = np.clip(center + scale * (z - wide.mean), self._low, self._high)
        return np.exp(z) if self._log else z

    def ranks(self, rows: Rows) -> Floats:
        """Rank of each real row among ``rows``, 0 to 1, ties in a fixed order."""
        order = np.argsort(np.argsort(self._values[rows], kind="stable"), kind="stable")
        return (order + 0.5) / len(rows)


def draw_numbers(
    columns: list[Column],
    rules: Rules,
    leaves: list[Leaf],
    categories: Mapping[str, list[Any]],
    count: int,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Number and date columns for ``count`` rows; rates, orders, flags and endings of the real table hold."""
    by_name = {column.name: column for column in columns}
    derived = {rate.target for rate in rules.rates}
    below = _ceilings(rules)
    free = [column for column in columns if column.name not in derived and column.name not in below]
    drawn = _free_columns([NumberModel(column) for column in free], leaves, count, rng)
    for low, high in below.items():
        flagged = None
        for flag in rules.flags:
            if (flag.low, flag.high) == (low, high):
                flagged = np.array([value == flag.below for value in categories[flag.column]])
        drawn[low] = _below(by_name[low], by_name[high], drawn[high], flagged, leaves, rng)
    for order in rules.orders:
        if order.low in drawn and order.high in drawn and order.low not in below:
            drawn[order.low] = np.minimum(drawn[order.low], drawn[order.high])
    for rate in rules.rates:
        drawn[rate.target] = np.round(drawn[rate.source] * rate.rate, rate.decimals)
    return drawn


def _ceilings(rules: Rules) -> dict[str, str]:
    """Columns drawn as a share of another, which is drawn freely."""
    close = {order.low: order.high for order in rules.orders if order.close}
    return {low: high for low, high in close.items() if high not in close}


def _free_columns(
    models: list[NumberModel], leaves: list[Leaf], count: int, rng: np.random.Generator
) -> dict[str, Floats]:
    drawn = {model.name: np.zeros(count) for model in models}
    for leaf in leaves:
        size = len(leaf.rows)
        first: NumberModel | None = None
        lead = (rng.permutation(size) + rng.random(size)) / size
        for model in models:
            ranks = lead
            if first is not None:
                ranks = _coupled(first, model, leaf, lead, rng)
            else:
                first = model
            drawn[model.name][leaf.rows] = model.draw(leaf, ranks)
    for model in models:
        if model.endings is not None:
            drawn[model.name] = model.endings.snap(drawn[model.name], rng)
    return drawn


def _coupled(first: NumberModel, model: NumberModel, leaf: Leaf, lead: Floats, rng: np.random.Generator) -> Floats:
    """Ranks of a second number beside the first one's: those of real neighbors in rank, moved a little."""
    rows = first.shape(model.context(leaf).filled).filled
    if len(rows) < 3:
        return rng.random(len(lead))
    mine, theirs = first.ranks(rows), model.ranks(rows)
    reach = max(1.5, 0.02 * len(rows))
    order = np.argsort(mine)
    at = lead * len(rows) - 0.5 + rng.uniform(-reach, reach, len(lead))
    chosen = order[np.clip(np.round(at), 0, len(rows) - 1).astype(np.int64)]
    return np.clip(theirs[chosen] + rng.uniform(-reach, reach, len(lead)) / len(rows), 0, 1)


def _below(
    low: Column,
    high: Column,
    ceiling: Floats,
    flagged: NDArray[np.bool_] | None,
    leaves: list[Leaf],
    rng: np.random.Generator,
) -> Floats:
    """A number as a share of another (``ceiling``): equal as often as it was equal, else cut as it was cut.

    ``flagged`` says for each row whether it is cut, where a flag column tells.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(high.numbers > 0, low.numbers / high.numbers, np.nan)
    every = np.flatnonzero(share < 1)
    if not len(every):
        return ceiling
    cut = np.zeros(len(ceiling), dtype=bool)
    result = ceiling.copy()
    for leaf in leaves:
        size = len(leaf.rows)
        near = next((rows for rows in leaf.contexts if np.any(~np.isnan(share[rows]))), every)
        ranks = (rng.permutation(size) + rng.random(size)) / size
        cut[leaf.rows] = (
            ranks < np.mean(share[near][~np.isnan(share[near])] < 1) if flagged is None else flagged[leaf.rows]
        )
        below = (rows[share[rows] < 1] for rows in leaf.contexts)
        cuts = share[next((rows for rows in below if len(rows) >= 10), every)]
        picked = cuts[rng.integers(len(cuts), size=size)]
        whole = np.round(picked, 2)
        result[leaf.rows] *= np.where(np.abs(picked - whole) < 0.01, whole, picked)
    digits = decimals_of(low.numbers)
    snapped = Endings(low.numbers).snap(result, rng)
    snapped = np.where(snapped < ceiling, snapped, np.minimum(result, ceiling - 10.0**-digits))
    return np.where(cut, np.round(snapped, digits), ceiling)
