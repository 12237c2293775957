"""Canonical correlations from one factorisation per layer.

Centred activations Z ``[n_examples, n_neurons]`` are written as Z = Q R with orthonormal columns Q, once per layer; the canonical
correlations of two layers are the singular values of Q_x^H Q_y (Bjorck and Golub 1973), so every pair costs one product over the
examples. Q itself is kept as data times a small matrix, because computing it costs as much as a pair.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.matrices import as_activations, cross_product, finite_mean, warn_constant
from replication.svcca.orthonormal import Rounding, orthonormalise


@dataclass(frozen=True)
class Factor:
    """Centred activations as an orthonormal basis times coordinates, Z = Q R with Q = data @ inner = Z @ weights.

    Attributes:
        mean: of every neuron, float64 ``[n_neurons]``.
        data: ``[n_examples, m]`` in the arithmetic of the products over examples.
        inner: ``[m, rank]`` or None where data is the basis.
        weights: ``[n_neurons, rank]`` float64; zero for constant neurons.
        coordinates: R ``[rank, n_neurons]`` float64.
        kept: neurons that take part, ``[n_neurons]`` (all, unless pruned by epsilon).
    """

    mean: Tensor
    data: Tensor
    inner: Tensor | None
    weights: Tensor
    coordinates: Tensor
    kept: Tensor

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.data)

    @property
    def rank(self) -> int:
        """Dimension of the layer: neurons that are constant or a combination of others do not count."""
        return self.weights.shape[1]

    def rotated(self, columns: Tensor) -> "Factor":
        """The factor of the part of the layer spanned by Q @ columns, columns ``[rank, k]`` orthonormal; its basis is formed."""
        map_ = columns if self.inner is None else self.inner @ columns
        return Factor(
            mean=self.mean,
            data=self.data @ map_.to(self.data.dtype),
            inner=None,
            weights=self.weights @ columns,
            coordinates=columns.mH @ self.coordinates,
            kept=self.kept,
        )


def factorise(x: Tensor, *, name: str = "x", epsilon: float = 0.0, rounding: Rounding | None = None) -> Factor:
    """Factor the centred activations of one layer.

    float32 activations are multiplied in float32 (sums over examples in float64) where their condition keeps the error of
    coefficients below 1e-5, and in float64 elsewhere.

    The rank counts the singular values, of neurons scaled to the same norm, that rounding does not explain: those above
    ``max(shape) eps(float64) + sqrt(max(shape)) eps`` times the largest, with the eps of float32 for half precision, and above the norm
    that independent rounding of the input in its own type has in that direction. Rounding is relative to a neuron's values, its mean
    included; so half precision and large means leave fewer directions.

    Args:
        x: tensor or array ``[n_examples, n_neurons]`` of numbers, real or complex.
        name: the name of the layer in messages.
        epsilon: pruning and ridge of the official code, as for ``cca``; 0 for neither.
        rounding: that of the neurons, where it is not that of the type of ``x``.

    Raises:
        ReplicationError: no such matrix, fewer than two examples, no neurons, or non-finite values.

    >>> x = torch.tensor([[1.0, 2.0, 5.0], [0.0, 0.0, 5.0], [3.0, 6.0, 5.0], [1.0, 2.0, 5.0]])
    >>> factorise(x).rank  # the second neuron is twice the first, and the third is constant
    1
    """
    activations = as_activations(x, name)
    values = activations.values
    mean = finite_mean(values, name)
    if rounding is None:
        rounding = Rounding(eps=activations.eps, arithmetic=activations.arithmetic)
    kept, ridge = _regularisation(values, mean, epsilon)
    alive, mean[kept], basis = orthonormalise(values if kept.all() else values[:, kept], mean[kept], rounding.of(kept), ridge)
    rank = basis.weights.shape[1]
    if not rank:
        warn_constant(name)
    used = kept.nonzero()[alive, 0]
    weights = basis.weights.new_zeros(len(mean), rank)
    weights[used] = basis.weights
    coordinates = basis.coordinates.new_zeros(rank, len(mean))
    coordinates[:, used] = basis.coordinates
    return Factor(mean=mean, data=basis.data[: len(values)], inner=basis.inner, weights=weights, coordinates=coordinates, kept=kept)


def coupling(x: Factor, y: Factor) -> Tensor:
    """Q_x^H Q_y, ``[rank_x, rank_y]`` float64: its singular values are the canonical correlations.

    Raises:
        ReplicationError: a complex layer and a real one.
    """
    if x.data.is_complex() != y.data.is_complex():
        raise ReplicationError(
            "One layer is complex and the other real, which have no canonical correlations in common; give real and imaginary parts as "
            "neurons of their own."
        )
    product = cross_product(x.data, y.data)
    product = product if x.inner is None else x.inner.mH @ product
    return product if y.inner is None else product @ y.inner


def _regularisation(x: Tensor, mean: Tensor, epsilon: float) -> tuple[Tensor, float]:
    """Which neurons epsilon keeps, and the root of what it adds to the diagonal of the Gram matrix."""
    if not epsilon:
        return torch.ones_like(mean, dtype=torch.bool), 0.0
    squares = (x.to(mean.dtype) - mean).abs().square().sum(0)
    return squares >= epsilon * squares.max(), math.sqrt(epsilon * squares.max().item())
