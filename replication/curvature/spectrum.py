"""Curvature of an objective at a point: extreme eigenvalues, spectral density and trace of its Hessian.

Only Hessian-vector products are used, of the mean loss over all examples (Li et al. 2018, arXiv 1712.09913, section 6.1 and
Figure 7; specification 1.7). ``ignore="biasbn"`` restricts the Hessian to parameter tensors with two axes or more, as the
paper's code does; by default it is the whole one.
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
    """Both ends of a spectrum.

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
    """The smallest and the largest eigenvalue of the Hessian at ``theta``; ``extremes`` tells their errors too."""
    found = extremes(objective, theta, ignore=ignore, tolerance=tolerance, max_products=max_products, generator=generator)
    return found.smallest, found.largest


def extremes(
    objective: Objective,
    theta: Tensor | None = None,
    *,
    ignore: Ignore = None,
    tolerance: float = 1e-3,
    max_products: int = 100,
    generator: torch.Generator | None = None,
) -> Extremes:
    """Both ends of the Hessian's spectrum from one Krylov space, by Lanczos with full re-orthogonalisation.

    Stops when the residual of each end is at most ``tolerance`` times its magnitude (or times a hundredth of the larger
    magnitude, for an end near zero). An eigenvalue's true error is usually about the square of that.

    Args:
        theta: ``[n_parameters]``; the objective's own parameters by default.
        ignore: ``"biasbn"`` keeps to parameter tensors with two axes or more.
        max_products: Hessian-vector products at most; the basis holds as many float64 vectors.
        generator: of the starting vector; seed 0 by default.

    Raises:
        ReplicationError: a tolerance or limit that is not positive, or no parameters left.
    """
    if not tolerance > 0 or max_products < 1:
        raise ReplicationError(f"The tolerance is {tolerance} and max_products {max_products}; allowed: above 0, and 1 or more.")
    operator, mask = _hessian(objective, theta, ignore)
    run = Lanczos(operator, _probe(mask, generator or torch.Generator().manual_seed(0), "gaussian"), int(mask.sum()))
    ends = extremes_of(run, tolerance, max_products)
    return Extremes(*ends.values, *ends.errors, ends.converged, run.products, *ends.vectors)


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

    Each random unit vector gives a Gaussian quadrature of the density: Ritz values are its nodes, squared first components of
    the tridiagonal matrix's eigenvectors its weights.

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
    """
    _check_counts(probes=probes, products=products)
    operator, mask = _hessian(objective, theta, ignore)
    generator = generator or torch.Generator().manual_seed(0)
    rows = []
    for probe in range(probes):
        run = Lanczos(operator, _probe(mask, generator, "gaussian"), int(mask.sum()))
        while run.products < products and run.advance():
            pass
        values, vectors = run.ritz()
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

    The number of probes is fixed: a rule that stops when the running mean stands still stops early by luck.

    Args:
        theta, ignore: as in ``extremes``.

    Raises:
        ReplicationError: fewer than 2 probes, or no parameters left.
    """
    _check_counts(probes=probes - 1)
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
    """Extreme eigenvalues of the full Hessian at the points of a plane, and abs(smallest / largest) (Figure 7).

    Args:
        direction_x, direction_y, alphas, betas, centre, done, limit, progress: as in ``landscape.surface``.
        ignore, tolerance, max_products: as in ``extremes``; the defaults are the paper's.

    Returns:
        Columns alpha, beta, computed, smallest, largest, ratio, smallest_error, largest_error, converged (0 or 1), products.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit.
    """
    point = plane(objective.parameters() if centre is None else centre.to(objective.device), [direction_x, direction_y])

    def evaluate(at: tuple[float, ...]) -> dict[str, float]:
        found = extremes(objective, point(at), ignore=ignore, tolerance=tolerance, max_products=max_products)
        ratio = abs(found.smallest / found.largest) if found.largest else float("nan")
        return {name: float(getattr(found, name)) for name in _MAP_COLUMNS if name != "ratio"} | {"ratio": ratio}

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


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ReplicationError(f"There are too few {name}; allowed: 1 or more, and 2 or more probes for a standard error.")
