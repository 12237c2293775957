"""Distributions that allocations are described by and compared with: Weibull, Gaussian, binomial, concentration."""

import math

import numpy as np
from scipy import optimize, stats


def weibull_fit(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Maximum-likelihood shape and scale of a Weibull distribution for positive ``values``, each ``counts`` times.

    The shape k solves sum(w x^k ln x) / sum(w x^k) - 1/k = mean(ln x); the scale is mean(x^k)^(1/k). Values enter relative to
    the largest, so that no power overflows, and k is at least 1/s with s = ln(max x) - mean(ln x). Returns (nan, nan) where
    fewer than two different values are given or one is infinite.

    >>> values = np.random.default_rng(0).weibull(0.5, 10_000)
    >>> shape, scale = weibull_fit(values, np.ones(10_000))
    >>> round(shape, 1), round(scale, 1)
    (0.5, 1.0)
    """
    used = (counts > 0) & (values > 0)
    x, w = np.asarray(values, dtype=np.float64)[used], np.asarray(counts, dtype=np.float64)[used]
    if len(x) < 2 or not np.isfinite(x).all():
        return math.nan, math.nan
    logs = np.log(x) - np.log(x.max())
    w = w / w.sum()
    mean_log = float(w @ logs)
    if not mean_log:  # all the same
        return math.nan, math.nan

    def score(shape: float) -> float:
        powers = w * np.exp(shape * logs)
        return float(powers @ logs / powers.sum() - 1 / shape - mean_log)

    high = 2 / -mean_log
    while score(high) < 0:
        high *= 2
    shape = float(optimize.brentq(score, 0.999 / -mean_log, high))
    return shape, float(x.max() * (w @ np.exp(shape * logs)) ** (1 / shape))


def gaussian_share_beyond(sigmas: float) -> float:
    """Share of the sum of abs(x) that lies beyond ``sigmas`` standard deviations for a centred Gaussian: exp(-s^2 / 2).

    >>> round(gaussian_share_beyond(2), 3)
    0.135
    """
    return math.exp(-(sigmas**2) / 2)


def binomial_shares(trials: np.ndarray, chance: float, edges: np.ndarray) -> np.ndarray:
    """Expected numbers in the bins between ``edges`` of 100 k / n, over independent coins with n = ``trials`` tosses each.

    Bins are closed to the left, the last one on both sides, as in ``numpy.histogram``.

    >>> binomial_shares(np.array([2, 2]), 0.5, np.array([0, 50, 100])).round(6).tolist()
    [0.5, 1.5]
    """
    expected = np.zeros(len(edges) - 1)
    for n, times in zip(*np.unique(trials, return_counts=True), strict=True):
        heads = np.arange(n + 1)
        expected += np.histogram(100 * heads / n, edges, weights=times * stats.binom.pmf(heads, n, chance))[0]
    return expected


def gini(values: np.ndarray, counts: np.ndarray) -> float:
    """Gini coefficient of non-negative ``values``, each ``counts`` times: 0 where all are equal, near 1 where one has everything.

    >>> gini(np.array([0.0, 1.0]), np.array([3, 1]))
    0.75
    """
    shares, amounts = _lorenz(values, counts)
    return float(1 - np.sum(np.diff(shares) * (amounts[1:] + amounts[:-1]))) if len(shares) > 1 else math.nan


def top_share(values: np.ndarray, counts: np.ndarray, fraction: float) -> float:
    """Per cent of the sum of non-negative ``values`` (each ``counts`` times) that the largest ``fraction`` of them holds.

    >>> round(top_share(np.array([1.0, 9.0]), np.array([9, 1]), 0.1), 6)
    50.0
    """
    shares, amounts = _lorenz(values, counts)
    return float(100 * (1 - np.interp(1 - fraction, shares, amounts))) if len(shares) > 1 else math.nan


def fraction_holding(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    """Per cent of ``values`` (each ``counts`` times), the largest ones, that hold ``share`` of their sum.

    >>> round(fraction_holding(np.array([1.0, 9.0]), np.array([9, 1]), 0.5), 6)
    10.0
    """
    shares, amounts = _lorenz(values, counts)
    return float(100 * (1 - np.interp(1 - share, amounts, shares))) if len(shares) > 1 else math.nan


def _lorenz(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Lorenz curve: the share of the values, smallest first, and the share of the sum they hold; empty where the sum is zero."""
    order = np.argsort(values)
    number, amount = np.asarray(counts, dtype=np.float64)[order], (np.asarray(values) * counts)[order]
    if not amount.sum() > 0:
        return np.empty(0), np.empty(0)
    return np.concatenate([[0], number.cumsum() / number.sum()]), np.concatenate([[0], amount.cumsum() / amount.sum()])
