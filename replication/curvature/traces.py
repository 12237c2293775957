"""The trace by random probes."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from replication.curvature.operators import Matrix, Operator, operator_at
from replication.errors import ReplicationError
from replication.landscape.directions import Ignore
from replication.landscape.grid import Vector
from replication.objective.objective import Objective
from replication.objective.options import check_count


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: the trace.
        standard_error: of ``value``, over the probes that were averaged.
        by_tensor: a row per parameter tensor with name, trace of its diagonal block and standard_error.
    """

    value: float
    standard_error: float
    by_tensor: pd.DataFrame


def trace(
    objective: Objective,
    theta: Vector | None = None,
    *,
    matrix: Matrix = "hessian",
    method: Literal["hutchinson", "hutch++"] = "hutchinson",
    ignore: Ignore = None,
    probes: int = 30,
    generator: torch.Generator | None = None,
) -> Trace:
    """The trace of the Hessian, and of each tensor's diagonal block, from random vectors of +1 and -1.

    The number of products is fixed: a rule that stops once the running mean no longer moves may stop too early by chance.

    Args:
        theta, matrix, ignore: as in ``extremes``.
        method: ``"hutchinson"``, the mean of z.Hz over probes z; ``"hutch++"`` (Meyer et al. 2021, arXiv 2010.09649, algorithm 1), which
            takes the trace in the range of a third of the probes exactly and estimates the rest: far smaller errors where few
            eigenvalues dominate. It holds two thirds of the probes as float64 vectors.
        probes: Hessian-vector products.
        generator: of the probes; seed 0 by default.

    Raises:
        ReplicationError: fewer than 2 probes (6 for Hutch++), an unknown method or matrix, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> theta = torch.zeros(2)  # the Hessian here is [[1/4, -1/4], [-1/4, 1/4]]
        >>> estimate = trace(objective, theta, probes=200)
        >>> bool(abs(estimate.value - 0.5) < 4 * estimate.standard_error)
        True
    """
    if method not in ("hutchinson", "hutch++"):
        raise ReplicationError(f"The method is {method!r}; allowed: 'hutchinson', 'hutch++'.")
    check_count("number of probes", probes, least=2 if method == "hutchinson" else 6)
    operator = operator_at(objective, theta, matrix=matrix, ignore=ignore)
    generator = generator or torch.Generator().manual_seed(0)
    kept = [slot for slot in objective.layout if bool(operator.mask[slot.start])]
    exact, terms = _hutchinson(operator, probes, generator) if method == "hutchinson" else _hutch_plus_plus(operator, probes, generator)
    samples = torch.stack([terms[:, slot.slice].sum(1) for slot in kept], dim=1)  # of the rest, [n_averaged, n_tensors]
    parts = torch.stack([exact[slot.slice].sum() for slot in kept])
    errors = samples.std(0, correction=1) / len(samples) ** 0.5
    by_tensor = {"name": [slot.name for slot in kept], "trace": (parts + samples.mean(0)).tolist(), "standard_error": errors.tolist()}
    totals = samples.sum(1)
    return Trace(
        value=float(parts.sum() + totals.mean()),
        standard_error=float(totals.std(correction=1) / len(totals) ** 0.5),
        by_tensor=pd.DataFrame(by_tensor),
    )


def _hutchinson(operator: Operator, probes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """No part of the diagonal that is exact ``[n]``, and samples of all of it ``[probes, n]``."""
    vectors = [operator.probe(generator, "rademacher") for _ in range(probes)]
    return torch.zeros_like(operator.mask), torch.stack([vector * operator(vector) for vector in vectors])


def _hutch_plus_plus(operator: Operator, probes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The diagonal of A Q Q^T + Q Q^T A (I - Q Q^T), exact ``[n]``, and samples of the diagonal of the rest ``[m, n]``.

    Q is a basis of the range of A applied to a third of the probes, Gaussian ones, since vectors of +1 and -1 may be dependent. The rest
    is (I - Q Q^T) A (I - Q Q^T).
    """
    third = min(probes // 3, operator.dimension)
    sketch = torch.stack([operator(operator.probe(generator)) for _ in range(third)], dim=1)
    directions, lengths, _ = torch.linalg.svd(sketch, full_matrices=False)
    basis = directions[:, lengths > 1e-12 * lengths[0]]  # a matrix of lower rank has a smaller range
    images = torch.zeros_like(basis)
    for number, vector in enumerate(basis.T):
        images[:, number] = operator(vector)
    exact = ((2 * images - basis @ (basis.T @ images)) * basis).sum(1)
    samples = []
    for _ in range(probes - 2 * third):
        vector = operator.probe(generator, "rademacher")
        outside = vector - basis @ (basis.T @ vector)
        image = operator(outside)
        samples.append(vector * (image - basis @ (basis.T @ image)))
    return exact, torch.stack(samples)
