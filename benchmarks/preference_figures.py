"""Figures of ``preference.py``: each arm's, and each arm's against another on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.evaluate import paired_difference
from phisight.evaluate.metrics import MEAN
from phisight.evaluate.statistics.resamples import Median

Array = NDArray[np.float64]
Line = Mapping[str, Any]
WRONG, SHUFFLED, PRICE, NOISE, GAP = "_wrong", "_wrong_shuffled", "price_error", "noise_error", "gap"


def tables(lines: Sequence[Line], base: str) -> dict[str, Any]:
    """Print the figures of each arm, and each arm against ``base`` on the seeds that both have."""
    by_arm: dict[str, dict[int, Line]] = {}
    for line in lines:
        by_arm.setdefault(line["arm"], {})[line["seed"]] = line
    names = columns(lines)
    headings = [heading(name, noise=NOISE in names) for name in names if name != NOISE]
    report: dict[str, Any] = {}
    print("\n| arm | seeds | rows | " + " | ".join(headings) + " |\n" + "|---" * (3 + len(headings)) + "|")
    for arm, found in by_arm.items():
        one = report[arm] = figures_of(list(found.values()), names)
        cells = (shown(name, value, noise=NOISE in names) for name, value in one["figures"].items())
        print(f"| {arm} | {one['seeds']} | {one['rows']} | {' | '.join(cells)} |")
    print(f"\n| arm against {base} | seeds | " + " | ".join(headings) + " |\n" + "|---" * (2 + len(headings)) + "|")
    for arm, found in by_arm.items():
        seeds = sorted(found.keys() & by_arm.get(base, {}).keys())
        if arm == base or not seeds:
            continue
        changes = against([found[seed] for seed in seeds], [by_arm[base][seed] for seed in seeds], names)
        report[arm]["against"] = {"arm": base, "seeds": seeds, **changes}
        cells = (f"{one['relative']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%})" for one in changes.values())
        print(f"| {arm} | {len(seeds)} | {' | '.join(cells)} |")
    return report


def columns(lines: Sequence[Line]) -> list[str]:
    """What every line holds of each row, in the order of the tables."""
    names = [name for name in lines[0] if all(name in line for line in lines)]
    ends = (WRONG, PRICE, NOISE, GAP, SHUFFLED)
    return [name for end in ends for name in names if name.endswith(end)]


def heading(name: str, *, noise: bool) -> str:
    """Title of a column."""
    fixed = {PRICE: "price error / noise" if noise else "price error", GAP: "likelihood gap"}
    return fixed.get(name) or name.replace(SHUFFLED, " wrong, another's image").replace(WRONG, " wrong")


def shown(name: str, value: float, *, noise: bool) -> str:
    """A figure as text."""
    return f"{value:.2f}" if name == GAP or (name == PRICE and noise) else f"{value:.1%}"


def figures_of(found: Sequence[Line], names: Sequence[str]) -> dict[str, Any]:
    """Figures over the rows of all seeds, and of each seed; the price's over the known noise where there is one."""
    return {
        "seeds": len(found),
        "rows": sum(len(line["groups"]) for line in found),
        "figures": {name: figure(found, name, names) for name in names if name != NOISE},
        "by_seed": {name: [figure([line], name, names) for line in found] for name in names if name != NOISE},
    }


def figure(found: Sequence[Line], name: str, names: Sequence[str]) -> float:
    """One figure over the rows of some seeds."""
    if name == GAP:
        return float(np.mean([gap for line in found for gap in line[GAP].values()]))
    if name != PRICE:
        return float(column(found, name).mean())
    return float(np.median(column(found, PRICE)) / (np.median(column(found, NOISE)) if NOISE in names else 1))


def column(found: Sequence[Line], name: str) -> Array:
    """Values of all seeds, float64[n]."""
    return np.concatenate([np.asarray(line[name], np.float64) for line in found])


def against(found: Sequence[Line], base: Sequence[Line], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By figure the change relative to ``base``, and the ends of its interval."""
    changes = {}
    for name in names:
        if name == GAP:
            changes[GAP] = gap_against(found, base)
        elif name != NOISE:
            groups = [product(line, group) for line in found for group in line["groups"]]
            reduce = Median() if name == PRICE else MEAN
            changes[name] = relative(reduce, column(found, name), column(base, name), groups)
    return changes


def gap_against(found: Sequence[Line], base: Sequence[Line]) -> dict[str, float]:
    """The change of the likelihood gap on the rows of which both sides have one."""
    sides: list[list[float]] = [[], []]
    products = []
    for line, other in zip(found, base, strict=True):
        for row in sorted(line[GAP].keys() & other[GAP].keys(), key=int):
            sides[0].append(line[GAP][row])
            sides[1].append(other[GAP][row])
            products.append(product(line, line["groups"][int(row)]))
    return relative(MEAN, np.array(sides[0]), np.array(sides[1]), products)


def product(line: Line, group: str) -> tuple[int, str]:
    """What counts once: drawn products are others for each seed, those of a data set's split the same for all."""
    return (0 if line.get("split") else line["seed"], group)


def relative(reduce: Any, values: Array, base: Array, groups: Sequence[Any]) -> dict[str, float]:
    """Difference and its interval as shares of the base's figure; not a number where that is zero."""
    difference, ends = paired_difference(reduce, [values], [base], groups)
    scale = abs(float(reduce(base))) or float("nan")
    low, high = (ends.low, ends.high) if ends else (float("nan"), float("nan"))
    return {"relative": difference / scale, "low": low / scale, "high": high / scale, "difference": difference}
