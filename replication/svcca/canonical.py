"""Canonical correlation analysis of two layers: coefficients, directions, projection on them, and what they are worth on new examples."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.factor import Factor, coupling, factorise, singular_value_decomposition, singular_values
from replication.svcca.noise import noise_floor


@dataclass(frozen=True)
class Directions:
    """Canonical directions of one layer, best correlated first.

    Attributes:
        mean: of every neuron over the examples they were fitted on, ``[n_neurons]``.
        weights: ``[n_neurons, c]``; the variates (x - mean) @ weights are orthonormal over those examples.
        loadings: ``[c, n_neurons]``; variates @ loadings is the least-squares reconstruction of x - mean.
    """

    mean: Tensor
    weights: Tensor
    loadings: Tensor

    def variates(self, x: Tensor) -> Tensor:
        """Canonical variates of ``x`` ``[n, n_neurons]``, these or other examples, float64 ``[n, c]``."""
        return (x.to(self.mean.dtype) - self.mean) @ self.weights


@dataclass(frozen=True)
class Cca:
    """Canonical correlation analysis of two layers x and y.

    Attributes:
        coefficients: ρ, float64 ``[min(rank_x, rank_y)]`` in [0, 1], largest first; empty where a layer is constant.
        rank_x, rank_y: dimensions compared: the rank of each layer, or what SVCCA kept of it.
        n: examples.
        factors: both layers, as orthonormal bases times coordinates.
        coupling: the product of the bases, whose singular values the coefficients are.
    """

    coefficients: Tensor
    rank_x: int
    rank_y: int
    n: int
    factors: tuple[Factor, Factor]
    coupling: Tensor

    @property
    def similarity(self) -> float:
        """ρ̄ = mean of ρ (equation 1 of SVCCA), 0 where a layer is constant; 1 - ρ̄ is the PWCCA paper's distance."""
        return self.coefficients.mean().item() if len(self.coefficients) else 0.0

    @property
    def noise_floor(self) -> float:
        """What ``similarity`` would be on average for independent layers of these dimensions."""
        return noise_floor(self.n, self.rank_x, self.rank_y)

    def thresholded_mean(self, threshold: float = 0.98) -> float:
        """Mean over the leading ρ whose sum first reaches this share of the whole: what the official code calls "mean"."""
        sums = self.coefficients.cumsum(0)
        if not len(sums):
            return 0.0
        count = min(int((sums < threshold * sums[-1]).sum()) + 1, len(sums))
        return (sums[count - 1] / count).item()

    @cached_property
    def rotations(self) -> tuple[Tensor, Tensor]:
        """Canonical variates in the bases of x and y, ``[rank_x, c]`` and ``[rank_y, c]``."""
        u, _, vh = singular_value_decomposition(self.coupling)
        return u, vh.mH

    @property
    def directions_x(self) -> Directions:
        """Canonical directions of x; signs, and rotations among equal ρ, are arbitrary."""
        return _directions(self.factors[0], self.rotations[0])

    @property
    def directions_y(self) -> Directions:
        """Canonical directions of y, paired with those of x."""
        return _directions(self.factors[1], self.rotations[1])


def cca(x: Tensor, y: Tensor, *, epsilon: float = 0.0) -> Cca:
    """Canonical correlations of two layers (SVCCA, section 2 and appendix B).

    Constant neurons and neurons that are combinations of others change nothing. With no more examples than neurons + 1 every ρ is 1
    and says nothing; ``noise_floor`` tells.

    Args:
        x, y: ``[n_examples, n_neurons]`` on the same examples, in the same order; the numbers of neurons may differ.
        epsilon: as the official code: leave out neurons below epsilon times the largest variance and add epsilon times it to the
            diagonals of the covariances. For comparison with that code only.

    Raises:
        ReplicationError: another shape, unequal numbers of examples, fewer than two, or non-finite values.
    """
    check_pair(x, y)
    return correlate(factorise(x, name="x", epsilon=epsilon), factorise(y, name="y", epsilon=epsilon))


def project(x: Tensor, directions: Directions, k: int) -> Tensor:
    """Activations reduced to the top k canonical directions (SVCCA, section 2.1; specification 1.7).

    x̂ = mean + Σ^1/2 U_k U_k^T Σ^-1/2 (x - mean): every neuron is projected orthogonally, in the space of examples, on the span of the
    first k variates. Idempotent; gives x back where k directions span the layer.

    Args:
        x: ``[n, n_neurons]``, the examples that the directions were fitted on or others.
        directions: ``cca(...).directions_x`` and the like.
        k: from 0 to the number of directions.

    Raises:
        ReplicationError: another number of neurons or directions.
    """
    if x.dim() != 2 or x.shape[1] != len(directions.mean) or not 0 <= k <= directions.weights.shape[1]:
        raise ReplicationError(
            f"Activations of shape {tuple(x.shape)} were to be projected on {k} directions; allowed: [n, {len(directions.mean)}], "
            f"and 0 to {directions.weights.shape[1]} directions."
        )
    reduced = directions.variates(x)[:, :k] @ directions.loadings[:k]
    return (directions.mean + reduced).to(x.dtype)


def held_out(result: Cca, x: Tensor, y: Tensor) -> Tensor:
    """Correlations of the canonical variates on examples that they were not fitted on, float64 ``[c]`` in [-1, 1].

    Free of the bias that puts a floor under ρ: independent layers give values around 0, of either sign. A variate that is constant on
    these examples correlates 0 with anything.

    Raises:
        ReplicationError: other numbers of neurons than the result was fitted on, or unequal numbers of examples.
    """
    directions = (result.directions_x, result.directions_y)
    for z, side in zip((x, y), directions, strict=True):
        if z.dim() != 2 or z.shape[1] != len(side.mean) or len(x) != len(y):
            raise ReplicationError(
                f"Held-out activations have shapes {tuple(x.shape)} and {tuple(y.shape)}; allowed: the same number of examples, "
                f"and {len(directions[0].mean)} and {len(directions[1].mean)} neurons as in the fit."
            )
    a, b = (side.variates(z) for z, side in zip((x, y), directions, strict=True))
    a, b = a - a.mean(0), b - b.mean(0)
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return ((a.conj() * b).sum(0).real / torch.where(norms > 0, norms, 1)).clamp(-1, 1)


def correlate(x: Factor, y: Factor) -> Cca:
    """The canonical correlations of two factors."""
    product = coupling(x, y)
    return Cca(singular_values(product), x.rank, y.rank, len(x.data), (x, y), product)


def check_pair(x: Tensor, y: Tensor) -> None:
    """Raises ReplicationError where two layers are not on the same examples or not on one device."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return  # factorise says what is wrong
    if x.shape[:1] != y.shape[:1]:
        raise ReplicationError(
            f"The layers have shapes {tuple(x.shape)} and {tuple(y.shape)}; give both on the same examples, in the same order."
        )
    if x.device != y.device:
        raise ReplicationError(f"The layers lie on {x.device} and {y.device}; move them to one device.")


def _directions(factor: Factor, rotation: Tensor) -> Directions:
    return Directions(factor.mean, factor.weights @ rotation, rotation.mH @ factor.coordinates)
