"""Wilson's interval of a share of independent observations; it has a width where all or none are counted, too."""

from __future__ import annotations

import math
from statistics import NormalDist

from phisight.evaluate.statistics.bootstrap import Interval


def wilson(counted: float, total: int, level: float = 0.95) -> Interval:
    """The interval of ``counted`` of ``total`` observations; of none it is 0 to 1."""
    if not total:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, width = counted / total, z * z / total
    middle = (share + width / 2) / (1 + width)
    reach = z * math.sqrt(share * (1 - share) / total + width / (4 * total)) / (1 + width)
    low = 0.0 if counted <= 0 else middle - reach
    return Interval(max(0.0, low), 1.0 if counted >= total else min(1.0, middle + reach))
