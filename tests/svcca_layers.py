"""Pairs of layers for the tests of similarity, and their canonical correlations computed plainly."""

import torch
from torch import Tensor

DTYPES = {torch.float64: 1e-10, torch.float32: 1e-5}


def layers(n: int = 200, p: int = 6, q: int = 4, seed: int = 0, shared: int = 2) -> tuple[Tensor, Tensor]:
    """Two layers with common directions, offsets and unequal scales."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    common = normal(n, shared)
    return common @ normal(shared, p) + normal(n, p) + 3, 10 * (common @ normal(shared, q) + normal(n, q)) - 50


def dense(x: Tensor, y: Tensor) -> Tensor:
    """Coefficients from orthonormal bases by Householder QR, for layers of full rank."""
    qx, qy = (torch.linalg.qr(z.double() - z.double().mean(0))[0] for z in (x, y))
    return torch.linalg.svdvals(qx.T @ qy)


def orthogonal(p: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(torch.randn(p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
