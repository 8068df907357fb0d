"""Figures of ``price_methods.py``: errors beside those of the bars, and the coverage of intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phisight.core.dataset_folder import GROUP, METADATA, SPLITS, Split
from phisight.core.kinds.kind import as_number
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import EvalRow, interval, read_rows
from phisight.evaluate.metrics import MEAN
from phisight.evaluate.statistics.split_conformal import SplitConformal

Array = NDArray[np.float64]
Answers = Mapping[str, float | None]
"""Price by key."""
Bar = Callable[[Path, Path], Answers]
"""Price by key of a folder's rows, from what stands in it and in the training folder."""
LEVEL, MARGIN = 0.8, 0.02
CUTS = 400
"""Random cuts of a seed's rows in two."""
RULE = "attributes.parquet"
"""The sample's true attributes; a folder that holds them is a drawn one."""


@dataclass(frozen=True)
class Answered:
    """What one training's model answered."""

    seed: int
    folder: Path
    """Whose rows were answered: all of a drawn folder, the test split of another."""
    answers: Mapping[str, Answers]
    """By way to answer."""


def summary(lines: Sequence[Answered], folder: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Figures of every bar and way on one data set, each a mean and a standard deviation over seeds."""
    asked = {line.seed: line.folder for line in lines}
    bars = {"known noise": noise_left} if is_drawn(folder) else MEDIANS
    first = next(iter(bars.values()))
    strategies = {name: {seed: bar(one, folder) for seed, one in asked.items()} for name, bar in bars.items()}
    strategies |= {
        method: found
        for method in methods
        if (found := {line.seed: line.answers[method] for line in lines if method in line.answers})
    }
    report: dict[str, Any] = {"strategies": {}}
    for name, by_seed in strategies.items():
        sides = [
            (asked_of(asked[seed], answers), answers, first(asked[seed], folder)) for seed, answers in by_seed.items()
        ]
        report["strategies"][name] = figures_of(sides)
        if is_drawn(folder):
            report["strategies"][name]["coverage"] = coverage(
                {asked[seed]: answers for seed, answers in by_seed.items()}
            )
    return report


def is_drawn(folder: Path) -> bool:
    """Whether it is a sample, whose price rule is known."""
    return (folder / RULE).is_file()


@cache
def rows_of(folder: Path) -> tuple[EvalRow, ...]:
    """Rows that are answered: the test split, of a drawn folder all rows, in the order in which they were drawn."""
    task = DatasetFolder.open(folder).task
    splits: tuple[Split, ...] = SPLITS if is_drawn(folder) else ("test",)
    found = {row.key: row for split in splits for row in read_rows(folder, task, split).rows}
    return tuple(found[key] for key in groups(folder) if key in found)


@cache
def groups(folder: Path) -> dict[str, str]:
    """Group by key, in the table's order."""
    key = DatasetFolder.open(folder).card.key
    lines = pq.read_table(folder / METADATA, columns=[key, GROUP]).to_pylist()
    return {str(line[key]): str(line[GROUP]) for line in lines}


@cache
def truths(folder: Path) -> dict[str, float]:
    """True price by key of the rows that are answered."""
    (name,) = DatasetFolder.open(folder).task.of_kind("number")
    return {row.key: as_number(row.truth[name]) for row in rows_of(folder)}


def asked_of(folder: Path, answers: Answers) -> dict[str, float]:
    """True price by key of the rows that a way answered, which may be the first ones only."""
    return {key: price for key, price in truths(folder).items() if key in answers}


def figures_of(sides: Sequence[tuple[Mapping[str, float], Answers, Answers]]) -> dict[str, Any]:
    """Of truth, answers and bar by seed: figures over seeds, and the paired bootstrap of the absolute error less the
    bar's (a row that several seeds answered counts with its mean).
    """
    found = [figures(truth, answers, bar) for truth, answers, bar in sides]
    result: dict[str, Any] = {"seeds": len(found), "rows": sum(len(truth) for truth, _, _ in sides)}
    result |= {name: spread([one[name] for one in found]) for name in found[0]}
    gaps: dict[str, list[float]] = {}
    for truth, answers, bar in sides:
        for key, gap in zip(truth, errors(truth, answers) - errors(truth, bar), strict=True):
            gaps.setdefault(key, []).append(float(gap))
    by_row = np.array([np.mean(one) for one in gaps.values()])
    ends = interval(MEAN, [by_row])
    return result | {"less_bar": {"mean": float(by_row.mean()), "interval": [ends.low, ends.high] if ends else None}}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def errors(truth: Mapping[str, float], answers: Answers) -> Array:
    """Absolute error of each row; an unread answer counts as 0."""
    return np.array([abs((answers[key] or 0.0) - price) for key, price in truth.items()])


def figures(truth: Mapping[str, float], answers: Answers, bar: Answers) -> dict[str, float]:
    """MAE, its share of the bar's, median APE and SMAPE; an unread answer counts as 0."""
    prices, off = np.array(list(truth.values())), errors(truth, answers)
    given = np.array([answers[key] or 0.0 for key in truth])
    return {
        "mae": float(off.mean()),
        "mae_to_bar": float(off.mean() / errors(truth, bar).mean()),
        "median_ape": float(np.median(off / prices)),
        "smape": float((2 * off / (prices + given)).mean()),
    }


def coverage(by_folder: Mapping[Path, Answers]) -> dict[str, Any]:
    """Coverage of intervals over seeds: fitted on the first half of the rows and checked on the second one; the same
    over random cuts that keep the rows of a group together, and the share of these within two points (``near``).
    """
    plain, drawn = [], []
    for folder, answers in by_folder.items():
        kept = [key for key in truths(folder) if answers.get(key) is not None]
        truth = np.array([truths(folder)[key] for key in kept])
        given = np.array([answers[key] for key in kept], dtype=np.float64)
        _, group = np.unique([groups(folder)[key] for key in kept], return_inverse=True)
        first = group <= group[len(kept) // 2]  # groups are numbered in the order in which they were drawn
        plain.append(covered(truth, given, first))
        rng = np.random.default_rng(0)
        cuts = [rng.permutation(group.max() + 1)[group] <= group.max() // 2 for _ in range(CUTS)]
        drawn.append([covered(truth, given, cut) for cut in cuts])
    every = np.array(drawn)
    return {
        "level": LEVEL,
        "by_seed": plain,
        "plain": spread(plain),
        "cuts": {"mean": float(every.mean()), "sd": float(every.std(axis=1, ddof=1).mean())},
        "near": float((np.abs(every - LEVEL) <= MARGIN).mean()),
    }


def covered(truth: Array, given: Array, first: NDArray[np.bool_]) -> float:
    """Coverage on the other rows of intervals fitted on the ``first`` ones."""
    return SplitConformal.fit(truth[first], given[first], LEVEL).coverage(truth[~first], given[~first])


def noise_left(asked: Path, _folder: Path) -> Answers:
    """What the price rule alone says: nobody who does not know the noise can be better."""
    lines = pq.read_table(asked / RULE, columns=["product_code", "rule_price"]).to_pylist()
    return {line["product_code"]: line["rule_price"] for line in lines}


def category_median(asked: Path, folder: Path) -> Answers:
    """The median price of the true category in the training split, of all of it where the category is not there."""
    middle = medians(folder)
    return {row.key: middle.get(_category(row, asked), middle[""]) for row in rows_of(asked)}


def one_median(asked: Path, folder: Path) -> Answers:
    """The median price of the training split, for each row."""
    return dict.fromkeys(truths(asked), medians(folder)[""])


MEDIANS: dict[str, Bar] = {"median of the true category": category_median, "one median for all": one_median}


@cache
def medians(folder: Path) -> dict[str, float]:
    """Median price by category of the training split; of all of it under the name ``""``."""
    task = DatasetFolder.open(folder).task
    (price,) = task.of_kind("number")
    members: dict[str, list[float]] = {}
    for row in read_rows(folder, task, "train").rows:
        for name in (_category(row, folder), ""):
            members.setdefault(name, []).append(as_number(row.truth[price]))
    return {name: float(np.median(prices)) for name, prices in members.items()}


def _category(row: EvalRow, folder: Path) -> str:
    (name,) = DatasetFolder.open(folder).task.of_kind("category")
    return str(row.truth[name])


def show(report: Mapping[str, Any]) -> None:
    """The tables."""
    for data, part in report.items():
        print(f"\n{data}: {part['training']}")
        print("| numbers | seeds | rows | MAE | MAE / bar | median APE | SMAPE | MAE - bar, 95 % |")
        print("|---|---|---|---|---|---|---|---|")
        for name, one in part["strategies"].items():
            print("| " + " | ".join([name, *cells(one)]) + " |")
        covering = {name: one["coverage"] for name, one in part["strategies"].items() if "coverage" in one}
        if covering:
            print(f"\nintervals of {LEVEL:.0%}")
            print(f"| numbers | second half | {CUTS} cuts by group | cuts within {MARGIN:.0%} | by seed |")
            print("|---|---|---|---|---|")
        for name, one in covering.items():
            seeds = ", ".join(f"{value:.1%}" for value in one["by_seed"])
            print(f"| {name} | {share(one['plain'])} | {share(one['cuts'])} | {one['near']:.0%} | {seeds} |")


def cells(one: Mapping[str, Any]) -> Iterator[str]:
    """A line of a table."""
    low, high = one["less_bar"]["interval"]
    yield str(one["seeds"])
    yield str(one["rows"])
    yield f"{one['mae']['mean']:.2f} ± {one['mae']['sd']:.2f}"
    yield f"{one['mae_to_bar']['mean']:.2f} ± {one['mae_to_bar']['sd']:.2f}"
    yield share(one["median_ape"])
    yield share(one["smape"])
    yield f"{one['less_bar']['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def share(one: Mapping[str, float]) -> str:
    """Mean and standard deviation of shares."""
    return f"{one['mean']:.1%} ± {one['sd']:.1%}"
