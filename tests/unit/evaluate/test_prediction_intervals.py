"""Intervals around answered numbers: they hold what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from phisight.core.errors import EvaluationError
from phisight.core.settings import EvaluateSettings
from phisight.core.task import Task
from phisight.evaluate import (
    EvalRow,
    PredictionIntervals,
    Predictions,
    SplitConformal,
    fit_prediction_intervals,
    write_predictions,
)
from phisight.workflows.references import intervals_around

TASK = Task(answer="{title}: {price}", fields={"title": "text", "price": "number"})


def answered(truth: list[float], answers: list[float | None]) -> Predictions:
    """Predictions with these numbers; none: an answer that cannot be read."""
    lines = [{"title": "Thing", "price": value} for value in truth]
    rows = [
        EvalRow(f"P-{row}", Path(f"{row}.png"), TASK.values(line), TASK.render(line)) for row, line in enumerate(lines)
    ]
    texts = {row: f"Thing: {value!r}" if value is not None else "no idea" for row, value in enumerate(answers)}
    return Predictions.of(TASK, rows, "real", list(range(len(rows))), texts, {})


def methods(rows: int, generator: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Truth and answers of unlike methods: precise, coarse, biased, heavy-tailed, with negative numbers."""
    truth = np.exp(generator.normal(5, 0.8, rows))
    return {
        "precise": (truth, truth * np.exp(generator.normal(0, 0.05, rows))),
        "biased": (truth, truth * np.exp(generator.normal(0.3, 0.2, rows))),
        "heavy tails": (truth, truth * np.exp(0.1 * generator.standard_t(2, rows))),
        "always the middle": (truth, np.full(rows, np.median(truth))),
        "negative": (truth - 200, truth - 200 + generator.normal(0, 30, rows)),
    }


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_is_the_level_within_two_points_on_a_thousand_rows(level: float) -> None:
    """Averaged over splits, as the promise is made; a single split of 1,000 rows strays by about 1.8 points."""
    generator = np.random.default_rng(11)
    found: dict[str, list[float]] = {}
    for _ in range(100):
        for name, (truth, answers) in methods(2000, generator).items():
            fitted = SplitConformal.fit(truth[:1000], answers[:1000], level)
            found.setdefault(name, []).append(fitted.coverage(truth[1000:], answers[1000:]))
    for name, coverages in found.items():
        assert np.mean(coverages) == pytest.approx(level, abs=0.006), name
        within = np.mean(np.abs(np.asarray(coverages) - level) <= 0.02)
        assert within > 0.6, f"{name}: {within:.0%} of the splits within two points"


def test_one_split_of_a_thousand_rows() -> None:
    truth, answers = methods(2000, np.random.default_rng(5))["precise"]
    validation, test = (
        answered(truth[part].tolist(), answers[part].tolist()) for part in (slice(1000), slice(1000, None))
    )
    scores = PredictionIntervals.around(test, fit_prediction_intervals(validation, 0.8)).scores(test)["price"]
    assert 0.78 <= scores["coverage"] <= 0.82
    assert scores["rows"] == scores["fitted_on"] == 1000


def test_intervals_fitted_on_the_rows_they_are_scored_on_would_be_too_narrow() -> None:
    """Why another split is needed: answers learned by heart promise what they cannot hold."""
    generator = np.random.default_rng(3)
    truth = np.exp(generator.normal(5, 0.8, 1000))
    by_heart, fresh = truth * np.exp(generator.normal(0, 0.01, 1000)), truth * np.exp(generator.normal(0, 0.2, 1000))
    seen, new = answered(truth.tolist(), by_heart.tolist()), answered(truth.tolist(), fresh.tolist())
    scores = PredictionIntervals.around(new, fit_prediction_intervals(seen, 0.8)).scores(new)["price"]
    assert scores["coverage"] < 0.2


def test_rows_without_a_number_have_no_interval(tmp_path: Path) -> None:
    fitted = fit_prediction_intervals(answered([100.0] * 20, [110.0] * 20), 0.8)
    real = answered([100.0, 50.0], [100.0, None])
    intervals = PredictionIntervals.around(real, fitted)
    write_predictions(tmp_path, [real], thumbnails=0, intervals=intervals)
    lines = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert lines[0]["lower"]["price"] == pytest.approx(100 / 1.1)
    assert lines[0]["upper"]["price"] == pytest.approx(110.0)
    assert lines[1]["lower"] is None
    scores = intervals.scores(real)["price"]
    assert scores["rows"] == 1
    assert scores["mean_width"] == pytest.approx(110 - 100 / 1.1)
    json.dumps(scores, allow_nan=False)


def test_without_intervals_the_columns_are_empty(tmp_path: Path) -> None:
    write_predictions(tmp_path, [answered([1.0], [2.0])], thumbnails=0)
    (line,) = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert (line["lower"], line["upper"]) == (None, None)


def test_a_task_without_a_number() -> None:
    task = Task(answer="{title}", fields={"title": "text"})
    row = EvalRow("P", Path("a.png"), {"title": "A"}, "A")
    with pytest.raises(EvaluationError, match="no number field"):
        fit_prediction_intervals(Predictions.of(task, [row], "real", [0], {0: "A"}, {}), 0.8)


def test_the_validation_split_cannot_vouch_for_itself() -> None:
    settings = EvaluateSettings(coverage=0.8, split="validation")
    with pytest.raises(EvaluationError, match=r"choose another evaluate\.split"):
        intervals_around(answered([1.0], [1.0]), settings, lambda: answered([1.0], [1.0]))


def test_no_coverage_asked_for_no_row_answered() -> None:
    def never() -> Predictions:
        raise AssertionError("the validation split was answered for nothing")

    assert intervals_around(answered([1.0], [1.0]), EvaluateSettings(), never) is None
