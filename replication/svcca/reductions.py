"""Ways to reduce a layer to fewer dimensions without new training (SVCCA, sections 2.1 and 4.4): to directions, to neurons, to both.

Each function is fitted on some examples and returns a map ``[n, n_neurons] -> [n, n_neurons]`` for these or other examples.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from replication.svcca.canonical import Cca, Directions, project
from replication.svcca.orthonormal import singular_value_decomposition

Reduction = Callable[[Tensor], Tensor]


def on_directions(directions: Directions, k: int) -> Reduction:
    """Projection on the top k canonical directions, or on all where there are fewer; see ``project``.

    >>> from replication import svcca
    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> reduce = on_directions(svcca.cca(x, x[:, :2]).directions_x, 9)  # there are two
    >>> reduce(x)[:, :2].allclose(x[:, :2], atol=1e-5)
    True
    """
    k = min(k, directions.weights.shape[1])
    return lambda values: project(values, directions, k)


def largest_neurons(x: Tensor) -> Tensor:
    """Indices of the neurons of ``x`` ``[n, n_neurons]`` by the Euclidean norm of their activations, largest first.

    >>> largest_neurons(torch.tensor([[1.0, 0.0, 5.0], [1.0, 0.0, -5.0]]))
    tensor([2, 0, 1])
    """
    return torch.linalg.vector_norm(x, dim=0).argsort(descending=True)


def only_neurons(neurons: Tensor) -> Reduction:
    """Some neurons as they are, and all others at 0.

    >>> only_neurons(torch.tensor([2]))(torch.ones(1, 3))
    tensor([[0., 0., 1.]])
    """

    def reduce(values: Tensor) -> Tensor:
        mask = torch.zeros(values.shape[1], dtype=values.dtype, device=values.device)
        mask[neurons] = 1
        return values * mask

    return reduce


def on_neurons(x: Tensor, neurons: Tensor) -> Reduction:
    """Every neuron by least squares from some neurons, fitted on ``x`` ``[n, n_neurons]``.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])  # the second neuron is twice the first, plus 1
    >>> on_neurons(x, torch.tensor([0]))(torch.tensor([[10.0, 0.0]]))
    tensor([[10., 21.]])
    """
    mean = x.mean(0)
    inverse, products = _normal_equations(x - mean, neurons)
    return lambda values: (mean + (values.to(mean.dtype) - mean)[:, neurons] @ inverse @ products).to(values.dtype)


def double_projection(x: Tensor, directions: Directions, k: int, m: int) -> Reduction:
    """Projection on the top k directions and further on the m neurons that matter most to them (SVCCA, figure 2b).

    The paper does not say how it ranks neurons. Here they are ranked by the norm of their loadings on the k directions.

    Args:
        x: the examples of the fit of ``directions``, ``[n, n_neurons]``.
        directions: of the layer.
        k: number of directions; all where there are fewer.
        m: number of neurons; all where there are fewer.

    >>> from replication import svcca
    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> directions = svcca.cca(x, x[:, :2]).directions_x
    >>> double_projection(x, directions, 2, 4)(x).allclose(on_directions(directions, 2)(x))  # all neurons lose nothing
    True
    """
    k = min(k, directions.weights.shape[1])
    loadings = directions.loadings[:k]
    neurons = torch.linalg.vector_norm(loadings, dim=0).argsort(descending=True)[:m]
    centred = x - directions.mean
    # variates by least squares from the neurons, then all neurons from these variates
    inverse, products = _normal_equations(centred, neurons)
    coefficients = inverse @ products @ directions.weights[:, :k] @ loadings
    return lambda values: (directions.mean + (values.to(x.dtype) - directions.mean)[:, neurons] @ coefficients).to(values.dtype)


def completed(result: Cca) -> Directions:
    """Canonical directions of x, followed by the singular directions of the rest of x, largest first.

    Against the logits there are at most as many canonical directions as classes, fewer than a compression may want to keep.

    >>> from replication import svcca
    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> completed(svcca.cca(x, x[:, :1])).weights.shape
    torch.Size([4, 4])
    """
    factor, canonical = result.factors[0], result.rotations[0]
    rest = factor.coordinates - canonical @ (canonical.mH @ factor.coordinates)
    singular = singular_value_decomposition(rest)[0][:, : factor.rank - canonical.shape[1]]
    rotation = torch.cat([canonical, singular], 1)
    return Directions(mean=factor.mean, weights=factor.weights @ rotation, loadings=rotation.mH @ factor.coordinates)


def _normal_equations(centred: Tensor, neurons: Tensor) -> tuple[Tensor, Tensor]:
    """B^-1 and C whose product has the least-squares coefficients of all neurons in some; dead and dependent neurons get none."""
    basis = centred[:, neurons]
    return torch.linalg.pinv(basis.mH @ basis, hermitian=True, rtol=1e-12), basis.mH @ centred
