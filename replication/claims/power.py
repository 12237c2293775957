"""How many seeds a claim needs to be decided: the power of the verdict's rule, from estimates of pilots or of finished runs.

A claim is decided when the interval of the mean over seeds lies wholly inside or wholly outside of its acceptance region. With normal
estimates, the distance of the interval's end from an edge follows a noncentral t distribution (Student's t around a true effect: Cohen,
Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.5). Estimates with ties (ranks, shares of a few steps) are
resampled instead.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from replication.claims.statistics import LEVEL

POWER = 0.9  # the probability of a decision that a number of seeds is planned for
_MOST = 1000  # seeds; nobody trains more for one claim
_MOST_RESAMPLED = 100
_FARTHEST = 35.0  # standard errors; scipy's noncentral t ends near 37, where the probability is 0 or 1
_RESAMPLED = 4000  # samples for each number of seeds: the standard error of a probability of 0.9 is 0.005

Region = tuple[float, float]


def decision_probability(estimates: Sequence[float], region: Region, n_seeds: int, level: float = LEVEL) -> float:
    """How probably ``n_seeds`` new seeds decide a claim, if its true effect and spread are those of ``estimates``.

    Deciding means the right way: inside where the mean of ``estimates`` lies in ``region``, outside otherwise. For a region
    with two edges the probability inside is a lower bound (both ends of the interval are counted as failing apart from each other).

    Args:
        estimates: one per seed, at least two, finite.
        region: the open interval of acceptance; an end may be infinite.
        n_seeds: at least two.

    >>> f"{decision_probability([0.8, 1.0, 1.3], (0.0, float('inf')), n_seeds=3):.2f}"
    '0.99'
    >>> f"{decision_probability([-1.0, 0.5, 0.1], (-float('inf'), 0.0), n_seeds=3):.2f}"
    '0.08'
    """
    return _probability_function(estimates, region, level)(n_seeds)


def seeds_for_power(estimates: Sequence[float], region: Region, power: float = POWER, level: float = LEVEL) -> int | None:
    """The smallest number of seeds, from two, that decides a claim with probability ``power``, as ``decision_probability`` gives it.

    None where fewer than two estimates are finite, where one is not, or where even 1000 seeds (100 for estimates with ties) are too few.

    >>> seeds_for_power([0.8, 1.0, 1.3], (0.0, float("inf")))
    3
    >>> seeds_for_power([-1.0, 0.5, 0.1], (-float("inf"), 0.0))
    292
    """
    if len(estimates) < 2 or not np.isfinite(estimates).all():
        return None
    probability = _probability_function(estimates, region, level)
    most = _MOST_RESAMPLED if _has_ties(estimates) else _MOST
    return next((n for n in range(2, most + 1) if probability(n) >= power), None)


def chance_to_hold(estimates: Sequence[float], region: Region, n_seeds: int, level: float = LEVEL) -> float:
    """How probably the interval of ``n_seeds`` new seeds lies inside ``region``, wherever the mean of ``estimates`` lies.

    For a control, which must not hold, this is the chance that it spoils its claim; for a region with two edges an upper bound.

    >>> f"{chance_to_hold([-0.1, 0.1, 0.0], (0.0, float('inf')), n_seeds=3):.2f}"
    '0.05'
    """
    values = np.asarray(estimates, dtype=np.float64)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if sd == 0:
        return float(_inside(mean, region))
    sides = [mean - region[0], region[1] - mean]  # distances into the region, negative outside
    return min(_beyond(distance, sd, n_seeds, level) for distance in sides if math.isfinite(distance))


def _probability_function(estimates: Sequence[float], region: Region, level: float) -> Callable[[int], float]:
    values = np.asarray(estimates, dtype=np.float64)
    if _has_ties(estimates):
        return lambda n: _resampled_probability(values, region, n, level)
    return lambda n: _normal_probability(float(values.mean()), float(values.std(ddof=1)), region, n, level)


def _has_ties(estimates: Sequence[float]) -> bool:
    return len({round(value, 9) for value in estimates}) < len(estimates)


def _inside(mean: float, region: Region) -> bool:
    return region[0] < mean < region[1]


def _normal_probability(mean: float, sd: float, region: Region, n: int, level: float) -> float:
    distances = [abs(mean - edge) for edge in region if math.isfinite(edge)]
    if _inside(mean, region):
        return max(0.0, 1.0 - sum(1.0 - _beyond(distance, sd, n, level) for distance in distances))
    return _beyond(min(distances), sd, n, level)


def _beyond(distance: float, sd: float, n: int, level: float) -> float:
    """The probability that the whole interval lies on the mean's side of an edge, which is ``distance`` away from the mean.

    The interval's end passes the edge where a noncentral t exceeds the quantile of the level.
    """
    shift = math.sqrt(n) * distance / sd if sd > 0 else math.inf
    if abs(shift) > _FARTHEST:
        return float(shift > 0)
    return 1.0 - float(special.nctdtr(n - 1, shift, special.stdtrit(n - 1, (1 + level) / 2)))


def _resampled_probability(values: np.ndarray, region: Region, n: int, level: float) -> float:
    """From samples of the estimates and one more value on the nearest edge: few estimates that are all equal do not exclude others."""
    edge = min(region, key=lambda each: abs(float(values.mean()) - each))
    samples = np.random.default_rng(n).choice(np.append(values, edge), (_RESAMPLED, n))
    means, half = samples.mean(axis=1), special.stdtrit(n - 1, (1 + level) / 2) * samples.std(axis=1, ddof=1) / math.sqrt(n)
    if _inside(float(values.mean()), region):
        decided = (region[0] < means - half) & (means + half < region[1])
    else:
        decided = (means + half <= region[0]) | (means - half >= region[1])
    return float(decided.mean())
