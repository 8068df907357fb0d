"""The error of the answers that remain when the least confident ones are given to a person.

    coverage 1.00   all rows answered       error of all
             0.95   the surest 95 %         error of these
             ...
             0.50   the surest half

A confidence that knows something makes the error fall with the coverage; one that knows nothing leaves it level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from phisight.evaluate.statistics.bootstrap import group_codes
from phisight.evaluate.statistics.resamples import Resamples

COVERAGES = tuple(round(1 - 0.05 * step, 2) for step in range(11))
"""1.00, 0.95, ... 0.50"""


def risk_coverage(
    wrong: Sequence[bool], confidence: Sequence[float | None], groups: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Error at each coverage, with intervals over groups.

    Args:
        wrong: Whether an answer has a field that is wrong (an unread answer is).
        confidence: In a whole answer; None (unread) comes last.
        groups: Rows of one group are one observation.
        seed: Of the resamples.

    Returns:
        ``rows``, ``points`` [{"coverage", "rows", "error", "interval", "least_confidence"}], and ``gain``: error at
        full coverage less that at half, with its interval; an interval that holds zero says that confidence does not
        tell right answers from wrong ones.
    """
    values = np.asarray(wrong, np.float64)
    ranks = np.asarray([-1.0 if one is None else one for one in confidence], np.float64)
    codes = group_codes(groups, len(groups))
    count = int(codes.max(initial=-1)) + 1
    order = np.argsort(-ranks, kind="stable")
    drawn = _resampled(values[order], codes[order], count, seed) if count > 1 else None
    points: list[dict[str, Any]] = []
    for place, coverage in enumerate(COVERAGES):
        kept = max(1, round(coverage * len(values)))
        ends = None if drawn is None else np.percentile(drawn[:, place], [2.5, 97.5]).tolist()
        points.append(
            {
                "coverage": coverage,
                "rows": kept,
                "error": float(values[order][:kept].mean()),
                "interval": ends,
                "least_confidence": max(0.0, float(ranks[order][kept - 1])),
            }
        )
    gain = None if drawn is None else np.percentile(drawn[:, 0] - drawn[:, -1], [2.5, 97.5]).tolist()
    first, last = points[0]["error"], points[-1]["error"]
    return {"rows": len(values), "points": points, "gain": {"value": first - last, "interval": gain}}


def _resampled(wrong: Any, codes: Any, count: int, seed: int) -> Any:
    """float64[resamples, coverages]: errors of resamples of groups, rows in order of confidence."""
    found = []
    for chunk in Resamples(count, 1000, seed).chunks():
        weights = chunk[:, codes].astype(np.float64)  # how often each row is drawn
        behind, errors = weights.cumsum(axis=1), (weights * wrong).cumsum(axis=1)
        total = behind[:, -1:]
        columns = []
        for coverage in COVERAGES:
            at = np.minimum((behind < coverage * total).sum(axis=1), len(wrong) - 1)
            rows = np.arange(len(weights))
            columns.append(errors[rows, at] / np.maximum(behind[rows, at], 1))
        found.append(np.stack(columns, axis=1))
    return np.concatenate(found)
