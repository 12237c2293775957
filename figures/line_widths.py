"""How wide a basin is on a line through parameter space: around one of two minimisers, or around the centre of a slice."""

import numpy as np


def low_loss_width(alphas: np.ndarray, loss: np.ndarray, at: float, level: float, limits: tuple[float, float]) -> float:
    """Length of the interval around ``at`` and within ``limits`` on which the loss stays below ``level``.

    Between points the loss is linear; a loss that is not finite counts as infinite. At ``at`` itself such a loss gives nan, and one that
    is not below the level 0.

    >>> alphas = np.linspace(-1, 1, 21)
    >>> round(low_loss_width(alphas, 4 * abs(alphas), 0, 1, (-1, 1)), 6)
    0.5
    """
    loss = np.where(np.isfinite(loss), loss, np.inf)
    place = int(np.abs(alphas - at).argmin())
    if np.isinf(loss[place]):
        return float("nan")
    below = loss - level
    if below[place] >= 0:
        return 0.0
    low, high = np.interp([place - _reach(below[place::-1]), place + _reach(below[place:])], np.arange(len(alphas)), alphas)
    return float(min(high, limits[1]) - max(low, limits[0]))


def basin_width(alphas: np.ndarray, loss: np.ndarray, at: float, limits: tuple[float, float]) -> float:
    """``low_loss_width`` at the loss of the point ``at`` plus 1.

    >>> alphas = np.linspace(-1, 1, 21)
    >>> round(basin_width(alphas, 0.3 + 4 * abs(alphas), 0, (-1, 1)), 6)
    0.5
    """
    return low_loss_width(alphas, loss, at, float(loss[int(np.abs(alphas - at).argmin())]) + 1, limits)


def _reach(below: np.ndarray) -> float:
    """How many steps, in fractions, a walk makes until it is no longer below zero; to the end where it stays there."""
    above = np.flatnonzero(below >= 0)
    if not len(above):
        return len(below) - 1.0
    end = int(above[0])
    return float(end - below[end] / (below[end] - below[end - 1])) if np.isfinite(below[end]) else end - 1.0
