"""Canonical correlations from one factorisation per layer.

Centred activations Z ``[n_examples, n_neurons]`` are written as Z = Q R with orthonormal columns Q, once per layer; the canonical
correlations of two layers are the singular values of Q_x^H Q_y (Bjorck and Golub 1973), so every pair costs one product over the
examples. Q itself is kept as data times a small matrix, because computing it costs as much as a pair.

The basis comes from the Gram matrix, which is one matrix product but squares the condition number. The step is therefore repeated on
its own result where the layer is ill-conditioned (CholeskyQR2 with eigenvectors in place of Cholesky). Where the rank is in question,
a singular value decomposition of the activations decides.
"""

import math
import warnings
from dataclasses import dataclass

import scipy.linalg
import torch
from torch import Tensor

from replication.errors import ReplicationError

_CHUNK = 1024  # examples whose float32 products are summed before float64 takes over; twice the neurons where that is more, for speed
_WELL_CONDITIONED = {32: 100.0, 64: 1e6}  # largest eigenvalue ratio of the Gram matrix: errors measured below 3e-6 and 2e-12
_HOPELESS = 1e12  # eigenvalue ratio from which the Gram matrix no longer tells small from zero
_LARGE = 128  # dimensions from which eigenvalues of G G^H are clearly faster than singular values of G
_SMALL_SQUARE = 1e-10  # the smallest ρ² for that: rounding of 1e-15 in ρ² is 5e-11 in ρ here, and more below
_VIEWS = "svcca.spatial_mean, svcca.folded or svcca.flattened make one of a convolutional layer"


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


@dataclass(frozen=True)
class _Basis:
    """The part of a Factor that belongs to the neurons that vary; attributes as there."""

    data: Tensor
    inner: Tensor | None
    weights: Tensor
    coordinates: Tensor


def factorise(x: Tensor, *, name: str = "x", epsilon: float = 0.0, rounded_to: torch.dtype | None = None) -> Factor:
    """Factor the centred activations of one layer.

    float32 activations are multiplied in float32 (sums over examples in float64) where their condition keeps the error of
    coefficients below 1e-5, and in float64 elsewhere. The rank is the number of singular values, of neurons scaled to the same norm,
    above ``max(shape) eps(float64) + sqrt(max(shape)) eps(dtype)`` times the largest: smaller ones may be rounding.

    Args:
        x: ``[n_examples, n_neurons]``, real or complex.
        name: the name of the layer in messages.
        epsilon: pruning and ridge of the official code, as for ``cca``; 0 for neither.
        rounded_to: the type that x was in before, if narrower than its own, so that its rounding does not count as a direction.

    Raises:
        ReplicationError: not a two-dimensional floating-point tensor, fewer than two examples, no neurons, or non-finite values.
    """
    x = _checked(x, name)
    mean = _finite_mean(x, name)
    eps = torch.finfo(rounded_to or x.dtype).eps
    kept, ridge = _regularisation(x, mean, epsilon)
    alive, basis = _orthonormalise(x if kept.all() else x[:, kept], mean[kept], ridge, eps)
    rank = basis.weights.shape[1]
    if not rank:
        warnings.warn(f"{name} is constant over the examples: it has no directions, and its similarity is 0.", UserWarning, stacklevel=3)
    used = kept.nonzero()[alive, 0]
    weights = basis.weights.new_zeros(len(mean), rank)
    weights[used] = basis.weights
    coordinates = basis.coordinates.new_zeros(rank, len(mean))
    coordinates[:, used] = basis.coordinates
    return Factor(mean=mean, data=basis.data[: len(x)], inner=basis.inner, weights=weights, coordinates=coordinates, kept=kept)


def coupling(x: Factor, y: Factor) -> Tensor:
    """Q_x^H Q_y, ``[rank_x, rank_y]`` float64: its singular values are the canonical correlations."""
    product = cross_product(x.data, y.data)
    product = product if x.inner is None else x.inner.mH @ product
    return product if y.inner is None else product @ y.inner


def cross_product(a: Tensor, b: Tensor) -> Tensor:
    """A^H B over the examples ``[..., n_examples, p]``, ``[..., n_examples, q]``, summed in float64."""
    wide = _wide(torch.promote_types(a.dtype, b.dtype))
    if a.dtype != b.dtype or a.dtype == wide:
        return a.to(wide).mH @ b.to(wide)
    chunk = max(_CHUNK, 2 * min(a.shape[-1], b.shape[-1]))
    whole = a.shape[-2] // chunk * chunk
    total = a[..., whole:, :].mH.to(wide) @ b[..., whole:, :].to(wide)
    if whole:
        left, right = (z[..., :whole, :].unflatten(-2, (-1, chunk)) for z in (a, b))
        total = total + (left.mH @ right).sum(-3, dtype=wide)
    return total


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


def _regularisation(x: Tensor, mean: Tensor, epsilon: float) -> tuple[Tensor, float]:
    """Which neurons epsilon keeps, and the root of what it adds to the diagonal of the Gram matrix."""
    if not epsilon:
        return torch.ones_like(mean, dtype=torch.bool), 0.0
    squares = (x.to(mean.dtype) - mean).abs().square().sum(0)
    return squares >= epsilon * squares.max(), math.sqrt(epsilon * squares.max().item())


def _orthonormalise(x: Tensor, mean: Tensor, ridge: float, eps: float) -> tuple[Tensor, _Basis]:
    """Which neurons vary ``[n_neurons]``, and the basis of these."""
    tolerance = max(x.shape) * torch.finfo(torch.float64).eps + math.sqrt(max(x.shape)) * eps
    for dtype in dict.fromkeys((x.dtype, mean.dtype)):
        z = x.to(dtype) - (mean.to(dtype) if dtype == x.dtype else x.mean(0, dtype=dtype))
        if ridge:  # the rows of sqrt(epsilon) add epsilon to the covariance
            z = torch.cat([z, ridge * torch.eye(z.shape[1], dtype=dtype, device=z.device)])
        gram = cross_product(z, z) if z.shape[0] > z.shape[1] + 1 else None
        squares = gram.diagonal().real if gram is not None else torch.linalg.vector_norm(z.to(mean.dtype), dim=0).square()
        # the mean of equal numbers may differ from them by rounding: what varies less than that is constant
        alive = squares > len(z) * (8 * eps * mean.abs()).square()
        if not alive.all():
            z, gram = z[:, alive], None if gram is None else gram[alive][:, alive]
        basis = None if gram is None or not z.shape[1] else _by_gram(z, gram, tolerance)
        if basis is not None:
            return alive, basis
    return alive, _by_singular_values(z, tolerance)


def _by_gram(z: Tensor, gram: Tensor, tolerance: float) -> _Basis | None:
    """The basis from the Gram matrix; None where precision or rank need more than that."""
    wide = z.dtype == gram.dtype
    weights, coordinates, condition = whitening(gram)
    inner = weights
    for _ in range(2 if wide else 0):
        if condition <= _WELL_CONDITIONED[64] or condition > min(_HOPELESS, tolerance**-2):
            break
        z = z @ inner
        inner, refinement, condition = whitening(cross_product(z, z))
        weights, coordinates = weights @ inner, refinement @ coordinates
    if condition > _WELL_CONDITIONED[64 if wide else 32]:
        return None
    return _Basis(data=z, inner=inner, weights=weights, coordinates=coordinates)


def _by_singular_values(z: Tensor, tolerance: float) -> _Basis:
    """As ``_by_gram``, for any rank and any shape; z is float64 and has no constant column."""
    if not z.shape[1]:
        return _Basis(data=z, inner=None, weights=z.new_zeros(0, 0), coordinates=z.new_zeros(0, 0))
    largest = z.abs().amax(0)  # first, so that squares of very large or small numbers stay finite
    scale = largest * torch.linalg.vector_norm(z / largest, dim=0)
    u, s, vh = singular_value_decomposition(z / scale)
    rank = int((s > tolerance * s[0]).sum())
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    return _Basis(data=u, inner=None, weights=vh.mH / s / scale[:, None], coordinates=s[:, None] * vh * scale)


def _checked(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ReplicationError(f"{name} is {kind}; give activations as a floating-point torch tensor [n_examples, n_neurons].")
    if x.dim() != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise ReplicationError(
            f"{name} has shape {tuple(x.shape)}; allowed: [n_examples, n_neurons] with two examples and one neuron or more ({_VIEWS})."
        )
    narrow = x.dtype in (torch.float16, torch.bfloat16)
    return x.detach().float() if narrow else x.detach()


def _finite_mean(x: Tensor, name: str) -> Tensor:
    # blocks in their own type first: eight times as fast as a float64 mean of float32
    mean = torch.stack([block.sum(0) for block in x.split(_CHUNK)]).to(_wide(x.dtype)).sum(0) / len(x)
    if not mean.isfinite().all():
        bad = int((~x.isfinite()).sum())
        what = f"{bad} non-finite values among {x.numel()}" if bad else f"values whose sum overflows {x.dtype}"
        raise ReplicationError(f"{name} has {what}; similarities need finite activations: leave diverged examples out, or scale down.")
    return mean


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64
