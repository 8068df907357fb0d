"""Split-conformal prediction: intervals around single numbers that hold the truth with a given probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.evaluate.statistics.bootstrap import Groups, group_codes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SplitConformal:
    """Intervals around predicted numbers that hold the truth of a new group's row with a given probability.

    Fitted on rows the model was not trained on (the validation split); valid for rows of groups drawn like those. Every
    group counts once, however many rows it has. The error is measured on the logarithm where all numbers are positive
    (an interval is then a factor up and down), else as it is.

    Source: hierarchical conformal prediction (Lee, Barber and Willett, 2023): each row weighs 1 / (rows of its group),
    and the level is reached among G + 1 groups.
    """

    level: float
    logarithmic: bool
    radius: float
    rows: int
    groups: int

    @classmethod
    def fit(cls, truth: Array, predicted: Array, level: float = 0.8, groups: Groups = None) -> SplitConformal:
        """Fit on truths and predictions float64[n]; EvaluationError for too few groups for the level."""
        if not 0 < level < 1:
            raise EvaluationError(f"a level of {level} is not between 0 and 1; 0.8 means four truths in five")
        codes = group_codes(groups, len(truth))
        count = int(codes.max(initial=-1)) + 1
        wanted = (count + 1) * level
        if wanted > count + 1e-9:
            least = int(np.ceil(level / (1 - level) - 1e-9))
            raise EvaluationError(
                f"{len(truth)} rows of {count} products are too few for intervals of {level:.0%}; at least {least} "
                "products are needed"
            )
        logarithmic = bool((truth > 0).all() and (predicted > 0).all())
        gaps = np.abs(np.log(truth) - np.log(predicted)) if logarithmic else np.abs(truth - predicted)
        order = np.argsort(gaps, kind="stable")
        reached = np.cumsum((1.0 / np.bincount(codes))[codes[order]])
        radius = gaps[order[min(int(np.searchsorted(reached, wanted - 1e-9)), len(order) - 1)]]
        return cls(level, logarithmic, float(radius), len(truth), count)

    def bounds(self, predicted: Array) -> tuple[Array, Array]:
        """Lower and upper ends float64[n]; an interval on the logarithm needs positive predictions."""
        if not self.logarithmic:
            return predicted - self.radius, predicted + self.radius
        positive = np.maximum(predicted, 0)
        return positive * np.exp(-self.radius), positive * np.exp(self.radius)

    def covered(self, truth: Array, predicted: Array) -> NDArray[np.bool_]:
        """bool[n]: the truth lies within its interval."""
        low, high = self.bounds(predicted)
        return np.asarray((truth >= low) & (truth <= high))

    def coverage(self, truth: Array, predicted: Array, groups: Groups = None) -> float:
        """Share of the truths within their intervals, every group counting once."""
        codes = group_codes(groups, len(truth))
        return float((np.bincount(codes, weights=self.covered(truth, predicted)) / np.bincount(codes)).mean())
