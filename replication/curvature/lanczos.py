"""Lanczos' process on a symmetric operator, with full reorthogonalisation (Golub and Van Loan, Matrix Computations, chapter 10)."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

_BREAKDOWN = 1e-10  # of the operator's scale: a remainder this small is rounding, and the space is invariant
_FIRST_CAPACITY = 8  # vectors of the basis; doubled when full


class Lanczos:
    """An orthonormal basis of the Krylov space of ``operator`` and ``start``, and the operator's matrix in it.

    In exact arithmetic and for a symmetric operator that matrix is tridiagonal. Here all of its upper half is kept as it was
    computed: what lies above the second diagonal is the operator's asymmetry and rounding.

    Args:
        operator: symmetric, on float64 vectors ``[n]``.
        start: ``[n]``, not zero.
        dimension: of the space that the operator acts on; the basis grows no larger.

    Attributes:
        off_diagonal: lengths of the remainders; the last one leads to the next vector.
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

    def __init__(self, operator: Callable[[Tensor], Tensor], start: Tensor, dimension: int) -> None:
        self._operator, self._dimension = operator, dimension
        self._rows = start.new_empty(_FIRST_CAPACITY, len(start))
        self._size = 0
        self._append(start / start.norm())
        self._columns: list[np.ndarray] = []
        self.off_diagonal: list[float] = []
        self.products = 0
        self.finite = True

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors so far, in rows: float64 ``[size, n]``."""
        return self._rows[: self._size]

    @property
    def projected(self) -> np.ndarray:
        """The operator in the basis as computed, upper Hessenberg, float64 ``[k, k]`` after k products."""
        matrix = np.diag(self.off_diagonal[: len(self._columns) - 1], -1) if len(self._columns) > 1 else np.zeros((1, 1))
        for number, column in enumerate(self._columns):
            matrix[: number + 1, number] = column
        return matrix

    @property
    def asymmetry(self) -> np.ndarray:
        """What distinguishes ``projected`` from a symmetric tridiagonal matrix ``[k, k]``: u.Av - v.Au for the pairs of the basis."""
        matrix = self.projected
        return np.triu(matrix, 1) - np.triu(np.tril(matrix, -1).T, 1)

    def advance(self) -> bool:
        """Apply the operator once more; False if no new vector follows: the space is invariant, or the product is not finite."""
        vector = self._operator(self.basis[-1])
        self.products += 1
        self.finite = bool(torch.isfinite(vector).all())
        if not self.finite:
            return False
        column = torch.zeros(self._size, dtype=vector.dtype, device=vector.device)
        for _ in range(2):  # twice is enough: the second pass removes what cancellation left in the first
            coefficients = self.basis @ vector
            vector = vector - coefficients @ self.basis
            column += coefficients
        self._columns.append(column.cpu().numpy())
        self.off_diagonal.append(vector.norm().item())
        scale = max(map(abs, [*(float(each[-1]) for each in self._columns), *self.off_diagonal[:-1]]))
        if self.off_diagonal[-1] <= _BREAKDOWN * scale or self._size == self._dimension:
            return False
        self._append(vector / self.off_diagonal[-1])
        return True

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Ritz values ``[k]`` in rising order and, in columns, the eigenvectors of the tridiagonal matrix ``[k, k]``; nan if not finite."""
        if not self.finite:
            return np.full(1, np.nan), np.ones((1, 1))
        values, vectors = eigh_tridiagonal(np.array([column[-1] for column in self._columns]), np.array(self.off_diagonal[:-1]))
        return values, vectors

    def vector(self, coefficients: np.ndarray) -> Tensor:
        """The combination of the basis with ``coefficients`` ``[k]``, float64 ``[n]``."""
        return torch.from_numpy(coefficients).to(self._rows) @ self._rows[: len(coefficients)]

    def image(self, coefficients: np.ndarray) -> Tensor:
        """The operator applied to ``vector(coefficients)``, put together from the products that were computed: float64 ``[n]``."""
        image = self.vector(self.projected @ coefficients)
        if self._size > len(self._columns):
            image = image + self.off_diagonal[-1] * float(coefficients[-1]) * self._rows[len(self._columns)]
        return image

    def _append(self, vector: Tensor) -> None:
        if self._size == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self._size] = vector
        self._size += 1
