"""How sure the model was of its answers, against how often they were right: calibration, and error by confidence.

Both read the confidences that the answers brought with them (``Predictions.confidences``); no row is answered for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phisight.core.task import Task
from phisight.evaluate.limits.risk_coverage import risk_coverage
from phisight.evaluate.metrics import alias, is_right
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.calibration import fit_calibration


def calibration_of(task: Task, answered: Sequence[Predictions]) -> dict[str, Any]:
    """Key ``calibration`` of scores.json: for each field what its sequence probability is worth.

    Args:
        task: Whose fields they are.
        answered: Answers to rows of the validation split, in one or several parts.

    Raises:
        EvaluationError: Too few answers can be read.
    """
    found: dict[str, tuple[list[float], list[bool]]] = {name: ([], []) for name in task.names}
    for part in answered:
        for row, answer, sure in part.read_with_confidence():
            for name, (confidences, right) in found.items():
                confidences.append(sure[name])
                right.append(is_right(task, name, part.rows[row].truth[name], answer[name]))
    return {
        alias(task, name): fit_calibration(np.array(confidences), np.array(right, dtype=np.bool_))
        for name, (confidences, right) in found.items()
    }


def errors_by_confidence(answered: Predictions, calibration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Key ``risk_coverage`` of scores.json: the error of the answers that remain, the least confident left out.

    Args:
        answered: Answers to real images.
        calibration: That key of scores.json; confidence in a field that it knows is calibrated.
        seed: Of the resamples.
    """
    task = answered.task
    curves = {name: (calibration.get(alias(task, name)) or {}).get("curve") for name in task.names}
    confidence: list[float | None] = [None] * len(answered)
    wrong = [True] * len(answered)
    for row, answer, raw in answered.read_with_confidence():
        sure = {
            name: float(np.interp(value, curve["raw"], curve["calibrated"])) if (curve := curves[name]) else value
            for name, value in raw.items()
        }
        confidence[row] = min(sure.values())
        truth = answered.rows[row].truth
        wrong[row] = not all(is_right(task, name, truth[name], answer[name]) for name in task.names)
    return risk_coverage(wrong, confidence, answered.groups, seed=seed)
