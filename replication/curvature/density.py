"""The spectral density by stochastic Lanczos quadrature."""

import numpy as np
import pandas as pd
import torch

from replication.curvature.bounds import is_symmetric
from replication.curvature.lanczos import Lanczos
from replication.curvature.operators import Matrix, operator_at
from replication.errors import ReplicationError
from replication.landscape.directions import Ignore
from replication.landscape.grid import Vector
from replication.objective.objective import Objective
from replication.objective.options import check_count

_ROUNDINGS = 64  # rounding units of the largest eigenvalue: what products of a multiple of the identity spread over


def spectral_density(
    objective: Objective,
    theta: Vector | None = None,
    *,
    matrix: Matrix = "hessian",
    ignore: Ignore = None,
    probes: int = 5,
    products: int = 50,
    generator: torch.Generator | None = None,
    width: float | None = None,
    points: int = 1000,
) -> dict[str, pd.DataFrame]:
    """The density of the Hessian's eigenvalues by stochastic Lanczos quadrature (Lin, Saad and Yang 2016; Ghorbani et al. 2019).

    Each random unit vector gives a Gaussian quadrature of the density. Its nodes are the Ritz values; its weights are the squared
    first components of the tridiagonal matrix's eigenvectors.

    Args:
        theta, matrix, ignore: as in ``extremes``.
        probes: random vectors, averaged.
        products: Hessian-vector products for each.
        width: standard deviation of the Gaussian that smooths the nodes; by default a hundredth of their range, or of their size where
            all are one eigenvalue within rounding.
        points: of the smoothed density.

    Returns:
        ``nodes`` (probe, eigenvalue, weight; a probe's weights sum to 1) and ``density`` (eigenvalue, density; integrates to 1).

    Raises:
        ReplicationError: numbers of probes or products below 1, fewer than 2 points, a width that is not above 0, products that are not
            those of a symmetric matrix, an unknown matrix, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> nodes = spectral_density(objective, theta, probes=2, products=2)["nodes"]
        >>> nodes["eigenvalue"].abs().round(6).tolist(), bool(abs(nodes["weight"].sum() - 2) < 1e-12)
        ([0.0, 0.5, 0.0, 0.5], True)
    """
    check_count("number of probes", probes)
    check_count("number of products", products)
    check_count("number of points", points, least=2)
    if width is not None and not 0 < width < float("inf"):
        raise ReplicationError(f"The width is {width}; allowed: a number above 0, or None for a hundredth of the eigenvalues' range.")
    operator = operator_at(objective, theta, matrix=matrix, ignore=ignore)
    generator = generator or torch.Generator().manual_seed(0)
    rows = []
    for probe in range(probes):
        lanczos = Lanczos(operator, operator.probe(generator), operator.dimension)
        while lanczos.products < products and lanczos.advance():
            pass
        values, vectors = lanczos.ritz()
        _check_symmetry(lanczos, values, operator.epsilon)
        rows.append(pd.DataFrame({"probe": probe, "eigenvalue": values, "weight": vectors[0] ** 2}))
    nodes = pd.concat(rows, ignore_index=True)
    return {"nodes": nodes, "density": _smoothed(nodes, probes, width, points, operator.epsilon)}


def _check_symmetry(lanczos: Lanczos, values: np.ndarray, epsilon: float) -> None:
    asymmetry, scale = float(np.abs(lanczos.asymmetry).max()) if lanczos.finite else 0.0, float(np.abs(values).max())
    if not is_symmetric(asymmetry, scale, epsilon):
        raise ReplicationError(
            f"The products are not those of a symmetric matrix: u.Av and v.Au differ by {asymmetry:.2g} for unit vectors, where the "
            f"largest eigenvalue is {scale:.2g}; a second derivative of the network is wrong, or its forward pass is random."
        )


def _smoothed(nodes: pd.DataFrame, probes: int, width: float | None, points: int, epsilon: float) -> pd.DataFrame:
    values, weights = nodes["eigenvalue"].to_numpy(), nodes["weight"].to_numpy() / probes
    if not np.isfinite(values).all():
        return pd.DataFrame({"eigenvalue": [np.nan], "density": [np.nan]})
    spread, size = float(np.ptp(values)), float(np.abs(values).max())
    if spread <= _ROUNDINGS * epsilon * size:  # one eigenvalue within rounding: a bell as narrow as that has no points inside
        spread = size or 1.0
    sigma = spread / 100 if width is None else width
    at = np.linspace(values.min() - 5 * sigma, values.max() + 5 * sigma, points)
    bells = np.exp(-0.5 * ((at[:, None] - values) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return pd.DataFrame({"eigenvalue": at, "density": bells @ weights})
