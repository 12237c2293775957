"""The best rotation of one layer onto another, and how far apart it leaves them."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.svcca.cka import clipped
from replication.svcca.factor import Factor, coupling, factorise
from replication.svcca.matrices import as_activations, check_pair, wide
from replication.svcca.orthonormal import left_singular, singular_value_decomposition


@dataclass(frozen=True)
class Procrustes:
    """Orthogonal Procrustes analysis of two layers with centred activations X and Y.

    Attributes:
        similarity: nuclear norm of X^T Y over the Frobenius norms of X and Y, in [0, 1]; 0 where a layer is constant.
        norm_x, norm_y: Frobenius norms of X and Y.
        rotation: Q, float64 ``[n_neurons_x, n_neurons_y]`` with orthonormal rows or columns on the directions compared, such that X Q is
            as close to Y as possible.
    """

    similarity: float
    norm_x: float
    norm_y: float
    rotation: Tensor

    @property
    def distance(self) -> float:
        """min over Q of the Frobenius norm of X Q - Y, sqrt(norm_x² + norm_y² - 2 norm_x norm_y similarity)."""
        x, y = self.norm_x, self.norm_y
        return math.hypot(x - y, math.sqrt(2 * x * y * (1 - self.similarity))) if x and y else max(x, y)

    @property
    def normalised_distance(self) -> float:
        """``distance`` of the layers scaled to norm 1, sqrt(2 - 2 similarity) in [0, sqrt(2)]."""
        return math.sqrt(2 - 2 * self.similarity)

    @property
    def angle(self) -> float:
        """arccos of ``similarity``, in [0, π/2]: a metric (Williams et al. 2021); netrep's ``LinearMetric(alpha=1)``."""
        return math.acos(self.similarity)


def procrustes(x: Any, y: Any) -> Procrustes:
    """Orthogonal Procrustes analysis of two layers (Ding et al. 2021, arXiv 2108.01661; Williams et al. 2021, arXiv 2110.14739).

    Rotations and shifts of a layer change nothing; its scale counts in ``distance`` alone. A layer of fewer neurons counts as one with
    zeros added. Ding et al. call the square of ``normalised_distance`` the Procrustes distance.

    Args:
        x, y: ``[n_examples, n_neurons]`` on the same examples, in the same order.

    Raises:
        ReplicationError: as for ``cca``.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> result = procrustes(x, 2 * x.flip(1) + 1)  # the neurons exchanged, scaled and shifted
    >>> [round(value, 4) for value in (result.similarity, result.normalised_distance, result.distance, result.norm_x)]
    [1.0, 0.0, 3.1623, 3.1623]
    """
    check_pair(x, y)
    return rotate(factor_in_double(x, "x"), factor_in_double(y, "y"))


def factor_in_double(x: Any, name: str) -> Factor:
    """The factor of a layer by float64 products: a distance is the root of a small difference, which float32 does not have."""
    values = as_activations(x, name).values
    return factorise(values.to(wide(values.dtype)), name=name)


def rotate(x: Factor, y: Factor) -> Procrustes:
    """Procrustes analysis of two factors: the singular values of X^T Y are those of a product of rank x rank matrices."""
    norms = [_norm(factor.coordinates) for factor in (x, y)]
    if not x.rank or not y.rank:
        return Procrustes(similarity=0.0, norm_x=norms[0], norm_y=norms[1], rotation=x.mean.new_zeros(len(x.mean), len(y.mean)))
    units = [factor.coordinates / norm for factor, norm in zip((x, y), norms, strict=True)]
    (u_x, s_x), (u_y, s_y) = (left_singular(unit) for unit in units)
    u, s, vh = singular_value_decomposition((u_x * s_x).mH @ coupling(x, y) @ (u_y * s_y))
    v_x, v_y = (unit.mH @ u_ / s_ for unit, u_, s_ in ((units[0], u_x, s_x), (units[1], u_y, s_y)))
    similarity = clipped(s.sum().item())
    return Procrustes(similarity=similarity, norm_x=norms[0], norm_y=norms[1], rotation=v_x @ u @ vh @ v_y.mH)


def _norm(coordinates: Tensor) -> float:
    """Frobenius norm of a matrix of any scale."""
    largest = coordinates.abs().max().item() if coordinates.numel() else 0.0
    return largest * torch.linalg.vector_norm(coordinates / (largest or 1.0)).item()
