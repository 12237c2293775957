"""The smallest and the largest eigenvalue, at one point and on a plane (Li et al. 2018, arXiv 1712.09913, section 6.1, Figure 7)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.curvature.bounds import Checked, allowed_errors, check
from replication.curvature.lanczos import Lanczos
from replication.curvature.operators import Matrix, operator_at
from replication.errors import ReplicationError
from replication.landscape.directions import Ignore
from replication.landscape.grid import Coordinates, Progress, Vector, fill, plane_through
from replication.objective.objective import Objective
from replication.objective.options import check_count

_LEAST_PRODUCTS = 8  # a start vector almost without the eigenvector of an end makes that end look converged before
_MAP_COLUMNS = ("smallest", "largest", "ratio", "smallest_error", "largest_error", "converged", "products")


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest eigenvalue of a Hessian.

    Attributes:
        smallest, largest: eigenvalues; nan where a product was not finite.
        smallest_error, largest_error: bounds: some eigenvalue lies within that distance. They hold the norm of H v - lambda v, the
            operator's asymmetry, and its rounding as measured.
        converged: whether both bounds met the tolerance, for a symmetric operator.
        message: why not, in a sentence; empty if converged.
        products: Hessian-vector products used for both together.
        smallest_vector, largest_vector: unit eigenvectors, float64 ``[n_parameters]``.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    converged: bool
    message: str
    products: int
    smallest_vector: Tensor
    largest_vector: Tensor


def extreme_eigenvalues(
    objective: Objective,
    theta: Vector | None = None,
    *,
    matrix: Matrix = "hessian",
    ignore: Ignore = None,
    tolerance: float = 1e-3,
    max_products: int = 100,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of the Hessian at ``theta``; ``extremes`` also returns bounds of their errors.

    Arguments and errors as in ``extremes``.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> smallest, largest = extreme_eigenvalues(objective, torch.zeros(2))  # of [[1/4, -1/4], [-1/4, 1/4]]
        >>> round(abs(smallest), 6), round(largest, 6)
        (0.0, 0.5)
    """
    ends = extremes(objective, theta, matrix=matrix, ignore=ignore, tolerance=tolerance, max_products=max_products, generator=generator)
    return ends.smallest, ends.largest


def extremes(
    objective: Objective,
    theta: Vector | None = None,
    *,
    matrix: Matrix = "hessian",
    ignore: Ignore = None,
    tolerance: float = 1e-3,
    max_products: int = 100,
    generator: torch.Generator | None = None,
) -> Extremes:
    """Smallest and largest eigenvalue of the Hessian from one Krylov space, by Lanczos' process with full reorthogonalisation.

    It stops when the residual of each end is at most ``tolerance`` times its magnitude (or times a hundredth of the larger
    magnitude, for an end near zero). The true relative error of an eigenvalue is usually about ``tolerance`` squared. One more
    product, in float64 or at weights that differ by one rounding unit, measures how large the products' rounding is.

    Args:
        theta: ``[n_parameters]``; the objective's own parameters by default.
        matrix: another matrix than the Hessian, as in ``operators.operator_at``.
        ignore: parameters to leave out, as in ``landscape.kept_parameters``; ``"biasbn"`` is the paper's choice.
        tolerance: of the residuals, relative.
        max_products: Hessian-vector products at most, without the last one; the basis holds as many float64 vectors.
        generator: of the starting vector; seed 0 by default.

    Raises:
        ReplicationError: a tolerance or limit that is not positive, an unknown matrix, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> ends = extremes(objective, torch.zeros(2))  # of [[1/4, -1/4], [-1/4, 1/4]]
        >>> round(ends.largest, 6), ends.converged
        (0.5, True)
    """
    check_count("number of products", max_products)
    if not tolerance > 0:
        raise ReplicationError(f"The tolerance is {tolerance}; allowed: a number above 0.")
    operator = operator_at(objective, theta, matrix=matrix, ignore=ignore)
    start = operator.probe(generator or torch.Generator().manual_seed(0))
    lanczos = Lanczos(operator, start, operator.dimension)
    values, coefficients = advanced(lanczos, tolerance, max_products)
    verdict = verified(lanczos, values, coefficients, again=operator.again, epsilon=operator.epsilon, tolerance=tolerance)
    return Extremes(
        smallest=float(values[0]),
        largest=float(values[1]),
        smallest_error=float(verdict.errors[0]),
        largest_error=float(verdict.errors[1]),
        converged=verdict.converged,
        message=verdict.message,
        products=lanczos.products + lanczos.finite,
        smallest_vector=lanczos.vector(coefficients[:, 0]),
        largest_vector=lanczos.vector(coefficients[:, 1]),
    )


def advanced(lanczos: Lanczos, tolerance: float, max_products: int) -> tuple[np.ndarray, np.ndarray]:
    """Advance ``lanczos`` until both ends meet ``tolerance``, the space is exhausted, or ``max_products`` were used.

    The residual of a Ritz pair is abs(beta_k s_k), with s_k the last component of its eigenvector of the tridiagonal matrix.

    Returns:
        The two ends ``[2]`` and, in columns, their coefficients in the basis ``[k, 2]``.

    Example:
        >>> eigenvalues = torch.linspace(-1, 3, 50, dtype=torch.float64)
        >>> lanczos = Lanczos(lambda vector: eigenvalues * vector, torch.ones(50, dtype=torch.float64), dimension=50)
        >>> advanced(lanczos, tolerance=1e-6, max_products=100)[0].round(6).tolist()
        [-1.0, 3.0]
    """
    while True:
        exhausted = not lanczos.advance()
        values, vectors = lanczos.ritz()
        ends, coefficients = values[[0, -1]], vectors[:, [0, -1]]
        residuals = np.abs(lanczos.off_diagonal[-1] * coefficients[-1]) if lanczos.finite else np.full(2, np.nan)
        met = bool((residuals <= allowed_errors(ends, tolerance)).all())
        if exhausted or (met and lanczos.products >= _LEAST_PRODUCTS) or lanczos.products >= max_products:
            return ends, coefficients


def verified(
    lanczos: Lanczos,
    values: np.ndarray,
    coefficients: np.ndarray,
    *,
    again: Callable[[Tensor], Tensor],
    epsilon: float,
    tolerance: float,
) -> Checked:
    """Judge both ends: residuals with the operator's asymmetry, and its rounding from one more product.

    Args:
        lanczos, values, coefficients: as ``advanced`` left and returned them.
        again: the operator, computed with other roundings.
        epsilon: the rounding unit of its products.

    Example:
        >>> eigenvalues = torch.linspace(0, 3, 50, dtype=torch.float64)
        >>> product = lambda vector: eigenvalues * vector + 1e-3 * vector.roll(1) * torch.arange(50)  # not symmetric
        >>> lanczos = Lanczos(product, torch.ones(50, dtype=torch.float64), dimension=50)
        >>> ends = advanced(lanczos, tolerance=1e-3, max_products=100)
        >>> verified(lanczos, *ends, again=product, epsilon=1e-16, tolerance=1e-3).message[:54]
        'The products are not those of a symmetric matrix: u.Av'
    """
    if not lanczos.finite:
        return check(values, np.full(2, np.nan), asymmetry=0.0, rounding=0.0, epsilon=epsilon, tolerance=tolerance)
    both = coefficients.sum(axis=1) / np.linalg.norm(coefficients.sum(axis=1))
    rounding = 2**0.5 * (again(lanczos.vector(both)) - lanczos.image(both)).norm().item()
    away = np.vstack([lanczos.asymmetry @ coefficients, lanczos.off_diagonal[-1] * coefficients[-1]])
    asymmetry = float(np.abs(lanczos.asymmetry).max())
    return check(values, np.linalg.norm(away, axis=0), asymmetry=asymmetry, rounding=rounding, epsilon=epsilon, tolerance=tolerance)


def eigenvalue_map(
    objective: Objective,
    direction_x: Vector,
    direction_y: Vector,
    alphas: Coordinates,
    betas: Coordinates,
    *,
    centre: Vector | None = None,
    matrix: Matrix = "hessian",
    ignore: Ignore = "biasbn",
    tolerance: float = 1e-2,
    max_products: int = 100,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
    save_to: Path | str | None = None,
) -> pd.DataFrame:
    """Extreme eigenvalues of the Hessian at the points of a plane, and abs(smallest / largest) (section 6.1, Figure 7).

    Args:
        direction_x, direction_y, alphas, betas, centre, done, limit, progress, save_to: as in ``landscape.surface``.
        matrix, ignore, tolerance, max_products: as in ``extremes``; the defaults are the paper's.

    Returns:
        Columns alpha, beta, computed, smallest, largest, ratio, smallest_error, largest_error, converged (0 or 1), products.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> table = eigenvalue_map(objective, x, y, [0.0, 1.0], [0.0, 1.0], centre=torch.zeros(2))
        >>> table["largest"].round(3).tolist()
        [0.5, 0.393, 0.393, 0.5]
    """
    point = plane_through(objective, [direction_x, direction_y], centre)

    def evaluate(at: tuple[float, ...]) -> dict[str, float]:
        ends = extremes(objective, point(at), matrix=matrix, ignore=ignore, tolerance=tolerance, max_products=max_products)
        ratio = abs(ends.smallest / ends.largest) if ends.largest else float("nan")
        return {name: float(getattr(ends, name)) for name in _MAP_COLUMNS if name != "ratio"} | {"ratio": ratio}

    return fill(
        {"alpha": alphas, "beta": betas},
        evaluate,
        _MAP_COLUMNS,
        done=done,
        limit=limit,
        progress=progress,
        save_to=save_to,
        compared={"smallest": "smallest_error", "largest": "largest_error"},
    )
