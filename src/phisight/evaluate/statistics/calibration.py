"""Confidence that means what it says: sequence probabilities of validation answers against how often they were right.

Isotonic regression: the calibrated confidence never falls where the raw one rises. The reliability table is made by
cross-fitting, so that no row is judged by a curve that it shaped.

Source: Zadrozny and Elkan 2002, isotonic calibration; Guo et al. 2017, expected calibration error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError

LEAST_ROWS = 20
"""Fewest validation answers that a curve is fitted on."""
FOLDS = 5
BINS = np.linspace(0, 1, 11)


def fit_calibration(raw: NDArray[np.float64], right: NDArray[np.bool_], seed: int = 0) -> dict[str, Any]:
    """A field's curve and reliability table, as they stand in scores.json.

    Args:
        raw: Sequence probabilities float64[n], 0 to 1.
        right: Whether each answer was right, bool[n].
        seed: Draws the folds.

    Returns ``curve`` (``raw``, ``calibrated``, ``rows``), ``table`` (a row a bin of calibrated confidence: ``low``,
    ``high``, ``rows``, ``confidence``, ``right``), and the expected calibration errors ``error_raw`` and ``error``.
    """
    if len(raw) < LEAST_ROWS:
        raise EvaluationError(
            f"{len(raw)} validation answers are too few to calibrate confidences; {LEAST_ROWS} needed"
        )
    folds = np.random.default_rng(seed).permutation(len(raw)) % FOLDS
    held_out = np.zeros(len(raw))
    for fold in range(FOLDS):
        held_out[folds == fold] = _fitted(raw[folds != fold], right[folds != fold]).predict(raw[folds == fold])
    curve = _fitted(raw, right)
    return {
        "curve": {
            "raw": [float(value) for value in curve.X_thresholds_],
            "calibrated": [float(value) for value in curve.y_thresholds_],
            "rows": len(raw),
        },
        "table": reliability(held_out, right),
        "error_raw": calibration_error(raw, right),
        "error": calibration_error(held_out, right),
    }


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Mean confidence and share of right answers in each tenth of confidence that has rows."""
    bins = np.clip(np.digitize(confidence, BINS[1:-1]), 0, len(BINS) - 2)
    return [
        {
            "low": float(BINS[number]),
            "high": float(BINS[number + 1]),
            "rows": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()),
            "right": float(right[bins == number].mean()),
        }
        for number in sorted(set(bins.tolist()))
    ]


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: mean gap between confidence and share of right answers, bins weighted by rows."""
    table = reliability(confidence, right)
    return sum(one["rows"] * abs(one["confidence"] - one["right"]) for one in table) / len(confidence)


def _fitted(raw: NDArray[np.float64], right: NDArray[np.bool_]) -> Any:
    from sklearn.isotonic import IsotonicRegression  # takes a second

    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, right.astype(np.float64))
