"""The leading eigenpairs from a block Krylov space."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from replication.curvature.bounds import Checked, allowed_errors, check
from replication.curvature.operators import Matrix, Operator, operator_at
from replication.errors import ReplicationError
from replication.landscape.directions import Ignore
from replication.landscape.grid import Vector
from replication.objective.objective import Objective
from replication.objective.options import check_count

Which = Literal["largest", "smallest", "magnitude"]
_DEPENDENT = 1e-10  # of its length: a vector with so little outside of the basis is in it, within rounding


@dataclass(frozen=True)
class Eigenpairs:
    """Some eigenvalues with their vectors.

    Attributes:
        values: float64 ``[k]``, the leading one first.
        errors: bounds of the values, as in ``Extremes`` ``[k]``.
        vectors: orthonormal, in rows, float64 ``[k, n_parameters]``.
        converged: whether all bounds met the tolerance, for a symmetric operator.
        message: why not, in a sentence; empty if converged.
        products: Hessian-vector products used.
    """

    values: Tensor
    errors: Tensor
    vectors: Tensor
    converged: bool
    message: str
    products: int


def eigenpairs(
    objective: Objective,
    theta: Vector | None = None,
    k: int = 1,
    *,
    which: Which = "largest",
    matrix: Matrix = "hessian",
    ignore: Ignore = None,
    tolerance: float = 1e-3,
    max_products: int | None = None,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    """The ``k`` leading eigenvalues of the Hessian at ``theta`` with their eigenvectors.

    A Krylov space grown from k random vectors, so eigenvalues that occur up to k times are found as often; only pairs whose residual does
    not yet meet the tolerance cost further products. The basis and its images are held: twice ``products`` float64 vectors.

    Args:
        theta, matrix, ignore, tolerance, generator: as in ``extremes``.
        k: number of pairs.
        which: ``"largest"``, ``"smallest"``, or of largest ``"magnitude"``.
        max_products: Hessian-vector products at most; 40 for each pair by default.

    Raises:
        ReplicationError: k below 1 or above the number of parameters, an unknown ``which`` or matrix, a tolerance that is not positive,
            or fewer products than pairs.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> pairs = eigenpairs(objective, torch.zeros(2), k=2)  # of [[1/4, -1/4], [-1/4, 1/4]]
        >>> pairs.values.abs().round(decimals=6).tolist(), pairs.vectors.shape
        ([0.5, 0.0], torch.Size([2, 2]))
    """
    check_count("number of eigenpairs", k)
    operator = operator_at(objective, theta, matrix=matrix, ignore=ignore)
    limit = 40 * k if max_products is None else max_products
    if which not in ("largest", "smallest", "magnitude"):
        raise ReplicationError(f"which is {which!r}; allowed: 'largest', 'smallest', 'magnitude'.")
    check_count("number of products", limit)
    if k > operator.dimension or not tolerance > 0 or limit < k:
        raise ReplicationError(
            f"k is {k}, the tolerance {tolerance} and max_products {limit}; "
            f"allowed: 1 to {operator.dimension} pairs, a tolerance above 0, and k products or more."
        )
    space = BlockKrylov(operator)
    generator = generator or torch.Generator().manual_seed(0)
    space.extend(torch.stack([operator.probe(generator) for _ in range(k)]))
    while space.finite:
        values, coefficients = space.ritz(k, which)
        residuals = space.residuals(values, coefficients)
        lengths = residuals.norm(dim=1).cpu().numpy()
        unmet = lengths > allowed_errors(values, tolerance)
        room = min(limit, operator.dimension) - space.products
        if not unmet.any() or room <= 0 or not space.extend(residuals[torch.from_numpy(unmet)][:room]):
            break
    if not space.finite:
        values, coefficients, lengths = np.full(k, np.nan), np.zeros((space.products, k)), np.full(k, np.nan)
    verdict = _verified(space, operator, values, coefficients, lengths, tolerance)
    return Eigenpairs(
        values=torch.from_numpy(values.copy()),
        errors=torch.from_numpy(verdict.errors),
        vectors=space.combine(coefficients, space.basis),
        converged=verdict.converged,
        message=verdict.message,
        products=space.products + space.finite,
    )


class BlockKrylov:
    """An orthonormal basis that grows by several vectors at a time, with the operator's images of its vectors.

    Attributes:
        basis, images: in rows, float64 ``[m, n]``.
        projected: basis times images, float64 ``[m, m]``: entry i, j is u_i . A u_j as computed.
        finite: False from the first product with a value that is not finite.

    Example:
        >>> diagonal = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        >>> operator = Operator(lambda point, vector: diagonal * vector, torch.zeros(3), torch.ones(3, dtype=torch.float64), 1e-16)
        >>> space = BlockKrylov(operator)
        >>> space.extend(torch.eye(3, dtype=torch.float64)), space.ritz(2, "largest")[0].tolist()
        (True, [5.0, 2.0])
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.basis = self.images = operator.mask.new_empty(0, len(operator.mask))
        self.projected = np.zeros((0, 0))
        self.finite = True

    @property
    def products(self) -> int:
        """Operator applications so far."""
        return len(self.basis)

    def extend(self, vectors: Tensor) -> bool:
        """Add what ``vectors`` ``[b, n]`` have outside of the basis; False if that is nothing."""
        new = self._outside(vectors)
        if not len(new):
            return False
        images = torch.stack([self._operator(vector) for vector in new])
        self.finite = bool(torch.isfinite(images).all())
        above, below = (self.basis @ images.T).cpu().numpy(), (new @ self.images.T).cpu().numpy()
        corner = (new @ images.T).cpu().numpy()
        self.projected = np.block([[self.projected, above], [below, corner]])
        self.basis, self.images = torch.cat([self.basis, new]), torch.cat([self.images, images])
        return True

    def ritz(self, k: int, which: Which) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` leading Ritz values, the leading one first, and in columns their coefficients in the basis ``[m, k]``."""
        values, vectors = np.linalg.eigh((self.projected + self.projected.T) / 2)
        order = {"largest": np.argsort(-values), "smallest": np.argsort(values), "magnitude": np.argsort(-np.abs(values))}[which][:k]
        return values[order], vectors[:, order]

    def residuals(self, values: np.ndarray, coefficients: np.ndarray) -> Tensor:
        """A v - lambda v of Ritz pairs, in rows ``[k, n]``."""
        shift = torch.from_numpy(values.copy()).to(self.basis)[:, None]
        return self.combine(coefficients, self.images) - shift * self.combine(coefficients, self.basis)

    @staticmethod
    def combine(coefficients: np.ndarray, rows: Tensor) -> Tensor:
        """The combinations of ``rows`` ``[m, n]`` with the columns of ``coefficients`` ``[m, k]``: ``[k, n]``."""
        return torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(rows) @ rows

    def _outside(self, vectors: Tensor) -> Tensor:
        """Orthonormal vectors that span what ``vectors`` add to the basis."""
        new: list[Tensor] = []
        for vector in vectors / vectors.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny):
            for _ in range(2):
                known = torch.cat([self.basis, torch.stack(new)]) if new else self.basis
                vector = vector - (known @ vector) @ known
            if vector.norm() > _DEPENDENT:
                vector = vector / vector.norm()
                new.append(vector - (known @ vector) @ known)
        return torch.stack(new) if new else self.basis[:0]


def _verified(
    space: BlockKrylov, operator: Operator, values: np.ndarray, coefficients: np.ndarray, residuals: np.ndarray, tolerance: float
) -> Checked:
    rounding = asymmetry = 0.0
    if space.finite:
        together = coefficients.sum(axis=1, keepdims=True) / np.linalg.norm(coefficients.sum(axis=1))
        image, vector = space.combine(together, space.images)[0], space.combine(together, space.basis)[0]
        rounding = len(values) ** 0.5 * (operator.again(vector) - image).norm().item()
        asymmetry = float(np.abs(space.projected - space.projected.T).max())
    return check(values, residuals, asymmetry=asymmetry, rounding=rounding, epsilon=operator.epsilon, tolerance=tolerance)
