"""Is a paired difference above zero? One mean per group, then two tests over groups that must agree.

    differences of rows -> mean of each group -> Wilcoxon signed-rank (one-sided) and bootstrap interval of their mean

Rows of one product are not independent: a model that answers by product, without knowing anything about it, is right or
wrong for all photos of a product at once. The Wilcoxon test alone asks for a symmetric distribution, the bootstrap
alone is too narrow for few groups; a difference counts where both see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phisight.evaluate.statistics.bootstrap import Groups, Interval, group_codes, interval
from phisight.evaluate.statistics.resamples import OfMeans

FEW = 10
"""Below this many groups no test can tell."""

Array = NDArray[np.float64]
MEAN = OfMeans(lambda values: (values,), lambda mean: mean)
"""The mean of one column."""


@dataclass(frozen=True)
class GroupTest:
    """Test that a difference lies above zero; every group counts once, however many rows it has."""

    rows: int
    groups: int
    mean: float | None
    """Mean over groups; None without a row."""
    interval: Interval | None
    """95 % bootstrap interval of the mean over groups."""
    p_value: float
    """One-sided p of the Wilcoxon signed-rank test over groups; 1 where nothing differs."""

    def above_zero(self, limit: float, p_value: float | None = None) -> bool:
        """Enough groups, p below ``limit`` (``p_value``: one that was corrected for other tests), interval above 0."""
        p = self.p_value if p_value is None else p_value
        return self.groups >= FEW and p < limit and self.interval is not None and self.interval.low > 0


def group_test(differences: Array, groups: Groups = None, *, seed: int = 0, resamples: int = 1000) -> GroupTest:
    """Test differences float64[n] of rows with the given groups."""
    means = group_means(differences, groups)
    return GroupTest(
        rows=len(differences),
        groups=len(means),
        mean=float(means.mean()) if len(means) else None,
        interval=interval(MEAN, [means], resamples=resamples, seed=seed) if len(means) else None,
        p_value=_signed_rank(means),
    )


def group_means(values: Array, groups: Groups = None) -> Array:
    """float64[G]: the mean of each group, groups in the order in which they first occur."""
    codes = group_codes(groups, len(values))
    return np.bincount(codes, weights=values) / np.bincount(codes) if len(values) else np.zeros(0)


def _signed_rank(values: Array) -> float:
    if not np.any(values):
        return 1.0
    from scipy.stats import wilcoxon  # takes half a second

    return float(wilcoxon(values, alternative="greater", zero_method="zsplit", method="approx").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for each other (Holm): all may be compared with one limit."""
    order = np.argsort(np.asarray(p_values), kind="stable").tolist()
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
