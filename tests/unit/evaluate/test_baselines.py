"""Baselines on the same rows, and what the verdict says about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phisight.core.errors import EvaluationError
from phisight.core.task import Task
from phisight.evaluate import EvalRow, Predictions, against_baselines, fit_baselines, verdict_of

TRAIN: list[dict[str, Any]] = [
    {"title": "Felt Hat", "category3_code": "HATS", "full_price": 10.0},
    {"title": "Felt Hat", "category3_code": "HATS", "full_price": 20.0},
    {"title": "Bag", "category3_code": "BAGS", "full_price": 100.0},
    {"title": "Big Bag", "category3_code": "BAGS", "full_price": 140.0},
    {"title": "Straw Hat", "category3_code": "HATS", "full_price": 30.0},
]
TEST: list[dict[str, Any]] = [
    {"title": "Bag", "category3_code": "BAGS", "full_price": 110.0},
    {"title": "Cap", "category3_code": "HATS", "full_price": 15.0},
    {"title": "Shoe", "category3_code": "SHOES", "full_price": 50.0},
]


def by_name(**options: Any) -> dict[str, Any]:
    return {one.name: one.predicted for one in fit_baselines(Task(), TRAIN, TEST, **options)}


def test_constant_and_category_median() -> None:
    found = by_name()
    assert list(found) == ["constant", "category median"]
    assert found["constant"] == {
        "title": ["Felt Hat"] * 3,
        "category3_code": ["HATS"] * 3,
        "full_price": [30.0] * 3,
    }
    assert found["category median"] == {"full_price": [120.0, 20.0, 30.0]}


def test_nearest_neighbour_copies_the_closest_image_s_fields() -> None:
    features = np.eye(5, dtype=np.float32)
    found = by_name(train_features=features, test_features=features[[3, 0, 4]] + 0.1)
    assert found["nearest neighbor"]["title"] == ["Big Bag", "Felt Hat", "Straw Hat"]
    assert found["nearest neighbor"]["full_price"] == [140.0, 10.0, 30.0]


def test_constants_learn_from_every_row_and_features_from_a_sample_that_is_named() -> None:
    """A sample without the commonest values changes nothing in the constants."""
    dear: list[dict[str, Any]] = [{"title": "Coat", "category3_code": "COATS", "full_price": 900.0}] * 2
    train, features = [*TRAIN, *dear], np.eye(7, dtype=np.float32)
    some = [5, 2, 6]
    fitted = {
        one.name: one
        for one in fit_baselines(
            Task(), train, TEST, features[some], features[[2, 5, 6]], sample=[train[row] for row in some], tower="eye"
        )
    }
    whole = {one.name: one for one in fit_baselines(Task(), train, TEST)}
    for name in ("constant", "category median"):
        assert fitted[name].predicted == whole[name].predicted
    assert fitted["constant"].predicted["full_price"] == [100.0] * 3
    assert list(fitted["nearest neighbor"].predicted["title"]) == ["Bag", "Coat", "Coat"]
    for name in ("nearest neighbor", "ridge"):
        assert "on features of the eye, from 3 of 7 training rows" in fitted[name].about


def test_the_middle_is_the_median_not_the_mean() -> None:
    skewed: list[dict[str, Any]] = [
        {"title": "T", "category3_code": "HATS", "full_price": price} for price in (1.0, 2.0, 90.0)
    ]
    (median,) = (one for one in fit_baselines(Task(), skewed, TEST[1:2]) if one.name == "category median")
    assert list(median.predicted["full_price"]) == [2.0]


def test_ridge_finds_a_line_on_the_logarithm() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 6))
    prices = np.exp(3 + features[:, 0] * 0.5 - features[:, 3] * 0.3)
    rows = [
        {"title": "T", "category3_code": "A" if one[1] > 0 else "B", "full_price": float(price)}
        for one, price in zip(features, prices, strict=True)
    ]
    (ridge,) = (
        one
        for one in fit_baselines(Task(), rows[:200], rows[200:], features[:200], features[200:])
        if one.name == "ridge"
    )
    answers: Any = ridge.predicted["full_price"]
    assert np.median(np.abs(np.asarray(answers) / prices[200:] - 1)) < 0.05
    right = [
        given == row["category3_code"] for given, row in zip(ridge.predicted["category3_code"], rows[200:], strict=True)
    ]
    assert np.mean(right) > 0.9
    assert "title" not in ridge.predicted


def test_ridge_stays_within_the_prices_seen() -> None:
    features = np.arange(10.0)[:, None]
    rows: list[dict[str, Any]] = [
        {"title": "T", "category3_code": "A", "full_price": 2.0**place} for place in range(10)
    ]
    (ridge,) = (
        one for one in fit_baselines(Task(), rows, rows[:1], features, np.array([[99.0]])) if one.name == "ridge"
    )
    assert list(ridge.predicted["full_price"]) == pytest.approx([512.0])
    assert "category3_code" not in ridge.predicted


def test_rows_and_features_must_fit() -> None:
    with pytest.raises(EvaluationError, match="0 to learn from"):
        fit_baselines(Task(), [], TEST)
    with pytest.raises(EvaluationError, match="features of 4 and 3 rows for 5 and 3"):
        fit_baselines(Task(), TRAIN, TEST, np.ones((4, 2)), np.ones((3, 2)))


def model(error: float, count: int = 60) -> tuple[Predictions, list[dict[str, Any]]]:
    truths: list[dict[str, Any]] = [
        {"title": f"T{place}", "category3_code": "AB"[place % 2], "full_price": 10.0 + place} for place in range(count)
    ]
    rows = [EvalRow(str(place), Path(), truth, "") for place, truth in enumerate(truths)]
    answers = [{**truth, "full_price": truth["full_price"] + error} for truth in truths]
    nothing = [None] * count
    return Predictions(Task(), "real", rows, nothing, nothing, answers, nothing), truths


@pytest.mark.parametrize(("error", "outcome", "words"), [(0.5, True, "better than"), (500.0, False, "worse than")])
def test_the_verdict_says_whether_the_model_beat_each(error: float, outcome: bool, words: str) -> None:
    predictions, truths = model(error)
    found = against_baselines(predictions, fit_baselines(Task(), truths, truths))
    json.dumps(found, allow_nan=False)
    against = found["category median"]["model_against"]["price"]
    assert against["metric"] == "price_mae_penalized"
    assert against["better"] is outcome
    assert found["constant"]["price_mae"] == pytest.approx(15.0)
    said = verdict_of(
        {
            "aliases": dict(zip(Task().names, ("title", "category", "price"), strict=True)),
            "baselines": found,
        }
    )
    assert said["beats_baselines"]["price"] is outcome
    assert said["beats_baselines"]["title"] is True
    assert f"price: {words} constant, category median (paired, over products)" in said["lines"]


def test_a_model_no_better_than_a_baseline_is_told_so() -> None:
    predictions, truths = model(0.0)
    constant = fit_baselines(Task(), truths, truths)[0]
    copied = [{**row.truth, "full_price": 39.5} for row in predictions.rows]
    same = Predictions(
        Task(), "real", predictions.rows, predictions.shown, predictions.answers, copied, predictions.reasons
    )
    found = against_baselines(same, [constant])
    assert found["constant"]["model_against"]["price"]["better"] is None
    assert verdict_of({"aliases": {"full_price": "price"}, "baselines": found})["beats_baselines"] == {"price": False}
