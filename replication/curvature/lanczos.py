"""Lanczos' process on a symmetric operator, with full reorthogonalisation (Golub and Van Loan, Matrix Computations, chapter 10)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
_BREAKDOWN = 1e-10  # of the operator's scale: a remainder this small is rounding, and the space is invariant
_LEAST_PRODUCTS = 8  # a start vector almost without the eigenvector of an end makes that end look converged before
_FIRST_CAPACITY = 8  # vectors of the basis; doubled when full


class Lanczos:
    """An orthonormal basis of the Krylov space of ``operator`` and ``start``, and the operator's tridiagonal matrix in it.

    Args:
        operator: symmetric, on float64 vectors ``[n]``.
        start: ``[n]``, not zero.
        dimension: of the space that the operator acts on; the basis grows no larger.

    Attributes:
        diagonal, off_diagonal: of the tridiagonal matrix; the last entry of ``off_diagonal`` leads to the next vector.
        products: operator applications so far.
        finite: False from the first product with a value that is not finite.

    Example:
        >>> eigenvalues = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        >>> lanczos = Lanczos(lambda vector: eigenvalues * vector, torch.ones(3, dtype=torch.float64), dimension=3)
        >>> while lanczos.advance():
        ...     pass
        >>> lanczos.ritz()[0].round(6).tolist(), lanczos.products
        ([1.0, 2.0, 5.0], 3)
    """

    def __init__(self, operator: Operator, start: Tensor, dimension: int) -> None:
        self._operator, self._dimension = operator, dimension
        self._rows = start.new_empty(_FIRST_CAPACITY, len(start))
        self._size = 0
        self._append(start / start.norm())
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.products = 0
        self.finite = True

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors so far, in rows: float64 ``[size, n]``."""
        return self._rows[: self._size]

    def advance(self) -> bool:
        """Apply the operator once more; False if no new vector follows: the space is invariant, or the product is not finite."""
        vector = self._operator(self.basis[-1])
        self.products += 1
        self.finite = bool(torch.isfinite(vector).all())
        if not self.finite:
            return False
        self.diagonal.append((vector @ self.basis[-1]).item())
        for _ in range(2):  # twice is enough: the second pass removes what cancellation left in the first
            vector = vector - (self.basis @ vector) @ self.basis
        self.off_diagonal.append(vector.norm().item())
        scale = max(map(abs, [*self.diagonal, *self.off_diagonal[:-1]]))
        if self.off_diagonal[-1] <= _BREAKDOWN * scale or self._size == self._dimension:
            self.off_diagonal[-1] = 0.0
            return False
        self._append(vector / self.off_diagonal[-1])
        return True

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Ritz values ``[k]`` in rising order and, in columns, the eigenvectors of the tridiagonal matrix ``[k, k]``; nan if not finite."""
        if not self.finite:
            return np.full(1, np.nan), np.ones((1, 1))
        values, vectors = eigh_tridiagonal(np.array(self.diagonal), np.array(self.off_diagonal[:-1]))
        return values, vectors

    def vector(self, coefficients: np.ndarray) -> Tensor:
        """The combination of the basis with ``coefficients`` ``[k]``, float64 ``[n]``."""
        return torch.from_numpy(coefficients).to(self._rows) @ self._rows[: len(coefficients)]

    def _append(self, vector: Tensor) -> None:
        if self._size == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self._size] = vector
        self._size += 1


@dataclass(frozen=True)
class Ends:
    """Smallest and largest eigenvalue: values, bounds of their errors, vectors ``[n]``, and whether both bounds met the tolerance."""

    values: tuple[float, float]
    errors: tuple[float, float]
    vectors: tuple[Tensor, Tensor]
    converged: bool


def extremes_of(lanczos: Lanczos, tolerance: float, max_products: int) -> Ends:
    """Advance ``lanczos`` until both ends meet ``tolerance``, the space is exhausted, or ``max_products`` were used.

    The residual of a Ritz pair is abs(beta_k s_k), with s_k the last component of its eigenvector of the tridiagonal matrix. It
    may be ``tolerance`` times the Ritz value, or times a hundredth of the larger end for an end near zero.

    Example:
        >>> eigenvalues = torch.linspace(-1, 3, 50, dtype=torch.float64)
        >>> lanczos = Lanczos(lambda vector: eigenvalues * vector, torch.ones(50, dtype=torch.float64), dimension=50)
        >>> ends = extremes_of(lanczos, tolerance=1e-6, max_products=100)
        >>> [round(value, 6) for value in ends.values], ends.converged
        ([-1.0, 3.0], True)
    """
    while True:
        exhausted = not lanczos.advance()
        values, vectors = lanczos.ritz()
        residuals = np.abs(lanczos.off_diagonal[-1] * vectors[-1]) if lanczos.finite else np.full(1, np.nan)
        ends, errors = values[[0, -1]], residuals[[0, -1]]
        allowed = tolerance * np.maximum(np.abs(ends), np.abs(ends).max() / 100)
        met = bool((errors <= allowed).all())
        if exhausted or (met and lanczos.products >= _LEAST_PRODUCTS) or lanczos.products >= max_products:
            break
    return Ends(
        values=(float(ends[0]), float(ends[1])),
        errors=(float(errors[0]), float(errors[1])),
        vectors=(lanczos.vector(vectors[:, 0]), lanczos.vector(vectors[:, -1])),
        converged=met and lanczos.finite,
    )
