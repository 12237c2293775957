"""Rank correlation, and its control in which one of the two variables is reordered."""

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


def shifted_rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """``rank_correlation`` where each entry has the ``y`` of the next one in the order of ``x``, and the last one that of the first.

    A control that can hold: the mean over all orders of ``y`` is 0 whatever the data are.

    >>> f"{shifted_rank_correlation(np.array([3.0, 1.0, 2.0]), np.array([0.4, 0.1, 0.2])):.2f}"
    '-0.50'
    """
    known = ~(np.isnan(x) | np.isnan(y))
    order = np.argsort(np.asarray(x)[known], kind="stable")
    return rank_correlation(np.asarray(x)[known][order], np.roll(np.asarray(y)[known][order], -1))
