"""Canonical correlation analysis of two layers: coefficients, directions, projections, and correlations on new examples."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.factor import Factor, coupling, factorise
from replication.svcca.matrices import check_pair
from replication.svcca.noise import noise_floor
from replication.svcca.orthonormal import singular_value_decomposition, singular_values


@dataclass(frozen=True)
class Directions:
    """Canonical directions of one layer, best correlated first.

    Attributes:
        mean: the mean of every neuron over the examples of the fit, float64 ``[n_neurons]``.
        weights: float64 ``[n_neurons, c]``; the variates (x - mean) @ weights are orthonormal over the examples of the fit.
        loadings: float64 ``[c, n_neurons]``; variates @ loadings is the least-squares reconstruction of x - mean.
    """

    mean: Tensor
    weights: Tensor
    loadings: Tensor

    def variates(self, x: Tensor) -> Tensor:
        """Canonical variates of ``x`` ``[n, n_neurons]`` (the examples of the fit, or others), float64 ``[n, c]``."""
        return (x.to(self.mean.dtype) - self.mean) @ self.weights


@dataclass(frozen=True)
class Cca:
    """Canonical correlation analysis of two layers x and y.

    Attributes:
        coefficients: ρ, float64 ``[min(rank_x, rank_y)]`` in [0, 1], largest first; empty where a layer is constant.
        rank_x, rank_y: dimensions that were compared: the rank of each layer, or the number of directions that SVCCA kept.
        n: number of examples.
        factors: both layers, each as an orthonormal basis times coordinates.
        coupling: the product of the two bases, float64 ``[rank_x, rank_y]``; its singular values are the coefficients.
    """

    coefficients: Tensor
    rank_x: int
    rank_y: int
    n: int
    factors: tuple[Factor, Factor]
    coupling: Tensor

    @property
    def similarity(self) -> float:
        """ρ̄ = mean of ρ (SVCCA, equation 1), and 0 where a layer is constant. The distance of the PWCCA paper is 1 - ρ̄."""
        return self.coefficients.mean().item() if len(self.coefficients) else 0.0

    @property
    def noise_floor(self) -> float:
        """The average ``similarity`` of two independent layers of these dimensions."""
        return noise_floor(self.n, self.rank_x, self.rank_y)

    def thresholded_mean(self, threshold: float = 0.98) -> float:
        """Mean of the leading ρ whose sum first reaches this share of the total. The official code (google/svcca) calls it "mean"."""
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
        """Canonical directions of x. Their signs are arbitrary, and so are rotations among directions of equal ρ."""
        return _directions(self.factors[0], self.rotations[0])

    @property
    def directions_y(self) -> Directions:
        """Canonical directions of y, paired with those of x."""
        return _directions(self.factors[1], self.rotations[1])


def cca(x: Tensor, y: Tensor, *, epsilon: float = 0.0) -> Cca:
    """Canonical correlations of two layers (SVCCA, section 2 and appendix B).

    Constant neurons, and neurons that are linear combinations of others, do not change the result. With no more examples than
    neurons + 1 every ρ is 1 whatever the data: compare the similarity with ``noise_floor``.

    Args:
        x, y: ``[n_examples, n_neurons]`` on the same examples, in the same order. The numbers of neurons may differ.
        epsilon: as in the official code: neurons below epsilon times the largest variance are left out, and epsilon times the largest
            variance is added to the diagonals of the covariances. Use it only to compare with that code.

    Raises:
        ReplicationError: another shape, unequal numbers of examples, fewer than two examples, or non-finite values.

    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> y = x @ torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])  # both neurons of y are combinations of x
    >>> result = cca(x, y)
    >>> result.coefficients.round(decimals=4)
    tensor([1., 1.], dtype=torch.float64)
    >>> (result.rank_x, result.rank_y, round(result.noise_floor, 3))
    (3, 2, 0.112)
    """
    check_pair(x, y)
    return correlate(factorise(x, name="x", epsilon=epsilon), factorise(y, name="y", epsilon=epsilon))


def project(x: Tensor, directions: Directions, k: int) -> Tensor:
    """Activations reduced to the top k canonical directions (SVCCA, section 2.1), ``[n, n_neurons]`` in the type of ``x``.

    x̂ = mean + Σ^1/2 U_k U_k^T Σ^-1/2 (x - mean): every neuron is projected orthogonally, in the space of examples, on the span of the
    first k variates. The projection is idempotent, and it returns x where k directions span the layer.

    Args:
        x: ``[n, n_neurons]``, the examples of the fit or others.
        directions: ``cca(...).directions_x`` or ``directions_y``.
        k: from 0 to the number of directions.

    Raises:
        ReplicationError: another number of neurons, or more directions than there are.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> directions = cca(x, x[:, :1]).directions_x  # one direction: the first neuron
    >>> project(x, directions, 1).round(decimals=6).abs()
    tensor([[1., 0.],
            [1., 0.],
            [0., 0.],
            [0., 0.]])
    """
    if x.dim() != 2 or x.shape[1] != len(directions.mean) or not 0 <= k <= directions.weights.shape[1]:
        raise ReplicationError(
            f"Activations of shape {tuple(x.shape)} were to be projected on {k} directions; allowed: [n, {len(directions.mean)}], "
            f"and 0 to {directions.weights.shape[1]} directions."
        )
    reduced = directions.variates(x)[:, :k] @ directions.loadings[:k]
    return (directions.mean + reduced).to(x.dtype)


def held_out(result: Cca, x: Tensor, y: Tensor) -> Tensor:
    """Correlations of the canonical variates on examples that were not in the fit, float64 ``[c]`` in [-1, 1].

    They have no noise floor: independent layers give values around 0, of either sign. A variate that is constant on these examples
    has correlation 0.

    Args:
        result: of ``cca`` or ``svcca``.
        x, y: ``[n, n_neurons]``, new examples of the same two layers.

    Raises:
        ReplicationError: other numbers of neurons than in the fit, or unequal numbers of examples.

    >>> x, y = torch.randn(2, 400, 50, generator=torch.Generator().manual_seed(0)).unbind()  # independent layers
    >>> result = cca(x[:200], y[:200])
    >>> round(result.similarity, 2), held_out(result, x[200:], y[200:]).mean().abs().item() < 0.01
    (0.44, True)
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
    return Cca(coefficients=singular_values(product), rank_x=x.rank, rank_y=y.rank, n=x.n, factors=(x, y), coupling=product)


def _directions(factor: Factor, rotation: Tensor) -> Directions:
    return Directions(mean=factor.mean, weights=factor.weights @ rotation, loadings=rotation.mH @ factor.coordinates)
