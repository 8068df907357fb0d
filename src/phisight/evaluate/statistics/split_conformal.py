"""Split-conformal prediction: intervals around single numbers that hold the truth with a given probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SplitConformal:
    """Intervals around predicted numbers that hold the truth with a given probability.

    Fitted on rows the model was not trained on (the validation split); valid for rows drawn like those. The error is
    measured on the logarithm where all numbers are positive (an interval is then a factor up and down), else as it is.

    Source: split conformal prediction, with the (n + 1) correction of the quantile.
    """

    level: float
    logarithmic: bool
    radius: float
    rows: int

    @classmethod
    def fit(cls, truth: Array, predicted: Array, level: float = 0.8) -> SplitConformal:
        """Fit on truths and predictions float64[n]; EvaluationError for too few rows for the level."""
        if not 0 < level < 1:
            raise EvaluationError(f"a level of {level} is not between 0 and 1; 0.8 means four truths in five")
        rows = len(truth)
        rank = int(np.ceil((rows + 1) * level))
        if rank > rows:
            least = int(np.ceil(level / (1 - level)))
            raise EvaluationError(f"{rows} rows are too few for intervals of {level:.0%}; hand in at least {least}")
        logarithmic = bool((truth > 0).all() and (predicted > 0).all())
        gaps = np.abs(np.log(truth) - np.log(predicted)) if logarithmic else np.abs(truth - predicted)
        return cls(level, logarithmic, float(np.sort(gaps)[rank - 1]), rows)

    def bounds(self, predicted: Array) -> tuple[Array, Array]:
        """Lower and upper ends float64[n]; an interval on the logarithm needs positive predictions."""
        if not self.logarithmic:
            return predicted - self.radius, predicted + self.radius
        positive = np.maximum(predicted, 0)
        return positive * np.exp(-self.radius), positive * np.exp(self.radius)

    def coverage(self, truth: Array, predicted: Array) -> float:
        """Share of the truths within their intervals."""
        low, high = self.bounds(predicted)
        return float(((truth >= low) & (truth <= high)).mean())

    def abstains(self, predicted: Array, widest: float) -> NDArray[np.bool_]:
        """Where the upper end is more than ``widest`` times the lower one, or the lower is not positive while the upper
        is: better no answer than this one.
        """
        low, high = self.bounds(predicted)
        return np.asarray(high > widest * np.maximum(low, 0))
