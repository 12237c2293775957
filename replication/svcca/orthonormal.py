"""Orthonormal bases of centred activations: from Gram matrices where these are precise enough, else from singular values.

A Gram matrix is one matrix product but squares the condition number. With more examples than neurons it is taken over the examples,
and the step is repeated on its own result where the layer is ill-conditioned (CholeskyQR2 with eigenvectors in place of Cholesky).
Where the rank is in question, and with more neurons than examples, a singular value decomposition of the activations decides; of a
wide layer it is that of an n x n triangle.
"""

import math
from dataclasses import dataclass, replace

import scipy.linalg
import torch
from torch import Tensor

from replication.svcca.matrices import constant_level, cross_product

_WELL_CONDITIONED = {32: 100.0, 64: 1e6}  # largest eigenvalue ratio of the Gram matrix: errors measured below 3e-6 and 2e-12
_HOPELESS = 1e12  # eigenvalue ratio from which the Gram matrix no longer tells small from zero
_LARGE = 128  # dimensions from which eigenvalues of G G^H are clearly faster than singular values of G
_SMALL_SQUARE = 1e-10  # the smallest ρ² for that: rounding of 1e-15 in ρ² is 5e-11 in ρ here, and more below
_FAR = 1e3  # means this many standard deviations away are centred in float64
_SAFE_SQUARES = {32: (1e-28, 1e30), 64: (1e-280, 1e280)}  # sums of squares that neither vanish nor overflow


@dataclass(frozen=True)
class Basis:
    """Centred activations Z of the neurons that vary, as Z = Q R with Q = data @ inner = Z @ weights; attributes as in ``Factor``."""

    data: Tensor
    inner: Tensor | None
    weights: Tensor
    coordinates: Tensor


@dataclass(frozen=True)
class Rounding:
    """What rounding leaves open about a layer.

    Attributes:
        eps: the relative spacing of numbers in the type of the input.
        arithmetic: that in the arithmetic that made the activations.
        constant: the norm up to which a neuron is constant, float64 ``[n_neurons]``; by default some eps times the norm of its mean.
        norms: the norm over the examples of the rounding of every neuron, float64 ``[n_neurons]``; by default eps times the neuron's norm.
    """

    eps: float
    arithmetic: float
    constant: Tensor | None = None
    norms: Tensor | None = None

    def of(self, neurons: Tensor) -> "Rounding":
        """The same for some neurons, ``[n_neurons]`` truth values."""
        constant, norms = (None if values is None else values[neurons] for values in (self.constant, self.norms))
        return replace(self, constant=constant, norms=norms)

    def largest_of_constants(self, offsets: Tensor, dtype: torch.dtype) -> Tensor:
        """``constant`` for neurons whose means have these norms ``[n_neurons]``, centred in this type."""
        return constant_level(self.eps, torch.finfo(dtype).eps) * offsets if self.constant is None else self.constant

    def relative(self, norms: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Norm of the rounding of every neuron over its norm after centring, ``[n_neurons]``; offsets are the norms of the means."""
        size = norms if offsets is None else torch.hypot(norms, offsets)
        return (self.eps * size if self.norms is None else self.norms) / norms


def orthonormalise(x: Tensor, mean: Tensor, rounding: Rounding, ridge: float = 0.0) -> tuple[Tensor, Tensor, Basis]:
    """Which neurons vary ``[n_neurons]``, the mean that was subtracted, and the basis of the neurons that vary.

    Args:
        x: ``[n_examples, n_neurons]``, finite.
        mean: of every neuron, float64 ``[n_neurons]``; it may be summed in the type of ``x``.
        rounding: of the neurons.
        ridge: the root of what is added to the diagonal of the Gram matrix.
    """
    is_tall = x.shape[0] + (x.shape[1] if ridge else 0) > x.shape[1] + 1
    if x.dtype != mean.dtype:
        in_own_type = _in_own_type(x, mean, rounding, ridge) if is_tall else None
        if in_own_type is not None:
            return in_own_type[0], mean, in_own_type[1]
        mean = x.mean(0, dtype=mean.dtype)
    z = _with_ridge(x.to(mean.dtype) - mean, ridge)
    gram = cross_product(z, z) if is_tall else None
    squares = gram.diagonal().real if gram is not None else torch.linalg.vector_norm(z, dim=0).square()
    is_safe = _is_safe(z, squares)
    norms, offsets = squares.sqrt() if is_safe else column_norms(z), math.sqrt(len(z)) * mean.abs()
    alive = norms > rounding.largest_of_constants(offsets, z.dtype)
    if not alive.all():
        z, gram = z[:, alive], None if gram is None else gram[alive][:, alive]
    if not z.shape[1]:
        return alive, mean, Basis(data=z, inner=None, weights=z.new_zeros(0, 0), coordinates=z.new_zeros(0, 0))
    noise = rounding.of(alive).relative(norms[alive], offsets[alive])
    basis = _by_gram(z, gram, noise, rounding.arithmetic) if gram is not None and is_safe else None
    return alive, mean, basis or _by_singular_values(z, noise, rounding.arithmetic)


def _in_own_type(x: Tensor, mean: Tensor, rounding: Rounding, ridge: float) -> tuple[Tensor, Basis] | None:
    """Which neurons vary and their basis by products in the type of ``x``; None where float64 has to centre or multiply."""
    z = _with_ridge(x - mean.to(x.dtype), ridge)
    gram = cross_product(z, z)
    norms, offsets = gram.diagonal().real.sqrt(), math.sqrt(len(z)) * mean.abs()
    alive = norms > rounding.largest_of_constants(offsets, x.dtype)
    is_clear = alive | (norms <= rounding.largest_of_constants(offsets, mean.dtype))
    is_near = ~alive | (offsets <= _FAR * norms)
    if not alive.any() or not (is_clear & is_near).all() or not _is_safe(z, norms.square()):
        return None
    if not alive.all():
        z, gram = z[:, alive], gram[alive][:, alive]
    basis = _by_gram(z, gram, rounding.of(alive).relative(norms[alive], offsets[alive]), rounding.arithmetic)
    return None if basis is None else (alive, basis)


def whitening(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W and R with W^H C W = 1 and R^H R = C from Gram matrices C ``[..., p, p]``, and the ratio of their extreme eigenvalues.

    Neurons are scaled to the same norm first, since canonical correlations do not depend on their scale and the condition does.
    The ratio is infinite, and W and R mean nothing, where C is singular or not finite.
    """
    norms = gram.diagonal(dim1=-2, dim2=-1).real.sqrt()
    scale = torch.where(norms > 0, 1 / norms, 0)
    correlation = (gram * scale[..., :, None] * scale[..., None, :]).nan_to_num(0, 0, 0)
    values, vectors = torch.linalg.eigh(correlation)
    condition = torch.where(values[..., 0] > 0, values[..., -1] / values[..., 0], torch.inf)
    roots = values.clamp(min=torch.finfo(values.dtype).tiny).sqrt()
    weights = scale[..., :, None] * vectors / roots[..., None, :]
    return weights, roots[..., :, None] * vectors.mH * norms[..., None, :], condition


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values ``[..., min(p, q)]``, largest first, clipped to [0, 1]: rounding takes correlations of 1 slightly beyond."""
    if 0 in matrix.shape:
        return torch.zeros(*matrix.shape[:-2], min(matrix.shape[-2:]), dtype=torch.float64, device=matrix.device)
    if min(matrix.shape[-2:]) >= _LARGE:
        squares = torch.linalg.eigvalsh(matrix @ matrix.mH if matrix.shape[-2] <= matrix.shape[-1] else matrix.mH @ matrix)
        if squares.min() > _SMALL_SQUARE:
            return squares.sqrt().clamp(max=1).flip(-1)
    try:
        values = torch.linalg.svdvals(matrix)
    except torch.linalg.LinAlgError:
        values = torch.stack([singular_value_decomposition(m)[1] for m in matrix.reshape(-1, *matrix.shape[-2:])])
        values = values.reshape(*matrix.shape[:-2], -1)
    return values.clamp(0, 1)


def singular_value_decomposition(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin U, s, V^H of one matrix; where divide and conquer does not converge, QR iteration does."""
    try:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    except torch.linalg.LinAlgError:
        parts = scipy.linalg.svd(matrix.cpu().numpy(), full_matrices=False, lapack_driver="gesvd")
        u, s, vh = (torch.from_numpy(part).to(matrix.device) for part in parts)
    return u, s, vh


def left_singular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """U and s of a thin singular value decomposition; of a wide matrix through its square triangle."""
    if matrix.shape[1] >= 2 * matrix.shape[0]:
        matrix = torch.linalg.qr(matrix.mH, mode="r")[1].mH
    return singular_value_decomposition(matrix)[:2]


def column_norms(z: Tensor) -> Tensor:
    """Norms of columns of any scale."""
    largest = z.abs().amax(0)
    return largest * torch.linalg.vector_norm(z / torch.where(largest > 0, largest, 1), dim=0)


def _with_ridge(z: Tensor, ridge: float) -> Tensor:
    """With rows that add the square of the ridge to the diagonal of the Gram matrix."""
    return torch.cat([z, ridge * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)]) if ridge else z


def _is_safe(z: Tensor, squares: Tensor) -> bool:
    """Whether sums of squares of columns have neither vanished nor overflowed."""
    low, high = _SAFE_SQUARES[torch.finfo(z.dtype).bits]
    small = squares < low
    return bool(squares.max() < high) and not (bool(small.any()) and bool(z[:, small].any()))


def _tolerance(z: Tensor, arithmetic: float) -> float:
    """Singular values below this share of the largest are rounding of the arithmetic that made the activations."""
    return max(z.shape) * torch.finfo(torch.float64).eps + math.sqrt(max(z.shape)) * arithmetic


def _spread(z: Tensor) -> float:
    """Largest singular value of independent noise in columns of norm 1."""
    return 1 + math.sqrt(z.shape[1] / z.shape[0])


def _by_gram(z: Tensor, gram: Tensor, noise: Tensor, arithmetic: float) -> Basis | None:
    """The basis from the Gram matrix; None where precision or rank need more than that."""
    in_double = z.dtype == gram.dtype
    limit = (_tolerance(z, arithmetic) + _spread(z) * noise.max().item()) ** -2
    weights, coordinates, condition = whitening(gram)
    if condition > limit:
        return None
    inner = weights
    for _ in range(2 if in_double else 0):
        if condition <= _WELL_CONDITIONED[64] or condition > _HOPELESS:
            break
        z = z @ inner
        inner, refinement, condition = whitening(cross_product(z, z))
        weights, coordinates = weights @ inner, refinement @ coordinates
    if condition > _WELL_CONDITIONED[64 if in_double else 32]:
        return None
    return Basis(data=z, inner=inner, weights=weights, coordinates=coordinates)


def _by_singular_values(z: Tensor, noise: Tensor, arithmetic: float) -> Basis:
    """As ``_by_gram``, for any rank and any shape; z is float64 and has no constant column."""
    scale = column_norms(z)
    z = z / scale
    is_wide = z.shape[1] >= 2 * z.shape[0]
    if is_wide:
        u, s = left_singular(z)
    else:
        u, s, vh = singular_value_decomposition(z)
    above = s > _tolerance(z, arithmetic) * s[0]
    u, s = u[:, above], s[above]
    vh = u.mH @ z / s[:, None] if is_wide else vh[above]
    above = s > _spread(z) * torch.linalg.vector_norm(vh.abs() * noise, dim=1)
    u, s, vh = u[:, above], s[above], vh[above]
    return Basis(data=u, inner=None, weights=vh.mH / s / scale[:, None], coordinates=s[:, None] * vh * scale)
