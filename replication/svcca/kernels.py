"""Centred kernels of layers, one per layer, for kernel alignment.

A kernel is kept as an n x n matrix, or, with fewer neurons than examples, as centred activations F with K = F F^H. Sums are float64;
only blocks of a float32 layer's own matrix are summed in float32 first. What any two layers need of each other is one inner product.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.matrices import Activations, as_activations, constant_level, cross_product, finite_mean, wide
from replication.svcca.orthonormal import column_norms

_BLOCK = 256  # neurons whose float32 products are summed before float64 takes over: CKA is then good to 5e-10
_MOST, _FEW = 20_000, 2048  # examples of an n x n matrix of 3.2 GB, and of one that many layers may have
_FAR = {32: 10.0, 64: 1e4}  # the mean's share in the squares over the rest, up to which n x n sums may be centred in place of activations
_SAFE = {32: (1e-20, 1e30), 64: (1e-200, 1e200)}  # traces that neither vanish nor overflow


@dataclass(frozen=True)
class Kernel:
    """The centred kernel matrix K of a layer, scaled to trace 1; all zeros for a constant layer.

    Attributes:
        values: K ``[n_examples, n_examples]``, or F ``[n_examples, n_neurons]`` with K = F F^H.
        is_matrix: whether values are K.
        size: the root of the trace before scaling, which is the norm of the centred activations; 0 for a constant layer.
    """

    values: Tensor
    is_matrix: bool
    size: float

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.values)

    @cached_property
    def diagonal(self) -> Tensor:
        """The diagonal of K, ``[n_examples]``."""
        return self.values.diagonal().real if self.is_matrix else self.values.abs().square().sum(1)

    @cached_property
    def trace(self) -> float:
        """1, or 0 for a constant layer."""
        return self.diagonal.sum().item()

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of K."""
        return math.sqrt(self.dot(self))

    @cached_property
    def dimension(self) -> float:
        """Effective number of directions: trace² / norm² of K, 1 for one direction and p for p directions of equal variance."""
        return self.trace**2 / self.norm**2 if self.trace else 0.0

    def dot(self, y: "Kernel") -> float:
        """Sum of the products of all entries of two kernel matrices, tr(K L)."""
        a, b = self.values, y.values
        if self.is_matrix and y.is_matrix and a.dtype == b.dtype == torch.float64:
            return torch.dot(a.view(-1), b.view(-1)).item()
        if a.dtype != b.dtype:
            a, b = a.to(torch.complex128), b.to(torch.complex128)
        if not self.is_matrix and not y.is_matrix:
            return (a.mH @ b).abs().square().sum().item()
        if not self.is_matrix:
            return ((b @ a) * a.conj()).sum().real.item()
        if not y.is_matrix:
            return ((a @ b) * b.conj()).sum().real.item()
        return torch.vdot(a.flatten(), b.flatten()).real.item()

    def debiased_dot(self, y: "Kernel") -> float:
        """n (n - 3) times the unbiased estimate of HSIC (Song et al. 2012, JMLR 13:1393, equation 5), n >= 4."""
        n = self.n
        shared = (self.diagonal * y.diagonal).sum().item()
        return self.dot(y) - n / (n - 2) * shared + self.trace * y.trace / ((n - 1) * (n - 2))


def linear_kernel(x: Any, name: str = "x", *, partners: int = 1) -> Kernel:
    """The centred linear kernel of a layer.

    Args:
        x: tensor or array ``[n_examples, n_neurons]`` of numbers, real or complex.
        name: the name of the layer in messages.
        partners: number of layers it will be compared with: with many, an n x n matrix pays off also with fewer neurons than examples.

    Raises:
        ReplicationError: no such matrix, fewer than two examples, no neurons, or non-finite values.

    >>> kernel = linear_kernel(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> (round(kernel.trace, 6), round(kernel.dimension, 6))
    (1.0, 2.0)
    """
    activations = as_activations(x, name)
    n, p = activations.values.shape
    if p >= n or (n <= _FEW and 4 * n <= p * partners):
        return _matrix_of(activations, name)
    mean, features = _centred(activations, name)
    alive = column_norms(features) > _constant_norms(activations, mean)
    return _scaled_features(features if alive.all() else features[:, alive])


def rbf_kernel(x: Any, name: str = "x", *, bandwidth: float = 1.0) -> Kernel:
    """The centred Gaussian kernel exp(-d² / (2 (bandwidth m)²)) of a layer, with m² the median of the squared distances d².

    The median is over all n² pairs, as in the code of Kornblith et al. (2019), section 3.

    Args:
        x, name: as for ``linear_kernel``.
        bandwidth: share of the median distance.

    Raises:
        ReplicationError: as for ``linear_kernel``; a bandwidth that is not above 0; more than half of the distances are 0.
    """
    if not bandwidth > 0 or not math.isfinite(bandwidth):
        raise ReplicationError(f"The bandwidth is {bandwidth}; allowed: a finite share of the median distance above 0, 1 by default.")
    activations = as_activations(x, name)
    if len(activations.values) > _MOST:
        raise ReplicationError(
            f"{name} has {len(activations.values)} examples, too many for an n x n kernel; use up to {_MOST}, or svcca.minibatch_cka."
        )
    linear = _matrix_of(activations, name)
    if not linear.size:
        return linear
    squares = (linear.diagonal[:, None] + linear.diagonal - 2 * linear.values.real).clamp(min=0).fill_diagonal_(0)
    count = squares.numel()
    median = squares.flatten().sort().values[(count - 1) // 2 : count // 2 + 1].mean()
    if median <= 0:
        raise ReplicationError(
            f"{name} has equal values in more than half of the pairs of examples, so the median distance is 0; use linear_cka, or leave "
            "out equal examples."
        )
    return _scaled(_double_centred(torch.exp(squares / (-2 * bandwidth**2 * median))))


def _matrix_of(activations: Activations, name: str) -> Kernel:
    """The linear kernel as an n x n matrix."""
    x = activations.values
    gram = cross_product(x.mT, x.mT, block=_BLOCK).conj()
    centred = _double_centred(gram)
    trace, mean_squares = centred.diagonal().real.sum(), gram.mean().abs() * len(x)
    bits = torch.finfo(x.dtype).bits
    if bool(_SAFE[bits][0] < trace < _SAFE[bits][1]) and bool(mean_squares <= _FAR[bits] * trace):
        return _scaled(centred)
    mean, z = _centred(activations, name)
    z = z * (column_norms(z) > _constant_norms(activations, mean))
    largest = z.abs().max().item()
    z = z / (largest or 1.0)
    return _scaled(z @ z.mH, largest)


def _double_centred(matrix: Tensor) -> Tensor:
    """The matrix with the means of its rows and columns subtracted."""
    rows = matrix.mean(1)
    return matrix - rows[:, None] - rows.conj() + rows.mean().real


def _centred(activations: Activations, name: str) -> tuple[Tensor, Tensor]:
    """Mean ``[n_neurons]`` and centred activations, both float64."""
    x = activations.values
    finite_mean(x, name)
    mean = x.mean(0, dtype=wide(x.dtype))
    return mean, x.to(mean.dtype) - mean


def _constant_norms(activations: Activations, mean: Tensor) -> Tensor:
    """Norms below which a neuron is constant."""
    return math.sqrt(len(activations.values)) * constant_level(activations.eps, torch.finfo(mean.dtype).eps) * mean.abs()


def _scaled(matrix: Tensor, unit: float = 1.0) -> Kernel:
    trace = max(matrix.diagonal().real.sum().item(), 0.0)
    return Kernel(values=matrix / trace if trace else torch.zeros_like(matrix), is_matrix=True, size=math.sqrt(trace) * unit)


def _scaled_features(features: Tensor) -> Kernel:
    largest = features.abs().max().item() if features.numel() else 0.0
    if not largest:
        return Kernel(values=features, is_matrix=False, size=0.0)
    features = features / largest
    norm = torch.linalg.vector_norm(features).item()
    return Kernel(values=features / norm, is_matrix=False, size=largest * norm)
