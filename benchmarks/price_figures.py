"""Figures of ``price_methods.py``: errors beside those of the bars, and the coverage of intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phisight.core.datadir import GROUP, METADATA, Split
from phisight.core.task import Task
from phisight.data.folder import DatasetFolder
from phisight.evaluate import EvalRow, interval, read_rows
from phisight.evaluate.intervals import SplitConformal

Array = NDArray[np.float64]
Answers = Mapping[str, float | None]
"""Price by key."""
LEVEL, MARGIN = 0.8, 0.02
CUTS = 400
"""Random cuts of validation and test rows in two."""


def summary(
    data: str, lines: Sequence[Mapping[str, Any]], folder: Path, methods: Sequence[str], limit: int | None
) -> dict[str, Any]:
    """Figures of every way on one data set, each a mean and a standard deviation over seeds; the first bar counts."""
    task = DatasetFolder.open(folder).task
    truth = truths(folder, task, "test", limit)
    bars = noise_left(folder, truth) if data == "catalogue" else medians(folder, task, truth, limit)
    found: dict[str, Any] = {
        "rows": len(truth),
        "bars": {name: figures(truth, bar) for name, bar in bars.items()},
        "methods": {},
    }
    for method in methods:
        seeds = [line[method] for line in lines if method in line]
        if not seeds:
            continue
        found["methods"][method] = per_method([one["test"] for one in seeds], truth, next(iter(bars.values())))
        if "validation" in seeds[0]:
            kept = truths(folder, task, "validation", limit)
            found["methods"][method]["coverage"] = coverage(seeds, {"validation": kept, "test": truth}, groups(folder))
    return found


def truths(folder: Path, task: Task, split: Split, limit: int | None) -> dict[str, float]:
    """True price by key."""
    (name,) = task.of_kind("number")
    return {row.key: float(row.truth[name]) for row in read_rows(folder, task, split, limit=limit).rows}


def groups(folder: Path) -> dict[str, str]:
    """Group by key."""
    key = DatasetFolder.open(folder).card.key
    lines = pq.read_table(folder / METADATA, columns=[key, GROUP]).to_pylist()
    return {str(line[key]): line[GROUP] for line in lines}


def per_method(seeds: Sequence[Answers], truth: Mapping[str, float], bar: Answers) -> dict[str, Any]:
    """Figures over seeds, and the paired bootstrap of the absolute error against the bar (mean over seeds by row)."""
    found = [figures(truth, answers) for answers in seeds]
    result: dict[str, Any] = {"seeds": len(found)}
    for name in found[0]:
        result[name] = spread([one[name] for one in found])
    theirs = np.stack([errors(truth, answers) for answers in seeds]).mean(axis=0)
    gap = theirs - errors(truth, bar)
    ends = interval(_mean, [gap])
    result["mae_less_bar"] = {"mean": float(gap.mean()), "interval": [ends.low, ends.high] if ends else None}
    return result


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation."""
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _mean(values: Array, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def errors(truth: Mapping[str, float], answers: Answers) -> Array:
    """Absolute error of each row; an unread answer counts as 0."""
    return np.array([abs((answers[key] or 0.0) - price) for key, price in truth.items()])


def figures(truth: Mapping[str, float], answers: Answers) -> dict[str, float]:
    """MAE, median APE and SMAPE over the test rows; an unread answer counts as 0."""
    prices, off = np.array(list(truth.values())), errors(truth, answers)
    given = np.array([answers[key] or 0.0 for key in truth])
    return {
        "mae": float(off.mean()),
        "median_ape": float(np.median(off / prices)),
        "smape": float((2 * off / (prices + given)).mean()),
    }


def coverage(
    seeds: Sequence[Mapping[str, Answers]], truth: Mapping[str, Mapping[str, float]], group: Mapping[str, str]
) -> dict[str, Any]:
    """Coverage of intervals, over seeds: fitted on validation and checked on test, and over random cuts of both.

    A cut keeps the rows of a group together; ``near`` is the share of the cuts within two points of the level.
    """
    split, drawn = [], []
    for seed, answers in enumerate(seeds):
        sides = [paired(truth[name], answers[name]) for name in ("validation", "test")]
        split.append(SplitConformal.fit(*sides[0][1:], LEVEL).coverage(*sides[1][1:]))
        keys, prices, given = (np.concatenate(column) for column in zip(*sides, strict=True))
        _, members = np.unique([group[key] for key in keys], return_inverse=True)
        drawn.append(cuts(members, prices, given, np.random.default_rng(seed)))
    every = np.concatenate(drawn)
    return {
        "level": LEVEL,
        "split": spread(split),
        "cuts": {"mean": float(every.mean()), "sd": float(np.mean([one.std(ddof=1) for one in drawn]))},
        "near": float((np.abs(every - LEVEL) <= MARGIN).mean()),
    }


def paired(truth: Mapping[str, float], answers: Answers) -> tuple[NDArray[Any], Array, Array]:
    """Keys, truths and answers of the rows whose answer could be read."""
    keys = [key for key in truth if answers[key] is not None]
    return np.array(keys), np.array([truth[key] for key in keys]), np.array([answers[key] for key in keys], dtype=float)


def cuts(members: NDArray[Any], prices: Array, given: Array, rng: np.random.Generator) -> Array:
    """Coverage float64[CUTS] on the second half of the groups, fitted on the first."""
    found = []
    for _ in range(CUTS):
        first = rng.permutation(members.max() + 1)[members] <= members.max() // 2
        found.append(SplitConformal.fit(prices[first], given[first], LEVEL).coverage(prices[~first], given[~first]))
    return np.array(found)


def noise_left(folder: Path, truth: Mapping[str, float]) -> dict[str, Answers]:
    """What the price rule alone says: nobody who does not know the noise can be better."""
    lines = pq.read_table(folder / "attributes.parquet", columns=["product_code", "rule_price"]).to_pylist()
    return {"known noise": {one["product_code"]: one["rule_price"] for one in lines if one["product_code"] in truth}}


def medians(folder: Path, task: Task, truth: Mapping[str, float], limit: int | None) -> dict[str, Answers]:
    """The median price of the true category in the training half (of all of it where the category is not there), and
    of the whole training half.
    """
    (price,), (category,) = task.of_kind("number"), task.of_kind("category")
    members: dict[str, list[float]] = {}
    for row in read_rows(folder, task, "train").rows:
        for name in (category_of(row, category), ""):
            members.setdefault(name, []).append(float(row.truth[price]))
    middle = {name: float(np.median(prices)) for name, prices in members.items()}
    asked = {row.key: category_of(row, category) for row in read_rows(folder, task, "test", limit=limit).rows}
    return {
        "median of the true category": {key: middle.get(asked[key], middle[""]) for key in truth},
        "one median for all": dict.fromkeys(truth, middle[""]),
    }


def category_of(row: EvalRow, name: str) -> str:
    """The true category."""
    return str(row.truth[name])


def show(report: Mapping[str, Any]) -> None:
    """The tables."""
    for data, part in report.items():
        print(f"\n{data}: {part['rows']} rows; {part['training']}")
        print("| numbers | seeds | MAE | MAE / bar | median APE | SMAPE | MAE - bar, 95 % |")
        print("|---|---|---|---|---|---|---|")
        bar = next(iter(part["bars"].values()))
        for name, one in part["bars"].items():
            share = f"{one['mae'] / bar['mae']:.2f}"
            print(f"| {name} | - | {one['mae']:.2f} | {share} | {one['median_ape']:.1%} | {one['smape']:.1%} | - |")
        for method, one in part["methods"].items():
            print("| " + " | ".join([method, *cells(one, bar)]) + " |")
        covered = {method: one["coverage"] for method, one in part["methods"].items() if "coverage" in one}
        if covered:
            print(f"\nintervals of {LEVEL:.0%}, fitted on validation rows")
            print(f"| numbers | coverage on test | {CUTS} cuts in two, by group | cuts within {MARGIN:.0%} |")
            print("|---|---|---|---|")
        for method, one in covered.items():
            middle, sd = one["cuts"]["mean"], one["cuts"]["sd"]
            print(f"| {method} | {shares(one['split'])} | {middle:.1%} ± {sd:.1%} | {one['near']:.0%} |")


def cells(one: Mapping[str, Any], bar: Mapping[str, float]) -> Iterator[str]:
    """A line of a table."""
    low, high = one["mae_less_bar"]["interval"]
    yield str(one["seeds"])
    yield f"{one['mae']['mean']:.2f} ± {one['mae']['sd'] or 0:.2f}"
    yield f"{one['mae']['mean'] / bar['mae']:.2f}"
    yield shares(one["median_ape"])
    yield shares(one["smape"])
    yield f"{one['mae_less_bar']['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def shares(one: Mapping[str, Any]) -> str:
    """Mean and standard deviation of shares."""
    return f"{one['mean']:.1%} ± {one['sd'] or 0:.1%}"
