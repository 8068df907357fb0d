"""Faults planted in metrics and statistics by rule: each is noticed, or listed here with why nothing can show it."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from phisight.evaluate.metrics import labels_and_texts
from phisight.evaluate.statistics import bootstrap, group_test, resamples, split_conformal
from tests.helpers import figure_checks
from tests.helpers.mutants import mutants

CHECKS: dict[ModuleType, Callable[[ModuleType], None]] = {
    importlib.import_module("phisight.evaluate.metrics.numbers"): figure_checks.check_numbers,  # also a function
    labels_and_texts: figure_checks.check_labels_and_texts,
    split_conformal: figure_checks.check_split_conformal,
    bootstrap: figure_checks.check_bootstrap,
    resamples: figure_checks.check_resamples,
    group_test: figure_checks.check_group_test,
}
SAME: dict[str, str] = {
    "numbers: 1 -> 2": "numpy takes every negative size for the one that is left open",
    "_with_unanswered: 0.0 -> 1.0": "a place holder: such a row takes the error of silence",
    "_for_r2: truth - truth.mean() -> truth + truth.mean()": "the spread does not depend on the center, up to rounding",
    "_for_r2: truth.mean -> truth.sum": "likewise",
    "_r2: spread > 1e-12 * square -> spread >= 1e-12 * square": "no spread is exactly that",
    "_macro_f1: 1.0 -> 2.0": "keeps a quotient defined that is not taken",
    "_codes: 1 -> 2": "any code below 0 is no class",
    "SplitConformal.fit: -1 -> +1": "of no rows, which are refused either way",
    "SplitConformal.fit: 1 -> 2": "likewise",
    "SplitConformal.fit: wanted > count + 1e-09 -> wanted >= count + 1e-09": "nothing is exactly that",
    "SplitConformal.fit: len(order) - 1 -> len(order) + 1": "guards against rounding that 1e-9 takes care of",
    "interval: -1 -> +1": "of no rows there is none either way",
    "interval: 1 -> 2": "likewise",
    "paired_difference: -1 -> +1": "likewise",
    "paired_difference: 1 -> 2": "likewise",
    "Resamples.chunks: 1 -> 2": "how many at once",
    "_cached: max -> min": "how many at once",
    "_cached: 1 -> 2": "how many at once",
    "_cached: _CELLS // resamples.groups -> _CELLS * resamples.groups": "how many at once",
    "OfMeans.resampled: -1 -> +1": "the last of two axes",
    "OfCells.__call__: 1 -> 2": "numpy takes every negative size for the one that is left open",
    "holm: 0.0 -> 1.0": "a place holder that is overwritten",
}
LOOKED_AT = (
    "2 -> 3", "1 -> 2", "0 -> 1", "max -> min", "min -> max", "sizes ** 2 -> sizes * 2",
    "_DEVIATIONS * np.sqrt((sizes ** 2).sum()) / 2 -> _DEVIATIONS * np.sqrt((sizes ** 2).sum()) * 2",
    "rows // 2 + reach + 1 -> rows // 2 + reach - 1", "rows // 2 -> rows * 2", "start <= ranks[0] -> start < ranks[0]",
)  # fmt: skip
SAME |= {
    f"Median.resampled: {what}": "how many rows around the middle are looked at; other medians come from the rows drawn"
    for what in LOOKED_AT
}
"""Changes that change nothing that can be seen, and why."""
FAST = 9
"""Every so many planted faults are tried in the fast tests."""


def unnoticed(module: ModuleType, step: int = 1) -> list[str]:
    """The planted faults that the module's check lets pass."""
    passed = []
    for what, load in list(mutants(module))[::step]:
        with (
            contextlib.suppress(Exception, pytest.fail.Exception),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            CHECKS[module](load())
            passed.append(what)
    return passed


@pytest.mark.parametrize("module", CHECKS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_figures_are_right(module: ModuleType) -> None:
    CHECKS[module](module)


@pytest.mark.slow
@pytest.mark.parametrize("module", CHECKS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_some_planted_faults_are_noticed(module: ModuleType) -> None:
    assert [what for what in unnoticed(module, FAST) if what not in SAME] == []


@pytest.mark.slow
@pytest.mark.parametrize("module", CHECKS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_planted_fault_is_noticed(module: ModuleType) -> None:
    assert [what for what in unnoticed(module) if what not in SAME] == []
