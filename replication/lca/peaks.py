"""Do layers learn in the same iterations? Peaks of learning of every layer and class, and what chance gives (LCA, Figure 8).

Arrays of marks are Boolean ``[n_layers, n_classes, n_steps]``: where the allocation of a layer, summed over its parameters, to
a class's share of the loss has a peak. The statistic is the number of (class, step) in which all layers peak.
"""

from collections.abc import Iterator

import numpy as np

from replication.errors import ReplicationError

_AT_ONCE = 200  # draws whose marks are held together


def peaks(series: np.ndarray, most: int = 20) -> np.ndarray:
    """The ``most`` deepest peaks of every series, Boolean and of its shape ``[..., n_steps]`` (specification 1.6).

    A peak is a strict local minimum below zero; the first and the last step have one neighbour and are none. Of equally deep ones
    the earlier are kept. A value that is not finite is no peak, nor is a neighbour of nan.
    """
    series = np.asarray(series, dtype=np.float64)
    inner, found = series[..., 1:-1], np.zeros(series.shape, dtype=bool)
    found[..., 1:-1] = (inner < series[..., :-2]) & (inner < series[..., 2:]) & (inner < 0) & np.isfinite(inner)
    order = np.argsort(np.where(found, series, np.inf), axis=-1, kind="stable")
    deepest = np.zeros_like(found)
    np.put_along_axis(deepest, order[..., :most], True, axis=-1)
    return found & deepest


def coincidences(marks: np.ndarray) -> int:
    """The number of (class, step) in which all layers peak."""
    return int(marks.all(axis=0).sum())


def shifted(marks: np.ndarray, draws: int, random: np.random.Generator, reach: int | None = None) -> np.ndarray:
    """Coincidences ``[draws]`` after each layer was shifted circularly in time, independently of the others (null A).

    A layer's classes are shifted together, so what they share and their autocorrelation stay. With ``reach`` shifts are at most
    that many steps to either side, and the course of training (most peaks early) stays as well.

    Raises:
        ReplicationError: ``reach`` is negative or as long as the series.
    """
    n_layers, _, n_steps = marks.shape
    if reach is not None and not 0 <= reach < n_steps:
        raise ReplicationError(f"The reach of a shift is {reach} steps; allowed: from 0 to {n_steps - 1}.")
    low, high = (0, n_steps) if reach is None else (-reach, reach + 1)
    shifts = random.integers(low, high, size=(draws, n_layers, 1))
    return _counts(marks, ((np.arange(n_steps) - some) % n_steps for some in _blocks(shifts)))


def of_other_classes(marks: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Coincidences ``[draws]`` when layers of different classes are combined (null B).

    Every class meets two others, once in each layer, so the time structure that all classes share stays and what is special to a
    class is lost.

    Raises:
        ReplicationError: there are fewer classes than layers.
    """
    n_layers, n_classes, _ = marks.shape
    if n_classes < n_layers:
        raise ReplicationError(f"{n_layers} layers of different classes need as many classes, and there are {n_classes}; leave layers out.")
    counts = np.empty(draws, dtype=np.int64)
    for draw in range(draws):
        classes, turns = random.permutation(n_classes), random.permutation(n_classes)[:n_layers]
        counts[draw] = coincidences(np.stack([layer[np.roll(classes, turn)] for layer, turn in zip(marks, turns, strict=True)]))
    return counts


def shuffled(marks: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Coincidences ``[draws]`` after each layer's steps were permuted, independently of the others (null C)."""
    n_layers, _, n_steps = marks.shape
    orders = np.broadcast_to(np.arange(n_steps), (draws, n_layers, n_steps))
    return _counts(marks, (random.permuted(some, axis=-1) for some in _blocks(orders)))


def ratio(observed: float, null: np.ndarray) -> float:
    """``observed`` over the mean of ``null``; infinite or nan where that is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(observed) / null.mean())


def p_value(observed: float, null: np.ndarray) -> float:
    """One-sided: how often chance reaches ``observed``, the observation itself counted as one draw, so never 0."""
    return float((1 + np.sum(null >= observed)) / (1 + len(null)))


def _blocks(draws: np.ndarray) -> Iterator[np.ndarray]:
    return (draws[start : start + _AT_ONCE] for start in range(0, len(draws), _AT_ONCE))


def _counts(marks: np.ndarray, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Coincidences of every draw; a block holds for each draw, layer and step which step's marks come there ``[n, n_layers, n_steps]``."""
    counts = []
    for block in blocks:
        together = marks[0][:, block[:, 0]]
        for number in range(1, len(marks)):
            together &= marks[number][:, block[:, number]]
        counts.append(together.sum(axis=(0, 2)))
    return np.concatenate(counts)
