"""Ways to reduce a layer to fewer dimensions without training again (SVCCA, sections 2.1 and 4.4): directions, neurons, both.

Each function fits on some examples and gives a map ``[n, n_neurons] -> [n, n_neurons]`` for others.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from replication import svcca
from replication.svcca.canonical import Directions
from replication.svcca.factor import singular_value_decomposition

Reduction = Callable[[Tensor], Tensor]


def on_directions(directions: Directions, k: int) -> Reduction:
    """On the top k canonical directions, or all there are; see ``svcca.project``."""
    k = min(k, directions.weights.shape[1])
    return lambda values: svcca.project(values, directions, k)


def largest_neurons(x: Tensor) -> Tensor:
    """Neurons by the Euclidean norm of their activations, largest first."""
    return torch.linalg.vector_norm(x, dim=0).argsort(descending=True)


def only_neurons(neurons: Tensor) -> Reduction:
    """On some neurons, with the others at 0."""

    def reduce(values: Tensor) -> Tensor:
        mask = torch.zeros(values.shape[1], dtype=values.dtype, device=values.device)
        mask[neurons] = 1
        return values * mask

    return reduce


def on_neurons(x: Tensor, neurons: Tensor) -> Reduction:
    """On the span of some neurons: every neuron by least squares from these, fitted on ``x`` ``[n, n_neurons]``."""
    mean = x.mean(0)
    coefficients = _least_squares(x - mean, neurons)
    return lambda values: (mean + (values.to(mean.dtype) - mean)[:, neurons] @ coefficients).to(values.dtype)


def double_projection(x: Tensor, directions: Directions, k: int, m: int) -> Reduction:
    """On the top k directions and further on the m neurons that matter most to them (SVCCA, figure 2b).

    The paper does not say how it ranks neurons; here by the norm of their loadings on the k directions.

    Args:
        x: the examples that the directions were fitted on, ``[n, n_neurons]``.
    """
    k = min(k, directions.weights.shape[1])
    loadings = directions.loadings[:k]
    neurons = torch.linalg.vector_norm(loadings, dim=0).argsort(descending=True)[:m]
    centred = x - directions.mean
    # variates by least squares from the neurons, then all neurons from these variates
    coefficients = _least_squares(centred, neurons) @ directions.weights[:, :k] @ loadings
    return lambda values: (directions.mean + (values.to(x.dtype) - directions.mean)[:, neurons] @ coefficients).to(values.dtype)


def completed(result: svcca.Cca) -> Directions:
    """Canonical directions of x followed by what remains of it, largest singular values first.

    With the logits there are at most as many canonical directions as classes, fewer than a compression keeps.
    """
    factor, canonical = result.factors[0], result.rotations[0]
    rest = factor.coordinates - canonical @ (canonical.mH @ factor.coordinates)
    others = singular_value_decomposition(rest)[0][:, : factor.rank - canonical.shape[1]]
    rotation = torch.cat([canonical, others], 1)
    return Directions(factor.mean, factor.weights @ rotation, rotation.mH @ factor.coordinates)


def _least_squares(centred: Tensor, neurons: Tensor) -> Tensor:
    """Coefficients ``[len(neurons), n_neurons]`` of all centred neurons in some of them; dead and dependent ones get none."""
    basis = centred[:, neurons]
    return torch.linalg.pinv(basis.mH @ basis, hermitian=True, rtol=1e-12) @ (basis.mH @ centred)
