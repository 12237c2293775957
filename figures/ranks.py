"""Rank correlation, and its control in which one of the two variables is reordered."""

import itertools

import numpy as np
from scipy import stats


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation over the pairs without nan; infinite values rank first or last. nan where one does not vary.

    >>> rank_correlation(np.array([1, 2, 3, np.inf]), np.array([0.1, 0.2, 0.4, 0.5]))
    1.0
    >>> rank_correlation(np.array([1, 2, 3]), np.array([5, 5, 5]))
    nan
    """
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = np.asarray(x)[known], np.asarray(y)[known]
    varies = len(np.unique(x)) > 1 and len(np.unique(y)) > 1
    return float(stats.spearmanr(x, y).statistic) if varies else float("nan")


def permuted_rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The mean of ``rank_correlation`` over all orders of ``y``: what remains where the pairing is by chance.

    Rounded to twelve digits, because rounding errors would all lie on one side of a bound at 0.

    >>> permuted_rank_correlation(np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.4]))
    0.0
    """
    return round(float(np.mean([rank_correlation(x, np.array(order)) for order in itertools.permutations(y)])), 12)
