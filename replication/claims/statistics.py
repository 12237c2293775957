"""Intervals over seeds, which claims are judged by.

Quantiles of Student's t come from scipy.special, since scipy.stats takes every job that judges a second to import.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

LEVEL = 0.90


def mean_interval(estimates: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval for the mean of one estimate per seed; unbounded for fewer than two seeds, nan where one is not finite.

    >>> low, high = mean_interval([1.0, 2.0, 3.0])
    >>> f"{low:.3f} to {high:.3f}"
    '0.314 to 3.686'
    """
    values = np.asarray(estimates, dtype=np.float64)
    if not np.isfinite(values).all():
        return math.nan, math.nan
    if len(values) < 2:
        return -math.inf, math.inf
    half = special.stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
