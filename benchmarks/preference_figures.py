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


def tables(lines: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
    """Print the figures of each arm, and each arm against ``base`` on the seeds that both have."""
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        by_arm.setdefault(line["arm"], {})[line["seed"]] = line
    report: dict[str, Any] = {}
    print("| arm | seeds | rows | whole titles wrong | price error / noise | likelihood gap | wrong when shuffled |")
    print("|---|---|---|---|---|---|---|")
    for arm, found in by_arm.items():
        one = report[arm] = figures_of(list(found.values()))
        print(
            f"| {arm} | {one['seeds']} | {one['rows']} | {one['title_wrong']:.1%} | {one['price']:.2f} | "
            f"{one['gap']:.2f} | {one['title_wrong_shuffled']:.1%} |"
        )
    print(
        f"\n| arm against {base} | seeds | whole titles wrong | price error / noise | likelihood gap | when shuffled |"
    )
    print("|---|---|---|---|---|---|")
    for arm, found in by_arm.items():
        seeds = sorted(found.keys() & by_arm[base].keys())
        if arm == base or not seeds:
            continue
        changes = against([found[seed] for seed in seeds], [by_arm[base][seed] for seed in seeds])
        report[arm]["against"] = {"arm": base, "seeds": seeds, **changes}
        cells = (f"{one['relative']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%})" for one in changes.values())
        print(f"| {arm} | {len(seeds)} | {' | '.join(cells)} |")
    return report


def figures_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over the rows of all seeds, and of each seed."""
    wrong, price, noise = (column(found, name) for name in ("title_wrong", "price_error", "noise_error"))
    return {
        "seeds": len(found),
        "rows": len(wrong),
        "title_wrong": float(wrong.mean()),
        "title_wrong_by_seed": [float(np.mean(line["title_wrong"])) for line in found],
        "price": float(np.median(price) / np.median(noise)),
        "price_by_seed": [float(np.median(line["price_error"]) / np.median(line["noise_error"])) for line in found],
        "gap": float(np.mean([gap for line in found for gap in line["gap"].values()])),
        "title_wrong_shuffled": float(column(found, "title_wrong_shuffled").mean()),
    }


def column(found: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Values of all seeds, float64[n]."""
    return np.concatenate([np.asarray(line[name], np.float64) for line in found])


def against(found: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By figure the change relative to ``base``, and the ends of its interval."""
    groups = [(line["seed"], group) for line in found for group in line["groups"]]
    changes = {}
    for name, reduce in (("title_wrong", MEAN), ("price_error", Median())):
        changes[name] = relative(reduce, column(found, name), column(base, name), groups)
    sides: list[list[float]] = [[], []]
    products = []
    for line, other in zip(found, base, strict=True):
        for row in line["gap"].keys() & other["gap"].keys():
            sides[0].append(line["gap"][row])
            sides[1].append(other["gap"][row])
            products.append((line["seed"], line["groups"][int(row)]))
    changes["gap"] = relative(MEAN, np.array(sides[0]), np.array(sides[1]), products)
    shuffled = "title_wrong_shuffled"
    changes[shuffled] = relative(MEAN, column(found, shuffled), column(base, shuffled), groups)
    return changes


def relative(reduce: Any, values: Array, base: Array, groups: Sequence[Any]) -> dict[str, float]:
    """Difference and its interval as shares of the base's figure."""
    difference, ends = paired_difference(reduce, [values], [base], groups)
    scale = float(reduce(base))
    low, high = (ends.low, ends.high) if ends else (float("nan"), float("nan"))
    return {"relative": difference / scale, "low": low / scale, "high": high / scale}
