"""Intervals around the numbers of the answers, fitted on the validation split.

    validation answers -> SplitConformal -> lower, upper beside each answer; coverage and width on the evaluated rows

Every product counts once, in fitting as in the coverage: rows of one product share their error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from phisight.core.errors import EvaluationError
from phisight.core.kinds.kind import as_number
from phisight.evaluate.metrics import MEAN, alias, numbers
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.bootstrap import interval
from phisight.evaluate.statistics.split_conformal import SplitConformal


@dataclass(frozen=True)
class PredictionIntervals:
    """Intervals of every number field around the answers of one set of predictions."""

    fitted: Mapping[str, SplitConformal]
    lower: list[dict[str, float] | None]
    """Lower end of each field by row; none where the answer could not be read."""
    upper: list[dict[str, float] | None]

    @classmethod
    def around(cls, predictions: Predictions, fitted: Mapping[str, SplitConformal]) -> PredictionIntervals:
        """Intervals around answers."""
        lower: list[dict[str, float] | None] = []
        upper: list[dict[str, float] | None] = []
        for values in predictions.parsed:
            if values is None:
                lower.append(None)
                upper.append(None)
                continue
            answers = {name: np.array([as_number(given)]) for name in fitted if (given := values[name]) is not None}
            ends = {name: fitted[name].bounds(answer) for name, answer in answers.items()}
            lower.append({name: float(low[0]) for name, (low, _) in ends.items()})
            upper.append({name: float(high[0]) for name, (_, high) in ends.items()})
        return cls(fitted, lower, upper)

    def scores(self, predictions: Predictions) -> dict[str, Any]:
        """For scores.json, by alias of the field: level, rows fitted on, coverage, mean width."""
        return {alias(predictions.task, name): self._field(predictions, name) for name in self.fitted}

    def _field(self, predictions: Predictions, name: str) -> dict[str, Any]:
        one = self.fitted[name]
        truth, answers, rows = numbers(predictions.truth(name), predictions.predicted(name))
        groups = [predictions.groups[row] for row in rows]
        low, high = one.bounds(answers)
        ends = interval(MEAN, [one.covered(truth, answers).astype(float)], groups) if len(truth) else None
        return {
            "level": one.level,
            "fitted_on": one.rows,
            "fitted_on_groups": one.groups,
            "logarithmic": one.logarithmic,
            "radius": one.radius,
            "rows": len(truth),
            "groups": len(set(groups)),
            "coverage": one.coverage(truth, answers, groups) if len(truth) else None,
            "coverage_interval": [ends.low, ends.high] if ends else None,
            "mean_width": float((high - low).mean()) if len(truth) else None,
        }


def fit_prediction_intervals(validation: Predictions, level: float) -> dict[str, SplitConformal]:
    """Intervals of every number field, fitted on answers to rows that neither trained the model nor are evaluated.

    EvaluationError without a number field, and where too few answers could be read for the level.
    """
    names = validation.task.of_kind("number")
    if not names:
        raise EvaluationError(
            f"evaluate.coverage is {level:g} but the task has no number field; take the setting out of the recipe"
        )
    fitted = {}
    for name in names:
        truth, answers, rows = numbers(validation.truth(name), validation.predicted(name))
        fitted[name] = SplitConformal.fit(truth, answers, level, [validation.groups[row] for row in rows])
    return fitted
