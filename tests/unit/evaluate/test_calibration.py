"""Calibrated confidences: shares of right answers, judged on rows that did not shape the curve."""

import numpy as np
import pytest

from phisight.core.errors import EvaluationError
from phisight.core.kinds import KINDS
from phisight.evaluate.metrics import TOLERANCE
from phisight.evaluate.statistics.calibration import calibration_error, fit_calibration, reliability


def overconfident(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are right half as often as they claim."""
    draw = np.random.default_rng(0)
    raw = draw.random(rows)
    return raw, draw.random(rows) < raw / 2


def test_a_claim_that_is_too_high_is_brought_down() -> None:
    raw, right = overconfident(2000)
    found = fit_calibration(raw, right)
    curve = found["curve"]
    assert np.interp(0.8, curve["raw"], curve["calibrated"]) == pytest.approx(0.4, abs=0.06)
    assert curve["calibrated"] == sorted(curve["calibrated"])
    assert found["error"] < 0.05 < 0.2 < found["error_raw"]
    assert sum(row["rows"] for row in found["table"]) == 2000


def test_the_table_is_not_fitted_to_its_own_rows() -> None:
    """Coin flips: a curve on its own rows would look calibrated at both ends; held-out rows show no knowledge."""
    draw = np.random.default_rng(1)
    raw, right = draw.random(200), draw.random(200) < 0.5
    assert all(0.2 < row["right"] < 0.8 for row in fit_calibration(raw, right)["table"] if row["rows"] > 30)


def test_the_ends_have_their_bins() -> None:
    table = reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert [(row["low"], row["rows"], row["right"]) for row in table] == [(0.0, 1, 0.0), (0.9, 2, 1.0)]
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_few_rows_are_refused() -> None:
    with pytest.raises(EvaluationError, match="19 validation answers are too few"):
        fit_calibration(*overconfident(19))


@pytest.mark.parametrize(
    ("kind", "truth", "answer", "right"),
    [
        ("number", 100.0, 110.0, True),
        ("number", 100.0, 111.0, False),
        ("integer", 100, 101, False),
        ("text", "a", "a", True),
        ("text", "a", "A", False),
    ],
)
def test_what_counts_as_right(kind: str, truth: object, answer: object, right: bool) -> None:
    assert KINDS[kind].is_right(truth, answer, TOLERANCE) is right
