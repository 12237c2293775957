"""Linear centred kernel alignment (CKA) of two layers, from the same factors as canonical correlations."""

import math

import torch
from torch import Tensor

from replication.svcca.canonical import check_pair
from replication.svcca.factor import Factor, coupling, factorise


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414, section 3) in [0, 1]; 0 for a constant layer.

    norm(Z_x^T Z_y)² / (norm(Z_x^T Z_x) norm(Z_y^T Z_y)) with Frobenius norms and Z the centred activations.

    Args:
        x, y: ``[n_examples, n_neurons]`` on the same examples, in the same order. The numbers of neurons may differ.

    Raises:
        ReplicationError: as for ``cca``.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(linear_cka(x, 3 * x.flip(1) + 7), 6)  # rotations and one common scale change nothing
    1.0
    """
    check_pair(x, y)
    return alignment(factorise(x, name="x"), factorise(y, name="y"))


def alignment(x: Factor, y: Factor) -> float:
    """Linear CKA of two factors."""
    if not x.rank or not y.rank:
        return 0.0
    kernel_x, kernel_y = (f.coordinates @ f.coordinates.mH for f in (x, y))
    product = coupling(x, y)
    aligned = ((kernel_x @ product @ kernel_y) * product.conj()).sum().real
    return min(1.0, (aligned / (torch.linalg.matrix_norm(kernel_x) * torch.linalg.matrix_norm(kernel_y))).item())


def alignment_floor(x: Factor, y: Factor) -> float:
    """Mean of linear CKA over all ways to pair the examples of x with those of y, exact."""
    if not x.rank or not y.rank:
        return 0.0
    kernels = [f.coordinates @ f.coordinates.mH for f in (x, y)]
    shares = [(k.diagonal().real.sum() / torch.linalg.matrix_norm(k)).item() for k in kernels]
    return math.prod(shares) / (len(x.data) - 1)
