"""Intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from phisight.core.errors import EvaluationError
from phisight.evaluate import METRICS, Metric, SplitConformal, deciding, interval, paired_difference
from phisight.evaluate.statistics import resamples
from phisight.evaluate.statistics.resamples import Median, Resamples
from tests.helpers.kind_values import EXAMPLES


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(values.mean(axis=axis))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        found = interval(mean, [generator.exponential(1.0, 80)], resamples=300, seed=seed)
        assert found is not None
        held += found.low <= 1.0 <= found.high
    assert 0.88 <= held / 200 <= 0.98


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [np.arange(30.0)]
    assert interval(mean, values, seed=3) == interval(mean, values, seed=3) != interval(mean, values, seed=4)


def answered(metric: Metric, rows: int, seed: int) -> tuple[np.ndarray, ...]:
    """Columns of a metric for made-up truths and answers, of which every tenth is missing."""
    draw = np.random.default_rng(seed)
    if metric.kind == "number":
        truth = draw.lognormal(3, 1, rows).round(2).tolist()
        given = [value * factor for value, factor in zip(truth, draw.lognormal(0, 0.3, rows), strict=True)]
    elif metric.kind in ("integer", "date", "boolean", "list"):
        truth, given = ([EXAMPLES[metric.kind][one] for one in draw.integers(0, 2, rows)] for _ in range(2))
    else:
        truth = [f"kind {code} of it" for code in draw.integers(0, 7, rows)]
        given = [f"kind {code} of it" for code in draw.integers(0, 9, rows)]
    return metric.values(truth, [None if row % 10 == 3 else value for row, value in enumerate(given)], 1.0).columns


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "resamples"), [(37, 300), (6001, 30)])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.kind}-{metric.name}")
def test_intervals_are_those_of_scipy(metric: Metric, rows: int, resamples: int) -> None:
    """Which resamples rows, not counts; with the same generator it draws the same ones."""
    left, right = answered(metric, rows, 0), answered(metric, rows, 1)
    width = len(left)

    def difference(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(metric.reduce(*columns[:width], axis=axis) - metric.reduce(*columns[width:], axis=axis))

    for columns, reduce, found in (
        (left, metric.reduce, interval(metric.reduce, left, resamples=resamples, seed=5)),
        ((*left, *right), difference, paired_difference(metric.reduce, left, right, resamples=resamples, seed=5)[1]),
    ):
        drawn = bootstrap(
            columns,
            reduce,
            n_resamples=resamples,
            vectorized=True,
            paired=True,
            method="percentile",
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert found is not None
        assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), rel=1e-9, abs=1e-12)


def test_a_median_far_from_the_middle_is_found() -> None:
    """A resample whose median lies outside of the rows looked at first."""
    values = np.arange(10_000.0)
    counts = np.zeros((1, 10_000), np.uint8)
    counts[0, :50] = 200
    draws = Resamples(10_000, 1, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resamples, "chunks", lambda _: iter([counts]))
        assert Median().resampled((values,), np.arange(10_000), draws) == [24.5]


def test_what_is_not_kept_is_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(Resamples(50, 20, 1).chunks()))
    monkeypatch.setattr(resamples, "_CACHED_BYTES", 0)
    monkeypatch.setattr(resamples, "_CELLS", 170)
    chunks = list(Resamples(50, 20, 1).chunks())
    assert [len(one) for one in chunks] == [3] * 6 + [2]
    assert np.array_equal(np.concatenate(chunks), kept)
    assert (kept.sum(axis=1) == 50).all()


def test_one_row_has_no_interval() -> None:
    assert interval(mean, [np.ones(1)]) is None


def test_resamples_that_leave_a_figure_undefined_give_no_interval_and_no_warning() -> None:
    def share(values: np.ndarray, axis: int = -1) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.asarray((values * 0).sum(axis=axis) / values.sum(axis=axis))

    assert interval(share, [np.array([0.0, 0.0, 1.0])]) is None


def test_rows_without_spread() -> None:
    found = interval(mean, [np.ones(10)])
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)


def test_pairs_see_a_difference_that_single_intervals_do_not() -> None:
    generator = np.random.default_rng(2)
    easy = generator.uniform(0, 100, 200)
    left, right = easy + generator.normal(1.0, 1.0, 200), easy
    difference, found = paired_difference(mean, [left], [right])
    alone = [interval(mean, [side]) for side in (left, right)]
    assert found is not None
    assert found.excludes_zero()
    assert found.low <= difference <= found.high
    assert all(alone)
    assert alone[0].low < alone[1].high  # type: ignore[union-attr]


def test_equal_sides_do_not_differ() -> None:
    values = np.arange(20.0)
    difference, found = paired_difference(mean, [values], [values])
    assert difference == 0.0
    assert found is not None
    assert not found.excludes_zero()


def test_pairs_need_the_same_rows() -> None:
    with pytest.raises(EvaluationError, match="3 rows on one side but 2"):
        paired_difference(mean, [np.ones(3)], [np.ones(2)])


def test_many_rows_are_resampled_in_batches() -> None:
    metric = deciding("category")
    truth = ["a", "b"] * 60_000
    found = interval(metric.reduce, metric.values(truth, ["a"] * 120_000, 0.0).columns, resamples=40)
    assert found is not None
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("positive", [True, False])
def test_conformal_intervals_cover_what_they_promise(level: float, positive: bool) -> None:
    generator = np.random.default_rng(5)
    predicted = generator.uniform(5, 50, 3000) - (0 if positive else 20)
    truth = predicted * np.exp(generator.normal(0, 0.3, 3000)) if positive else predicted + generator.normal(0, 4, 3000)
    fitted = SplitConformal.fit(truth[:2000], predicted[:2000], level)
    assert fitted.logarithmic is positive
    assert fitted.coverage(truth[2000:], predicted[2000:]) == pytest.approx(level, abs=0.04)


def test_one_rows_rank_is_the_corrected_one() -> None:
    truth = np.arange(1.0, 5.0) * 0 - 1
    fitted = SplitConformal.fit(truth, truth + np.array([1.0, 2.0, 3.0, 4.0]), 0.8)
    assert fitted.radius == 4.0


def test_a_level_that_is_none() -> None:
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        SplitConformal.fit(np.ones(9), np.ones(9), 80)
