"""Stiffness against the distance of inputs: the critical length (later versions) and stiff domains (version 1, figures 9 and 10)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.stiffness.pairs import Kind, Norms, Pairs, pairs_of

Among = Literal["within", "between", "all"]
_LEVEL = 0.90  # of the interval of a critical length
_FLAT = 1e-12  # change of the fitted line over the distances, relative to the stiffness, that is rounding


@dataclass(frozen=True)
class CriticalLength:
    """The distance at which a straight line through stiffness against distance falls to zero.

    Attributes:
        length: -intercept / slope; nan where the fit is degenerate.
        slope, intercept: of the least-squares line through all pairs.
        smallest_distance, largest_distance: of the pairs.
        extrapolated: the length lies outside of the distances in the data.
        degenerate: there is no falling line (all distances or values are equal, or the slope is not negative), or pairs are not finite.
        low, high: interval of the length by resampling examples; nan without resampling.
        undefined_resamples: resamples without a falling line; they are left out of the interval.
        pairs: ordered pairs fitted.
        zero_gradients, non_finite: pairs left out for a zero gradient; pairs that are not finite, in stiffness or distance.
    """

    length: float
    slope: float
    intercept: float
    smallest_distance: float
    largest_distance: float
    extrapolated: bool
    degenerate: bool
    low: float
    high: float
    undefined_resamples: int
    pairs: int
    zero_gradients: int
    non_finite: int


def distances(inputs: Tensor, columns: Tensor | None = None) -> Tensor:
    """d = 1 - X1 . X2 / (|X1| |X2|), float64 ``[n, m]`` in [0, 2]; nan for an input of zeros.

    Args:
        inputs: images or representations ``[n, ...]``; centring them changes d completely, representations after ReLU stay in [0, 1].
        columns: a second set ``[m, ...]``; the same by default.

    Raises:
        ReplicationError: the two sets have examples of different sizes.

    Example:
        >>> import torch
        >>> from replication.stiffness import distances
        >>> distances(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([[0., 1.],
                [1., 0.]], dtype=torch.float64)
    """
    left = inputs.flatten(1).double()
    right = left if columns is None else columns.flatten(1).to(left)
    if left.shape[1] != right.shape[1]:
        raise ReplicationError(
            f"The examples have {left.shape[1]} and {right.shape[1]} numbers; distances need the same number in both sets."
        )
    cosines = (left / left.norm(dim=1, keepdim=True)) @ (right / right.norm(dim=1, keepdim=True)).T
    return 1 - cosines.clamp(-1, 1)


def critical_length(
    gram: Tensor,
    distances: Tensor,
    labels: Tensor,
    *,
    kind: Kind = "cosine",
    among: Among = "within",
    column_labels: Tensor | None = None,
    squared_norms: Norms | None = None,
    generator: torch.Generator | None = None,
    resamples: int = 500,
    level: float = _LEVEL,
) -> CriticalLength:
    """The dynamical critical length xi: where within-class stiffness crosses zero on average (later versions of the paper).

    A least-squares line through the pairs, with equal weight for every pair. It is not known whether the paper fits signs or cosines,
    pairs or bins, nor over which range. Examples are resampled within their classes, not pairs, which share examples.

    Args:
        gram: ``[n, n]``, or ``[n, m]`` with ``column_labels`` and ``squared_norms`` as in ``class_matrix``.
        distances: ``[n, m]``, as ``distances`` gives them.
        labels: class indices of the rows ``[n]``.
        among: pairs of the same class, of different classes, or all; never an example with itself.
        generator: draws the resamples; none are drawn without it.
        level: of the interval.

    Raises:
        ReplicationError: shapes that do not fit, an unknown kind or choice of pairs.

    Example:
        Cosines that fall along 0.3 - 0.5 d cross zero at d = 0.6.

        >>> import torch
        >>> from replication.stiffness import critical_length
        >>> d = torch.tensor([[0.0, 0.2, 0.8], [0.2, 0.0, 0.5], [0.8, 0.5, 0.0]], dtype=torch.float64)
        >>> gram = (0.3 - 0.5 * d).fill_diagonal_(1.0)
        >>> fit = critical_length(gram, d, torch.zeros(3, dtype=torch.int64))
        >>> round(fit.length, 6), fit.extrapolated, fit.pairs
        (0.6, False, 6)
    """
    pairs = pairs_of(gram, labels, kind, column_labels=column_labels, squared_norms=squared_norms)
    chosen = _among(pairs, among)
    x = _fitting(distances, pairs)
    spoilt = chosen & (pairs.non_finite | (pairs.used & ~x.isfinite()))
    used = chosen & pairs.used & x.isfinite()
    y = torch.where(used, pairs.stiffness, 0.0)
    # about the middle of the distances, so that sums of squares keep their digits
    middle = x[used].mean().item() if bool(used.any()) else math.nan
    moments = _moments(torch.where(used, x - middle, 0.0), y, used.double())
    ones = torch.ones(len(x), dtype=torch.float64, device=x.device), torch.ones(x.shape[1], dtype=torch.float64, device=x.device)
    low, high = (x[used].min().item(), x[used].max().item()) if bool(used.any()) else (math.nan, math.nan)
    line = _line(moments, *ones, middle=middle, span=high - low)
    if spoilt.any():
        line = (math.nan,) * 3
    resampled = () if generator is None else pairs.resampled(generator, resamples)
    sample = [_line(moments, *weights, middle=middle, span=high - low)[0] for weights in resampled]
    interval = _interval([math.nan] * len(sample) if spoilt.any() else sample, level)
    return CriticalLength(
        *line, low, high, bool(line[0] < low or line[0] > high), math.isnan(line[0]), *interval,
        int(used.sum()), int((chosen & pairs.zero_gradient).sum()), int(spoilt.sum()),
    )  # fmt: skip


def binned(
    gram: Tensor,
    similarities: Tensor,
    labels: Tensor,
    *,
    kind: Kind = "sign",
    among: Among = "all",
    edges: Tensor,
    column_labels: Tensor | None = None,
    squared_norms: Norms | None = None,
) -> pd.DataFrame:
    """Mean stiffness in bins of similarity (version 1, figure 9: signs of all pairs in about 30 bins of cosine similarity).

    Args:
        similarities: ``[n, n]`` or ``[n, m]``, for instance ``1 - distances(representations)``.
        edges: of the bins, rising ``[n_bins + 1]``; a bin holds its lower edge, the last also its upper one.
        gram, labels, kind, among, column_labels, squared_norms: as in ``critical_length``.

    Returns:
        columns ``low``, ``high``, ``similarity`` (mean of the pairs), ``stiffness`` (nan in an empty bin or where a pair is not finite),
        ``pairs``, ``non_finite``.

    Raises:
        ReplicationError: as ``critical_length``, or edges that do not rise.

    Example:
        >>> import torch
        >>> from replication.stiffness import binned
        >>> gram = torch.tensor([[1.0, 0.5, -0.5], [0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]])
        >>> similarities = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
        >>> binned(gram, similarities, torch.tensor([0, 0, 1]), edges=torch.tensor([0.0, 0.5, 1.0]))[["stiffness", "pairs"]]
           stiffness  pairs
        0       -1.0      4
        1        1.0      2
    """
    edges = edges.to(gram.device).double()
    if len(edges) < 2 or not bool((edges.diff() > 0).all()):
        raise ReplicationError(f"The edges of the bins are {edges.tolist()}; give at least two, each larger than the one before.")
    pairs = pairs_of(gram, labels, kind, column_labels=column_labels, squared_norms=squared_norms)
    x, chosen = _fitting(similarities, pairs), _among(pairs, among)
    bins = (torch.bucketize(x, edges, right=True) - 1).masked_fill_(x == edges[-1], len(edges) - 2)
    rows = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        here = chosen & (bins == number)
        used, spoilt = here & pairs.used, int((here & pairs.non_finite).sum())
        mean = pairs.stiffness[used].mean().item() if not spoilt else math.nan
        rows.append((low, high, x[used].mean().item(), mean, int(used.sum()), spoilt))
    return pd.DataFrame(rows, columns=["low", "high", "similarity", "stiffness", "pairs", "non_finite"])


def upper_crossing(similarity: np.ndarray, stiffness: np.ndarray) -> float:
    """The highest similarity at which stiffness rises through zero, by linear interpolation between bins (version 1, figure 9).

    One minus it is version 1's size of a stiff domain (figure 10; the paper does not say how it is read off, this is our reading).

    Args:
        similarity, stiffness: the curve ``[n_bins]``; empty bins (nan) are left out.

    Returns:
        nan where the curve does not end above zero or never lies at or below it.

    Raises:
        ReplicationError: the two arrays differ in shape.

    Example:
        >>> import numpy as np
        >>> from replication.stiffness import upper_crossing
        >>> round(upper_crossing(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.1, -0.1, -0.1, 0.1])), 6)
        0.7
    """
    x, y = np.asarray(similarity, dtype=np.float64), np.asarray(stiffness, dtype=np.float64)
    if x.shape != y.shape:
        raise ReplicationError(f"The curve has {x.shape} similarities and {y.shape} values of stiffness; give one for each.")
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    x, y = x[known][order], y[known][order]
    below = np.flatnonzero(y <= 0)
    if not len(below) or below[-1] == len(y) - 1:
        return math.nan
    last = below[-1]
    return float(x[last] - y[last] * (x[last + 1] - x[last]) / (y[last + 1] - y[last]))


def _among(pairs: Pairs, among: Among) -> Tensor:
    if among not in ("within", "between", "all"):
        raise ReplicationError(f"Pairs '{among}' are not known; choose 'within', 'between' or 'all'.")
    same = pairs.labels[:, None] == pairs.column_labels[None, :]
    return {"within": same, "between": ~same, "all": torch.ones_like(same)}[among]


def _fitting(values: Tensor, pairs: Pairs) -> Tensor:
    if values.shape != pairs.stiffness.shape:
        raise ReplicationError(
            f"The distances have shape {tuple(values.shape)}, the Gram matrix {tuple(pairs.stiffness.shape)}; they must agree."
        )
    return values.to(pairs.stiffness)


def _moments(x: Tensor, y: Tensor, used: Tensor) -> Tensor:
    """1, x, y, x^2, x y and y^2 of the pairs used, zero elsewhere, ``[6, n, m]``."""
    return torch.stack([used, x, y, x * x, x * y, y * y])


def _line(moments: Tensor, weights: Tensor, column_weights: Tensor, *, middle: float, span: float) -> tuple[float, float, float]:
    """Zero crossing (nan without a falling line), slope and intercept of the weighted least-squares line."""
    count, x, y, xx, xy, yy = (moments @ column_weights @ weights).tolist()
    if not count:
        return (math.nan,) * 3
    variance = xx / count - (x / count) ** 2
    if not variance > _FLAT**2:
        return math.nan, math.nan, math.nan
    slope = (xy / count - x / count * y / count) / variance
    at_middle = y / count - slope * x / count
    falls = slope * span < -_FLAT * math.sqrt(yy / count)
    return (middle - at_middle / slope if falls else math.nan), slope, at_middle - slope * middle


def _interval(sample: list[float], level: float) -> tuple[float, float, int]:
    """Quantiles of the defined resamples, and how many were not."""
    defined = np.asarray([length for length in sample if not math.isnan(length)])
    if not len(defined):
        return math.nan, math.nan, len(sample)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), len(sample) - len(defined)
