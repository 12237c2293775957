"""Curvature of an objective at a point: extreme eigenvalues, spectral density and trace of its Hessian.

Everything is computed from Hessian-vector products of the mean loss over all examples (Li et al. 2018, arXiv 1712.09913,
section 6.1 and Figure 7). The Hessian is that of all parameters; ``ignore="biasbn"`` restricts it to parameter tensors with two
axes or more, as the paper's code does.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.curvature.lanczos import Lanczos, Operator, extremes_of
from replication.errors import ReplicationError
from replication.landscape.directions import without_biases_and_norms
from replication.landscape.grid import Coordinates, Progress, fill, plane
from replication.objective.objective import Objective

Ignore = Literal["biasbn"] | None
_MAP_COLUMNS = ("smallest", "largest", "ratio", "smallest_error", "largest_error", "converged", "products")


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest eigenvalue of a Hessian.

    Attributes:
        smallest, largest: eigenvalues; nan where a product was not finite.
        smallest_error, largest_error: bounds, the norm of H v - lambda v: some eigenvalue lies within that distance.
        converged: whether both bounds met the tolerance.
        products: Hessian-vector products used for both together.
        smallest_vector, largest_vector: unit eigenvectors, float64 ``[n_parameters]``.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    converged: bool
    products: int
    smallest_vector: Tensor
    largest_vector: Tensor


@dataclass(frozen=True)
class Trace:
    """Hutchinson's estimate of a trace.

    Attributes:
        value: the mean over probes.
        standard_error: of the mean.
        by_tensor: a row per parameter tensor with name, trace of its diagonal block and standard_error.
    """

    value: float
    standard_error: float
    by_tensor: pd.DataFrame


def extreme_eigenvalues(
    objective: Objective,
    theta: Tensor | None = None,
    *,
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
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> smallest, largest = extreme_eigenvalues(objective, theta)
        >>> round(abs(smallest), 6), round(largest, 6)
        (0.0, 0.5)
    """
    ends = extremes(objective, theta, ignore=ignore, tolerance=tolerance, max_products=max_products, generator=generator)
    return ends.smallest, ends.largest


def extremes(
    objective: Objective,
    theta: Tensor | None = None,
    *,
    ignore: Ignore = None,
    tolerance: float = 1e-3,
    max_products: int = 100,
    generator: torch.Generator | None = None,
) -> Extremes:
    """Smallest and largest eigenvalue of the Hessian from one Krylov space, by Lanczos' process with full reorthogonalisation.

    It stops when the residual of each end is at most ``tolerance`` times its magnitude (or times a hundredth of the larger
    magnitude, for an end near zero). The true relative error of an eigenvalue is usually about ``tolerance`` squared.

    Args:
        theta: ``[n_parameters]``; the objective's own parameters by default.
        ignore: ``"biasbn"`` keeps only parameter tensors with two axes or more.
        tolerance: of the residuals, relative.
        max_products: Hessian-vector products at most; the basis holds as many float64 vectors.
        generator: of the starting vector; seed 0 by default.

    Raises:
        ReplicationError: a tolerance or limit that is not positive, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> ends = extremes(objective, theta)
        >>> round(ends.largest, 6), ends.converged
        (0.5, True)
    """
    if not tolerance > 0 or max_products < 1:
        raise ReplicationError(f"The tolerance is {tolerance} and max_products {max_products}; allowed: above 0, and 1 or more.")
    operator, mask = _hessian(objective, theta, ignore)
    lanczos = Lanczos(operator, _probe(mask, generator or torch.Generator().manual_seed(0), "gaussian"), int(mask.sum()))
    ends = extremes_of(lanczos, tolerance, max_products)
    (smallest, largest), (smallest_error, largest_error), (smallest_vector, largest_vector) = ends.values, ends.errors, ends.vectors
    return Extremes(
        smallest=smallest,
        largest=largest,
        smallest_error=smallest_error,
        largest_error=largest_error,
        converged=ends.converged,
        products=lanczos.products,
        smallest_vector=smallest_vector,
        largest_vector=largest_vector,
    )


def spectral_density(
    objective: Objective,
    theta: Tensor | None = None,
    *,
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
        theta, ignore: as in ``extremes``.
        probes: random vectors, averaged.
        products: Hessian-vector products for each.
        width: standard deviation of the Gaussian that smooths the nodes; a hundredth of their range by default.
        points: of the smoothed density.

    Returns:
        ``nodes`` (probe, eigenvalue, weight; a probe's weights sum to 1) and ``density`` (eigenvalue, density; integrates to 1).

    Raises:
        ReplicationError: numbers of probes or products below 1, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> nodes = spectral_density(objective, theta, probes=2, products=2)["nodes"]
        >>> nodes["eigenvalue"].abs().round(6).tolist(), bool(abs(nodes["weight"].sum() - 2) < 1e-12)
        ([0.0, 0.5, 0.0, 0.5], True)
    """
    _check_count("probes", probes, least=1)
    _check_count("products", products, least=1)
    operator, mask = _hessian(objective, theta, ignore)
    generator = generator or torch.Generator().manual_seed(0)
    rows = []
    for probe in range(probes):
        lanczos = Lanczos(operator, _probe(mask, generator, "gaussian"), int(mask.sum()))
        while lanczos.products < products and lanczos.advance():
            pass
        values, vectors = lanczos.ritz()
        rows.append(pd.DataFrame({"probe": probe, "eigenvalue": values, "weight": vectors[0] ** 2}))
    nodes = pd.concat(rows, ignore_index=True)
    return {"nodes": nodes, "density": _smoothed(nodes, probes, width, points)}


def trace(
    objective: Objective,
    theta: Tensor | None = None,
    *,
    ignore: Ignore = None,
    probes: int = 30,
    generator: torch.Generator | None = None,
) -> Trace:
    """The trace of the Hessian by Hutchinson's estimator with +1/-1 probes, and of each tensor's diagonal block.

    The number of probes is fixed: a rule that stops once the running mean no longer moves may stop too early by chance.

    Args:
        theta, ignore: as in ``extremes``.
        probes: random vectors, with one Hessian-vector product each.
        generator: of the probes; seed 0 by default.

    Raises:
        ReplicationError: fewer than 2 probes, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> estimate = trace(objective, theta, probes=200)
        >>> bool(abs(estimate.value - 0.5) < 4 * estimate.standard_error)
        True
    """
    _check_count("probes", probes, least=2)
    operator, mask = _hessian(objective, theta, ignore)
    generator = generator or torch.Generator().manual_seed(0)
    kept = [slot for slot in objective.layout if bool(mask[slot.start])]
    samples = np.empty((probes, len(kept)))
    for row in samples:
        probe = _probe(mask, generator, "rademacher")
        terms = probe * operator(probe)
        row[:] = [terms[slot.slice].sum().item() for slot in kept]
    errors = samples.std(axis=0, ddof=1) / probes**0.5
    table = pd.DataFrame({"name": [slot.name for slot in kept], "trace": samples.mean(0), "standard_error": errors})
    totals = samples.sum(1)
    return Trace(float(totals.mean()), float(totals.std(ddof=1) / probes**0.5), table)


def eigenvalue_map(
    objective: Objective,
    direction_x: Tensor,
    direction_y: Tensor,
    alphas: Coordinates,
    betas: Coordinates,
    *,
    centre: Tensor | None = None,
    ignore: Ignore = "biasbn",
    tolerance: float = 1e-2,
    max_products: int = 100,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
) -> pd.DataFrame:
    """Extreme eigenvalues of the Hessian at the points of a plane, and abs(smallest / largest) (section 6.1, Figure 7).

    Args:
        direction_x, direction_y, alphas, betas, centre, done, limit, progress: as in ``landscape.surface``.
        ignore, tolerance, max_products: as in ``extremes``; the defaults are the paper's.

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
    point = plane(objective.parameters() if centre is None else centre.to(objective.device), [direction_x, direction_y])

    def evaluate(at: tuple[float, ...]) -> dict[str, float]:
        ends = extremes(objective, point(at), ignore=ignore, tolerance=tolerance, max_products=max_products)
        ratio = abs(ends.smallest / ends.largest) if ends.largest else float("nan")
        return {name: float(getattr(ends, name)) for name in _MAP_COLUMNS if name != "ratio"} | {"ratio": ratio}

    return fill({"alpha": alphas, "beta": betas}, evaluate, _MAP_COLUMNS, done=done, limit=limit, progress=progress)


def _hessian(objective: Objective, theta: Tensor | None, ignore: Ignore) -> tuple[Operator, Tensor]:
    """v -> P H P v for the projection P on the parameters of the mask, and the mask as float64 ``[n_parameters]``."""
    if ignore not in ("biasbn", None):
        raise ReplicationError(f"ignore is {ignore!r}; allowed: 'biasbn' (tensors with two axes or more only) or None.")
    point = objective.parameters() if theta is None else theta
    if ignore is None:
        mask = torch.ones(objective.n_parameters, dtype=torch.float64, device=objective.device)
    else:
        mask = without_biases_and_norms(objective.layout, objective.device).double()
    if not mask.any():
        raise ReplicationError("No parameter tensor has two axes or more, so ignore='biasbn' leaves none; use ignore=None.")
    return lambda vector: mask * objective.hessian_vector_product(point, mask * vector), mask


def _probe(mask: Tensor, generator: torch.Generator, law: Literal["gaussian", "rademacher"]) -> Tensor:
    """A random vector on the parameters of the mask, drawn on the generator's device."""
    if law == "gaussian":
        draw = torch.randn(len(mask), generator=generator, device=generator.device, dtype=torch.float64)
    else:
        draw = torch.randint(0, 2, (len(mask),), generator=generator, device=generator.device).double() * 2 - 1
    return draw.to(mask.device) * mask


def _smoothed(nodes: pd.DataFrame, probes: int, width: float | None, points: int) -> pd.DataFrame:
    values, weights = nodes["eigenvalue"].to_numpy(), nodes["weight"].to_numpy() / probes
    if not np.isfinite(values).all():
        return pd.DataFrame({"eigenvalue": [np.nan], "density": [np.nan]})
    spread = float(np.ptp(values)) or max(abs(float(values[0])), 1.0)
    sigma = spread / 100 if width is None else width
    at = np.linspace(values.min() - 5 * sigma, values.max() + 5 * sigma, points)
    bells = np.exp(-0.5 * ((at[:, None] - values) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return pd.DataFrame({"eigenvalue": at, "density": bells @ weights})


def _check_count(name: str, count: int, *, least: int) -> None:
    if count < least:
        raise ReplicationError(f"The number of {name} is {count}; allowed: {least} or more.")
