"""Every metric against scikit-learn or a case worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from phisight.core.task import FieldValue, Task
from phisight.evaluate.metrics import METRICS, Metric, alias, metrics_of, row_error
from tests.helpers.kind_values import EXAMPLES

NUMBERS: dict[str, Metric] = {metric.name: metric for metric in metrics_of("number")}
TEXTS: dict[str, Metric] = {metric.name: metric for metric in metrics_of("text")}
CATEGORIES: dict[str, Metric] = {metric.name: metric for metric in metrics_of("category")}

positive = st.floats(0.5, 1e4)
NUMBER = st.floats(-1e4, 1e4)


@settings(deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=30))
def test_numbers_equal_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    for name, function in (
        ("mae", reference.mean_absolute_error),
        ("mape", reference.mean_absolute_percentage_error),
        ("rmsle", reference.root_mean_squared_log_error),
    ):
        assert NUMBERS[name](truth, predicted) == pytest.approx(function(truth, predicted))
    if len(set(truth)) > 1:
        assert NUMBERS["r2"](truth, predicted) == pytest.approx(reference.r2_score(truth, predicted), rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_categories_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    assert CATEGORIES["accuracy"](truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    expected = reference.f1_score(truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert CATEGORIES["macro_f1"](truth, predicted) == pytest.approx(expected)


def test_figures_worked_out_by_hand() -> None:
    truth: list[FieldValue] = [10.0, 20.0, 40.0, 100.0]
    predicted: list[FieldValue | None] = [11.0, 20.0, 30.0, 300.0]
    assert NUMBERS["mae"](truth, predicted) == pytest.approx((1 + 0 + 10 + 200) / 4)
    assert NUMBERS["median_ape"](truth, predicted) == pytest.approx((0.1 + 0.25) / 2)
    assert NUMBERS["smape"](truth, predicted) == pytest.approx((2 / 21 + 0 + 20 / 70 + 400 / 400) / 4)
    assert NUMBERS["within_10"](truth, predicted) == 0.5
    assert NUMBERS["within_25"](truth, predicted) == 0.75


def test_unanswered_numbers_are_left_out_or_count_as_zero_or_as_the_median() -> None:
    truth: list[FieldValue] = [10.0, 20.0]
    predicted: list[FieldValue | None] = [11.0, None]
    assert NUMBERS["mae"](truth, predicted) == 1.0
    assert NUMBERS["mae_penalized"](truth, predicted) == pytest.approx((1 + 20) / 2)
    assert NUMBERS["mae_penalized"](truth, predicted, 70.0) == pytest.approx((1 + 50) / 2)
    assert NUMBERS["median_ape_penalized"](truth, predicted) == pytest.approx((0.1 + 1) / 2)
    assert NUMBERS["smape_penalized"](truth, predicted) == pytest.approx((2 / 21 + 2) / 2)


@given(
    st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=30),
    st.floats(-1e4, 1e4),
    st.data(),
)
def test_silence_never_pays(pairs: list[tuple[float, float]], typical: float, data: st.DataObject) -> None:
    """Dropping an answer that is no worse than both 0 and the median makes no complete metric better."""
    truth = [pair[0] for pair in pairs]
    answers = [wanted + min((given - wanted, -wanted, typical - wanted), key=abs) for wanted, given in pairs]
    silent: list[FieldValue | None] = [value if data.draw(st.booleans()) else None for value in answers]
    for metric in NUMBERS.values():
        if metric.complete and metric.name != "smape_penalized":  # which is no function of the distance alone
            spoken, unspoken = (metric(truth, column, typical) for column in (answers, silent))
            assert (spoken is None) == (unspoken is None)
            if spoken is not None and unspoken is not None:
                worse = spoken - unspoken if metric.higher_is_better else unspoken - spoken
                assert worse >= -1e-9 * max(1.0, abs(spoken)), metric.name


@given(st.lists(st.tuples(NUMBER, st.none() | NUMBER), min_size=1, max_size=30))
def test_the_rows_behind_every_figure(pairs: list[tuple[float, float | None]]) -> None:
    truth, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for metric in NUMBERS.values():
        found = metric.values(truth, predicted, 1.0)
        assert all(len(column) == len(found.rows) for column in found.columns)
        if metric.complete and metric.name != "median_ape_penalized":
            assert found.rows.tolist() == list(range(len(pairs)))
        if metric.name in ("mape", "median_ape"):
            assert all(truth[row] != 0 and predicted[row] is not None for row in found.rows)
        assert (metric.figure(found) is None) or len(found.rows) > 0


def test_a_miss_on_a_zero_truth_is_outside_every_band() -> None:
    assert NUMBERS["within_25"]([0.0, 0.0, 4.0], [0.001, 0.0, 5.0]) == pytest.approx(2 / 3)
    assert NUMBERS["within_10"]([1.0, 1.0], [1.0, None]) == 0.5
    assert len(NUMBERS["mape"].values([0.0, 2.0, -4.0], [1.0, 1.0, -2.0], 0.0).rows) == 2


def test_a_truth_next_to_zero_leaves_every_figure_finite() -> None:
    for answer in (None, 2.0, 0.0):
        for metric in NUMBERS.values():
            if metric.name != "r2":
                figure = metric([1e-308, 5e-324, 3.0], [answer, answer, 3.0], 2.0)
                assert figure is not None, metric.name
                assert math.isfinite(figure), metric.name
    assert NUMBERS["mape"]([1e-308, 3.0], [2.0, 3.0]) == 0.5e12


def test_unanswered_texts_and_categories_are_wrong() -> None:
    assert CATEGORIES["accuracy"](["a", "b"], ["a", None]) == 0.5
    assert [metric(["a b", "c"], ["a b", None]) for metric in TEXTS.values()] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("truth", "predicted", "name"),
    [([1.0], [None], "mae"), ([0.0], [1.0], "mape"), ([5.0, 5.0], [1.0, 2.0], "r2"), ([-1.0], [1.0], "rmsle")],
)
def test_what_is_not_defined_is_none(truth: Any, predicted: Any, name: str) -> None:
    assert NUMBERS[name](truth, predicted) is None


def test_a_negative_answer_counts_as_zero_in_rmsle() -> None:
    assert NUMBERS["rmsle"]([math.e - 1], [-7.0]) == pytest.approx(1.0)


def test_a_class_that_never_occurs_in_the_truth_costs_precision_only() -> None:
    assert CATEGORIES["macro_f1"](["a", "a", "b"], ["a", "zebra", "b"]) == pytest.approx((2 * 1 / 3 + 1) / 2)


def test_texts() -> None:
    assert TEXTS["exact"](["Check Scarf"], ["check scarf"]) == 0.0
    assert TEXTS["token_f1"](["Vintage Check Scarf"], ["check scarf red scarf"]) == pytest.approx(2 * 2 / 7)
    assert TEXTS["edit_similarity"](["scarf"], ["scarfs"]) == pytest.approx(1 - 1 / 6)


def test_resampled_figures_equal_those_of_each_resample() -> None:
    generator = np.random.default_rng(0)
    numbers: list[Any] = list(generator.uniform(1, 9, 40))
    guesses: list[Any] = [value * factor for value, factor in zip(numbers, generator.uniform(0.5, 2, 40), strict=True)]
    letters: list[Any] = list(generator.choice(list("abc"), 40))
    answers: list[Any] = list(generator.choice(list("abcd"), 40))
    index = generator.integers(0, 40, (7, 40))
    for metric in METRICS:
        truth, predicted = (numbers, guesses) if metric.kind == "number" else (letters, answers)
        if metric.kind not in ("number", "category", "text"):
            truth, predicted = ([EXAMPLES[metric.kind][one] for one in generator.integers(0, 2, 40)] for _ in range(2))
        columns = metric.values(truth, predicted, 1.0).columns
        many = metric.reduce(*(column[index] for column in columns), axis=-1)
        one = [float(metric.reduce(*(column[picked] for column in columns), axis=-1)) for picked in index]
        assert many == pytest.approx(one), metric.name


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"title": "text", "category3_code": "category", "full_price": "number"}, ["title", "category", "price"]),
        ({"old_price": "number", "new_price": "number"}, ["old_price", "new_price"]),
        ({"color": "category", "weight": "number"}, ["color", "weight"]),
        ({"Category": "category", "subcategory": "category"}, ["Category", "subcategory"]),
    ],
)
def test_names_of_metrics(fields: dict[str, str], names: list[str]) -> None:
    task = Task(answer="; ".join(f"{{{name}}}" for name in fields), fields=fields)
    assert [alias(task, name) for name in task.names] == names


def test_rows_are_ordered_from_right_to_wrong() -> None:
    truth: dict[str, FieldValue] = {"title": "abcd", "category3_code": "A", "full_price": 10.0}
    errors = [
        row_error(Task(), truth, predicted)
        for predicted in (
            truth,
            {**truth, "full_price": 11.0},
            {**truth, "title": "abzz"},
            {**truth, "category3_code": "B", "full_price": 1e9},
            None,
        )
    ]
    assert errors == pytest.approx([0, 0.1 / 3, 0.5 / 3, 2 / 3, 1])
