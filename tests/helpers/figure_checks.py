"""What metrics and statistics must give, by plain loops, scikit-learn and scipy: one check for each of their modules.

Each check takes the module, so that one with a planted fault can be asked the same.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.stats import bootstrap, wilcoxon

from phisight.core.errors import EvaluationError
from phisight.evaluate.statistics.resamples import Resamples

Answers = Sequence[float | None]
_EDGES: list[tuple[list[float], list[float | None]]] = [
    ([10.0, 20.0, 40.0, 100.0, 8.0], [11.0, 20.0, 30.0, 300.0, None]),
    ([100.0, 100.0, 100.0, 100.0], [110.0, 90.0, 125.0, 75.0]),
    ([100.0, 100.0, -100.0], [110.001, 125.001, -125.0]),
    ([0.0, 0.0, 4.0], [0.001, 0.0, 5.0]),
    ([0.0, -2.0, 3.0, 0.5], [None, -1.0, -7.0, 0.4]),
    ([1e-308, 3.0], [2.0, 3.0]),
    ([5.0, 5.0], [1.0, 2.0]),
    ([7.0], [None]),
]


@cache
def _drawn() -> list[tuple[list[float], list[float | None]]]:
    draw = np.random.default_rng(0)
    cases = []
    for rows in (1, 2, 7, 30):
        truth = draw.normal(20, 15, rows).round(2).tolist()
        given = [value * draw.lognormal(0, 0.2) if draw.random() < 0.8 else None for value in truth]
        cases.append((truth, given))
    return [*_EDGES, *cases]


def _ape(truth: float, given: float) -> float | None:
    return min(abs(given - truth) / abs(truth), 1e12) if truth else None


def _smape(truth: float, given: float) -> float:
    return 2 * abs(given - truth) / (abs(truth) + abs(given)) if truth or given else 0.0


def _log(truth: float, given: float) -> float | None:
    return (math.log1p(max(given, 0.0)) - math.log1p(truth)) ** 2 if truth >= 0 else None


def _distance(truth: float, given: float) -> float:
    return abs(given - truth)


_ERRORS: dict[str, tuple[Callable[[float, float], float | None], Callable[[list[float]], float]]] = {
    "mae": (_distance, statistics.fmean),
    "median_ape": (_ape, statistics.median),
    "mape": (_ape, statistics.fmean),
    "smape": (_smape, statistics.fmean),
    "rmsle": (_log, lambda values: math.sqrt(statistics.fmean(values))),
}


def _expected(name: str, truth: list[float], given: Answers, typical: float) -> float | None:
    pairs = [(wanted, one) for wanted, one in zip(truth, given, strict=True) if one is not None]
    if name.startswith("within"):
        share = float(name[-2:]) / 100
        near = sum(abs(one - wanted) <= share * abs(wanted) * (1 + 1e-9) for wanted, one in pairs)
        return near / len(truth)
    if name == "r2":
        return reference.r2_score(*zip(*pairs, strict=True)) if len({wanted for wanted, _ in pairs}) > 1 else None
    error, reduce = _ERRORS[name.removesuffix("_penalized")]
    if name.endswith("_penalized"):
        found = [
            error(wanted, one)
            if one is not None
            else max((error(wanted, 0.0), error(wanted, typical)), key=lambda value: -1.0 if value is None else value)
            for wanted, one in zip(truth, given, strict=True)
        ]
    else:
        found = [error(wanted, one) for wanted, one in pairs]
    defined = [value for value in found if value is not None]
    return reduce(defined) if defined else None


def check_numbers(module: ModuleType) -> None:
    """Every metric of numbers on drawn and edge cases; which rows are behind it; what may decide."""
    complete = {"within_10", "within_25", "mae_penalized", "median_ape_penalized", "smape_penalized"}
    assert {metric.name for metric in module.NUMBERS} == {*_ERRORS, "r2", *complete}
    assert (module.TOLERANCE, module.LARGEST_MISS) == (0.1, 1e12)
    for metric in module.NUMBERS:
        assert metric.complete is (metric.name in complete)
        assert metric.higher_is_better is (metric.name == "r2" or metric.name.startswith("within"))
        for (truth, given), typical in itertools.product(_drawn(), (0.0, 30.0, -3.0)):
            expected = _expected(metric.name, truth, given, typical)
            assert metric(truth, given, typical) == (None if expected is None else pytest.approx(expected, rel=1e-7))
            rows = metric.values(truth, given, typical).rows.tolist()
            answered = [row for row, one in enumerate(given) if one is not None]
            if "ape" in metric.name.replace("smape", ""):
                answered = [row for row in answered if truth[row]]
                wanted = [row for row, one in enumerate(truth) if one] if metric.complete else answered
            elif metric.name == "rmsle":
                wanted = [row for row in answered if truth[row] >= 0]
            else:
                wanted = list(range(len(truth))) if metric.complete else answered
            assert rows == wanted
    spread = next(metric for metric in module.NUMBERS if metric.name == "r2").reduce
    left, right = (np.random.default_rng(seed).lognormal(2, 0.5, 12) for seed in (0, 1))
    draws = Resamples(12, 20, 4)
    assert spread.resampled((left, right), np.arange(12), draws) == pytest.approx(
        _brute(reference.r2_score, (left, right), np.arange(12), draws)
    )


_LABELS: list[tuple[list[str], list[str | None]]] = [
    (["a", "a", "b"], ["a", "zebra", "b"]),
    (["a", "b", "c", "c"], ["b", "b", None, "c"]),
    (["a"], [None]),
    (["Check Scarf", "a b", "x"], ["check scarf red", "a b", None]),
    (["b a a", "", "scarf", "", "hat"], ["a c a a", "", "scarfs", "bag", ""]),
]


def _shared(truth: str, given: str) -> float:
    left, right = truth.lower().split(), given.lower().split()
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right)) if left or right else 1.0


def _alike(truth: str, given: str) -> float:
    row = list(range(len(given) + 1))
    for at, one in enumerate(truth, 1):
        row, above = [at], row
        for place, other in enumerate(given, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (one != other)))
    longest = max(len(truth), len(given))
    return 1 - row[-1] / longest if longest else 1.0


def check_labels_and_texts(module: ModuleType) -> None:
    """Categories by scikit-learn, texts by plain loops."""
    for truth, given in _LABELS:
        known = [one if one is not None else "no answer" for one in given]
        pairs = list(zip(truth, given, strict=True))
        expected = {
            "accuracy": reference.accuracy_score(truth, known),
            "macro_f1": reference.f1_score(truth, known, labels=sorted(set(truth)), average="macro", zero_division=0),
            "exact": statistics.fmean(wanted == one for wanted, one in pairs),
            "token_f1": statistics.fmean(0.0 if one is None else _shared(wanted, one) for wanted, one in pairs),
            "edit_similarity": statistics.fmean(0.0 if one is None else _alike(wanted, one) for wanted, one in pairs),
        }
        for metric in module.LABELS_AND_TEXTS:
            assert metric(truth, given) == pytest.approx(expected.pop(metric.name))
            assert metric.complete
            assert metric.higher_is_better
        assert not expected
    resampled = module.OfCells(module._macro_f1)(
        *(np.array([[0.0, 1, 1], [0, 0, 0]]), np.array([[0.0, 1, 0], [0, 0, 1]]))
    )
    assert resampled == pytest.approx([(2 / 3 + 2 / 3) / 2, 0.8])


def check_split_conformal(module: ModuleType) -> None:
    """The radius by trying every gap, the ends, what is covered, and how many groups a level needs."""
    draw = np.random.default_rng(1)
    truth = draw.uniform(5, 50, 40)
    for shift, groups, level in itertools.product((0.0, 20.0), (None, "grouped"), (0.5, 0.8)):
        codes = draw.integers(0, 12, 40) if groups else np.arange(40)
        wanted, given = truth - shift, truth * draw.lognormal(0, 0.2, 40) - shift
        fitted = module.SplitConformal.fit(wanted, given, level, codes.tolist() if groups else None)
        gaps = np.abs(wanted - given) if shift else np.abs(np.log(wanted / given))
        sizes = Counter(codes.tolist())
        weights = np.array([1 / sizes[code] for code in codes.tolist()])
        least = min(gap for gap in gaps if weights[gaps <= gap].sum() >= (len(sizes) + 1) * level - 1e-9)
        assert fitted.radius == pytest.approx(least)
        assert (fitted.level, fitted.rows, fitted.groups) == (level, 40, len(sizes))
        assert fitted.logarithmic is not bool(shift)
        low, high = fitted.bounds(given)
        expected = (given - least, given + least) if shift else (given * np.exp(-least), given * np.exp(least))
        assert np.allclose(low, expected[0])
        assert np.allclose(high, expected[1])
        inside = [one <= value <= other for value, one, other in zip(wanted, low, high, strict=True)]
        assert fitted.covered(wanted, given).tolist() == inside
        shares = [np.mean([one for one, code in zip(inside, codes, strict=True) if code == name]) for name in sizes]
        assert fitted.coverage(wanted, given, codes.tolist()) == pytest.approx(float(np.mean(shares)))
    exact = module.SplitConformal.fit(np.full(4, -1.0), np.arange(4.0), 0.8)
    assert exact.radius == 4.0
    assert exact.covered(np.array([4.0, -4.0, 4.1]), np.zeros(3)).tolist() == [True, True, False]
    assert module.SplitConformal.fit(np.zeros(9), np.arange(1.0, 10.0), 0.8).radius == 8.0
    for other in (np.array([1.0, 1, 1, 1, 0]), np.array([-1.0, 1, 1, 1, 1])):
        for pair in ((np.ones(5), other), (other, np.ones(5))):
            assert module.SplitConformal.fit(*pair, 0.8).logarithmic is False
    assert module.SplitConformal.fit(np.ones(5), np.ones(5), 0.8).bounds(np.array([-1.0]))[1] == 0.0
    with pytest.raises(EvaluationError, match="at least 4 products"):
        module.SplitConformal.fit(np.ones(3), np.ones(3), 0.8)
    for level in (0, 1):
        with pytest.raises(EvaluationError, match="between 0 and 1"):
            module.SplitConformal.fit(np.ones(30), np.ones(30), level)


@cache
def _scipy_ends(rows: int, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    values = _values(rows)
    found = bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", confidence_level=level,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


@cache
def _values(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).exponential(1.0, rows)


def _mean(values: np.ndarray, axis: int = -1) -> Any:
    return np.asarray(values.mean(axis=axis))


def check_bootstrap(module: ModuleType) -> None:
    """Ends as scipy has them, by rows and by groups; pairs; what has no interval."""
    for rows, level in ((2, 0.9), (15, 0.95)):
        found = module.interval(_mean, [_values(rows)], level=level, resamples=200, seed=3)
        assert (found.low, found.high) == pytest.approx(_scipy_ends(rows, 200, 3, level))
        doubled = np.repeat(_values(rows), 2)
        names: list[Any] = [f"g{at}" for at in range(rows) for _ in range(2)]
        for groups in (names, np.array(names)):
            grouped = module.interval(_mean, [doubled], groups, level=level, resamples=200, seed=3)
            assert (grouped.low, grouped.high) == pytest.approx((found.low, found.high)) or isinstance(
                groups, np.ndarray
            )
    assert module.group_codes(["b", "a", "b"], 3).tolist() == [0, 1, 0]
    assert module.group_codes(None, 3).tolist() == [0, 1, 2]
    assert module.group_codes(np.array(["b", "a", "b"]), 3).tolist() == [1, 0, 1]
    assert module.interval(_mean, [np.ones(4)], ["a"] * 4) is None
    assert module.interval(_mean, [np.zeros(0)]) is None
    left, right = _values(15) + 1, _values(15)
    difference, ends = module.paired_difference(_mean, [left], [right], resamples=50)
    assert (difference, ends.low, ends.high) == pytest.approx((1.0, 1.0, 1.0))
    assert module.paired_difference(_mean, [left], [right], ["a"] * 15)[1] is None
    two = module.paired_difference(_mean, [left[:2]], [right[:2]], resamples=50)[1]
    assert two.low == pytest.approx(1.0)
    with pytest.raises(EvaluationError, match="15 rows on one side but 14"):
        module.paired_difference(_mean, [left], [right[:14]])
    for low, high, outside in ((1, 2, True), (-2, -1, True), (-1, 1, False), (0, 1, False), (-1, 0, False)):
        assert module.Interval(low, high).excludes_zero() is outside
    assert module.interval(lambda values, axis=-1: np.float64("inf"), [np.ones(3)], resamples=5) is None
    half = module.interval(lambda values, axis=-1: np.inf if values[0] else 1.0, [np.array([0.0, 1])], resamples=50)
    assert half is None


def _brute(reduce: Callable[..., Any], columns: Sequence[np.ndarray], codes: np.ndarray, draws: Any) -> np.ndarray:
    """Figures of resamples from the rows themselves, drawn by the generator that numpy documents."""
    generator = np.random.default_rng(draws.seed)
    found = []
    for _ in range(draws.number):
        drawn = generator.integers(0, draws.groups, draws.groups)
        rows = np.concatenate([np.flatnonzero(codes == group) for group in drawn])
        found.append(float(reduce(*(column[rows] for column in columns))))
    return np.asarray(found)


def check_resamples(module: ModuleType) -> None:
    """Every kind of figure from counts equals that of the rows drawn; chunks hold every draw once."""
    draw = np.random.default_rng(4)
    for rows, groups in ((9, 9), (30, 7), (31, 31), (400, 400)):
        codes = np.arange(rows) if rows == groups else np.r_[np.arange(groups), draw.integers(0, groups, rows - groups)]
        draws = module.Resamples(groups, 40, 2)
        values, letters, answers = draw.lognormal(0, 1, rows), draw.integers(0, 3, rows), draw.integers(-1, 3, rows)
        root = module.OfMeans(lambda one: (one, one**2), lambda mean, square: np.sqrt(square) + mean)
        agree = module.OfCells(lambda left, right, counts: (counts * (left == right)).sum(-1) / counts.sum(-1))
        cases: list[tuple[Any, Any, tuple[np.ndarray, ...]]] = [
            (root, lambda one: math.sqrt((one**2).mean()) + one.mean(), (values,)),
            (module.Median(), np.median, (values,)),
            (agree, lambda left, right: (left == right).mean(), (letters.astype(float), answers.astype(float))),
            (lambda one, axis=-1: one.max(axis=axis), np.max, (values,)),
        ]
        for reduce, plain, columns in cases:
            assert module.resampled(reduce, columns, codes, draws) == pytest.approx(
                _brute(plain, columns, codes, draws)
            )
            assert float(reduce(*columns, axis=-1)) == pytest.approx(float(plain(*columns)))
    assert agree(np.array([[0.0, 1], [1, 1]]), np.array([[0.0, 0], [1, 1]])).tolist() == [0.5, 1.0]
    assert root(np.array([[3.0, 3.0], [1.0, 1.0]]), axis=-1).tolist() == [6.0, 2.0]
    assert module.Median()(np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 6.0]]), axis=-1).tolist() == [2.0, 5.0]
    values = draw.lognormal(0, 1, 1001)
    for rows, number in (
        (30, 200),
        (31, 200),
        (1000, 12),
        (1001, 12),
    ):  # most resamples are judged by the rows around the middle
        codes, draws = np.arange(rows), module.Resamples(rows, number, 3)
        expected = _brute(np.median, (values[:rows],), codes, draws)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "median", None if number < 200 else np.median)
            assert module.Median().resampled((values[:rows],), codes, draws) == pytest.approx(expected)
        for reach in (0.0, 0.1, 0.5):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "_DEVIATIONS", reach)
                assert module.Median().resampled((values[:rows],), codes, draws) == pytest.approx(expected)
    counts = np.zeros((2, 400), np.uint8)  # a median outside of these
    counts[0, 395:], counts[1, :5] = 80, 80
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Resamples, "chunks", lambda _: iter([counts]))
        found = module.Median().resampled((np.arange(400.0),), np.arange(400), module.Resamples(400, 2, 0))
        assert found.tolist() == [397.0, 2.0]
    whole = np.concatenate(list(module.Resamples(50, 20, 1).chunks()))
    assert (whole.sum(axis=1) == 50).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CELLS", 170)
        kept = [len(one) for one in module.Resamples(50, 20, 1).chunks()]
        assert kept == [3] * 6 + [2]
        patch.setattr(module, "_CACHED_BYTES", 1000)
        with pytest.MonkeyPatch.context() as kept_ones:
            kept_ones.setattr(module.Resamples, "_drawn", None)
            assert len(list(module.Resamples(50, 20, 1).chunks())) == 7
        patch.setattr(module, "_CACHED_BYTES", 500)
        patch.setattr(module, "_cached", None)
        parts = list(module.Resamples(50, 20, 1).chunks())
    assert [len(one) for one in parts] == [3] * 6 + [2]
    assert np.array_equal(np.concatenate(parts), whole)


def check_group_test(module: ModuleType) -> None:
    """Means of groups, the test over them, what counts as above zero, Holm's correction by its definition."""
    draw = np.random.default_rng(6)
    values, names = draw.normal(0.3, 1, 60), [f"p{one}" for one in draw.integers(0, 14, 60)]
    order = list(dict.fromkeys(names))
    means = np.array(
        [np.mean([one for one, name in zip(values, names, strict=True) if name == group]) for group in order]
    )
    assert module.group_means(values, names) == pytest.approx(means)
    assert module.group_means(np.zeros(0)).tolist() == []
    found = module.group_test(values, names, resamples=100)
    ends = bootstrap((means,), np.mean, n_resamples=100, method="percentile", rng=np.random.default_rng(0))
    assert (found.rows, found.groups, found.mean) == (60, len(order), pytest.approx(means.mean()))
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(ends.confidence_interval))
    expected = wilcoxon(means, alternative="greater", zero_method="zsplit", method="approx").pvalue
    assert found.p_value == pytest.approx(float(expected))
    nothing = module.group_test(np.zeros(12))
    assert (nothing.p_value, nothing.mean) == (1.0, 0.0)
    assert module.group_test(np.array([0.0, 0.0, 3.0])).p_value < 0.5
    empty = module.group_test(np.zeros(0))
    assert (empty.rows, empty.groups, empty.mean, empty.interval, empty.p_value) == (0, 0, None, None, 1.0)
    assert module.FEW == 10
    above = module.Interval(0.1, 1.0)
    for groups, ends, p, given, yes in (
        (10, above, 0.01, None, True), (9, above, 0.01, None, False), (10, above, 0.05, None, False),
        (10, None, 0.01, None, False), (10, module.Interval(0.0, 1.0), 0.01, None, False),
        (10, above, 0.01, 0.06, False), (10, above, 0.9, 0.01, True),
    ):  # fmt: skip
        assert module.GroupTest(20, groups, 0.5, ends, p).above_zero(0.05, given) is yes
    for p_values in ([0.01, 0.04, 0.03], [0.5, 0.5], [0.2], [], [0.9, 0.001, 0.4, 0.4]):
        ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
        wanted = {
            one: min(1.0, max((len(p_values) - rank) * p_values[other] for rank, other in enumerate(ranked[: at + 1])))
            for at, one in enumerate(ranked)
        }
        assert module.holm(p_values) == pytest.approx([wanted[at] for at in range(len(p_values))])
