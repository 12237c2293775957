"""Do layers learn in the same iterations? Peaks of learning of every layer and class, and what chance gives (LCA, Figure 8).

Marks are Boolean arrays ``[n_layers, n_classes, n_steps]``. A mark says that the allocation of a layer (summed over its parameters)
to a class's share of the loss has a peak in that step. The statistic is the number of (class, step) in which all layers peak; the
paper's own definition of a peak is not known, and the one here is described in docs/papers/lca.md.
"""

from collections.abc import Iterator

import numpy as np

from replication.errors import ReplicationError

_DRAWS_AT_ONCE = 200  # their marks are held together


def peaks(series: np.ndarray, most: int = 20) -> np.ndarray:
    """The ``most`` deepest peaks of every series ``[..., n_steps]``, a Boolean array of the same shape.

    A peak is a strict local minimum below zero. The first and the last step have only one neighbour and are never a peak. Of equally
    deep peaks the earlier are kept. A value that is not finite is no peak, and neither is a neighbour of nan.

    >>> np.flatnonzero(peaks(np.array([0, -1, 0, -3, -2, -2.5, 0]), most=2)).tolist()
    [3, 5]
    """
    series = np.asarray(series, dtype=np.float64)
    inner, minima = series[..., 1:-1], np.zeros(series.shape, dtype=bool)
    minima[..., 1:-1] = (inner < series[..., :-2]) & (inner < series[..., 2:]) & (inner < 0) & np.isfinite(inner)
    order = np.argsort(np.where(minima, series, np.inf), axis=-1, kind="stable")
    deepest = np.zeros_like(minima)
    np.put_along_axis(deepest, order[..., :most], True, axis=-1)
    return minima & deepest


def coincidences(marks: np.ndarray) -> int:
    """The number of (class, step) in which all layers peak.

    >>> coincidences(np.array([[[True, False, True]], [[True, True, False]]]))
    1
    """
    return int(marks.all(axis=0).sum())


def shifted(marks: np.ndarray, draws: int, random: np.random.Generator, reach: int | None = None) -> np.ndarray:
    """Coincidences ``[draws]`` after each layer was shifted circularly in time, independently of the others (null A).

    A layer's classes are shifted together, so their autocorrelation and what they have in common stay.

    Args:
        reach: the largest shift to either side, in steps; the course of training (most peaks early) then stays as well. None: any shift.

    Raises:
        ReplicationError: ``reach`` is negative or as long as the series.

    >>> marks = np.zeros((2, 1, 50), dtype=bool)
    >>> marks[:, 0, [10, 30]] = True
    >>> shifted(marks, 4, np.random.default_rng(0), reach=0).tolist()
    [2, 2, 2, 2]
    """
    n_layers, _, n_steps = marks.shape
    if reach is not None and not 0 <= reach < n_steps:
        raise ReplicationError(f"The reach of a shift is {reach} steps; allowed: from 0 to {n_steps - 1}.")
    low, high = (0, n_steps) if reach is None else (-reach, reach + 1)
    shifts = random.integers(low, high, size=(draws, n_layers, 1))
    return _counts(marks, ((np.arange(n_steps) - block) % n_steps for block in _blocks(shifts)))


def of_other_classes(marks: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Coincidences ``[draws]`` when layers of different classes are combined (null B).

    In every layer a class is replaced by another one, so the time structure that all classes share stays, and what is special to a
    class is lost.

    Raises:
        ReplicationError: there are fewer classes than layers.

    >>> marks = np.eye(3, dtype=bool)[None].repeat(2, axis=0)  # each class peaks in a step of its own, in both layers
    >>> coincidences(marks), of_other_classes(marks, 3, np.random.default_rng(0)).tolist()
    (3, [0, 0, 0])
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
    """Coincidences ``[draws]`` after each layer's steps were permuted, independently of the others (null C).

    >>> marks = np.ones((2, 1, 5), dtype=bool)
    >>> shuffled(marks, 2, np.random.default_rng(0)).tolist()
    [5, 5]
    """
    n_layers, _, n_steps = marks.shape
    orders = np.broadcast_to(np.arange(n_steps), (draws, n_layers, n_steps))
    return _counts(marks, (random.permuted(block, axis=-1) for block in _blocks(orders)))


def ratio(observed: float, null: np.ndarray) -> float:
    """``observed`` over the mean of ``null``; infinite or nan where that mean is zero.

    >>> ratio(6, np.array([1, 2, 3]))
    3.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(observed) / null.mean())


def p_value(observed: float, null: np.ndarray) -> float:
    """One-sided p-value: how often chance reaches ``observed``. The observation itself counts as one draw, so it is never 0.

    >>> p_value(3, np.array([0, 1, 3]))
    0.5
    """
    return float((1 + np.sum(null >= observed)) / (1 + len(null)))


def _blocks(draws: np.ndarray) -> Iterator[np.ndarray]:
    return (draws[start : start + _DRAWS_AT_ONCE] for start in range(0, len(draws), _DRAWS_AT_ONCE))


def _counts(marks: np.ndarray, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Coincidences of every draw. A block ``[n, n_layers, n_steps]`` says for each draw, layer and step which step's marks move there."""
    counts = []
    for block in blocks:
        together = marks[0][:, block[:, 0]]
        for number in range(1, len(marks)):
            together &= marks[number][:, block[:, number]]
        counts.append(together.sum(axis=(0, 2)))
    return np.concatenate(counts)
