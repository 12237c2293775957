"""Lanczos' process on a symmetric operator, with full re-orthogonalisation (Golub and Van Loan, Matrix Computations, chapter 10)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
_BREAKDOWN = 1e-10  # of the operator's scale: what is left is rounding, and the space is invariant
_LEAST_PRODUCTS = 8  # a start vector nearly without an end's eigenvector looks converged before


class Lanczos:
    """An orthonormal basis of the Krylov space of ``operator`` and ``start`` and the operator's tridiagonal matrix in it.

    Args:
        operator: symmetric, on float64 vectors ``[n]``.
        start: ``[n]``, not zero.
        dimension: of the space that the operator acts on; the basis grows no larger.

    Attributes:
        products: operator applications so far.
        finite: False from the first product with a value that is not finite.
    """

    def __init__(self, operator: Operator, start: Tensor, dimension: int) -> None:
        self._operator, self._dimension = operator, dimension
        self._basis = [start / start.norm()]
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.products = 0
        self.finite = True

    def advance(self) -> bool:
        """One more product; False when nothing new can come: an invariant space, or a product that is not finite."""
        vector = self._operator(self._basis[-1])
        self.products += 1
        self.finite = bool(torch.isfinite(vector).all())
        if not self.finite:
            return False
        self.diagonal.append((vector @ self._basis[-1]).item())
        for _ in range(2):  # twice is enough: one pass leaves what cancellation brought in
            for known in self._basis:
                vector = vector - (vector @ known) * known
        self.off_diagonal.append(vector.norm().item())
        scale = max(map(abs, [*self.diagonal, *self.off_diagonal[:-1]]))
        if self.off_diagonal[-1] <= _BREAKDOWN * scale or len(self._basis) == self._dimension:
            self.off_diagonal[-1] = 0.0
            return False
        self._basis.append(vector / self.off_diagonal[-1])
        return True

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Ritz values ``[k]`` in rising order, and in columns the tridiagonal matrix's eigenvectors ``[k, k]``; nan if not finite."""
        if not self.finite:
            return np.full(1, np.nan), np.ones((1, 1))
        values, vectors = eigh_tridiagonal(np.array(self.diagonal), np.array(self.off_diagonal[:-1]))
        return values, vectors

    def vector(self, coefficients: np.ndarray) -> Tensor:
        """The combination of the basis with ``coefficients`` ``[k]``."""
        total = torch.zeros_like(self._basis[0])
        for coefficient, known in zip(coefficients.tolist(), self._basis, strict=False):
            total.add_(known, alpha=coefficient)
        return total


@dataclass(frozen=True)
class Ends:
    """Smallest and largest: values, bounds of their errors, vectors."""

    values: tuple[float, float]
    errors: tuple[float, float]
    vectors: tuple[Tensor, Tensor]
    converged: bool


def extremes_of(run: Lanczos, tolerance: float, max_products: int) -> Ends:
    """Advance ``run`` until the residuals of both extreme Ritz pairs meet ``tolerance``, the space is exhausted, or no products are left.

    The residual of a pair is abs(beta_k s_k) with the last component s_k of its vector in the tridiagonal basis.
    """
    exhausted = False
    while True:
        exhausted = not run.advance()
        values, vectors = run.ritz()
        errors = np.abs(run.off_diagonal[-1] * vectors[-1]) if run.finite else np.full(1, np.nan)
        ends = np.array([values[0], values[-1]])
        allowed = tolerance * np.maximum(np.abs(ends), np.abs(ends).max() / 100)
        met = bool((errors[[0, -1]] <= allowed).all())
        if exhausted or (met and run.products >= _LEAST_PRODUCTS) or run.products >= max_products:
            break
    pair = (run.vector(vectors[:, 0]), run.vector(vectors[:, -1]))
    return Ends((float(ends[0]), float(ends[1])), (float(errors[0]), float(errors[-1])), pair, met and run.finite)
