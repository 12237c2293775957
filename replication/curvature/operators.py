"""The matrices whose spectrum is asked for, as functions from vectors to vectors: nothing of the size of the matrix is stored."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.landscape.directions import Ignore, kept_parameters
from replication.landscape.grid import Vector, as_vector
from replication.objective.objective import Objective

Matrix = Literal["hessian", "gauss_newton", "fisher", "empirical_fisher"]
_METHODS: dict[str, tuple[str, dict[str, bool]]] = {  # of the objective, with their options
    "hessian": ("hessian_vector_product", {}),
    "gauss_newton": ("gauss_newton_vector_product", {}),
    "fisher": ("fisher_vector_product", {}),
    "empirical_fisher": ("fisher_vector_product", {"empirical": True}),
}


@dataclass(frozen=True)
class Operator:
    """v -> P A P v, for a matrix A at ``theta`` and the projection P on the parameters of a mask.

    Attributes:
        product: a point and a vector to A v at this point, each ``[n_parameters]``.
        theta: the point.
        mask: float64 ``[n_parameters]``, 1 for the parameters that count.
        epsilon: the rounding unit of the arithmetic in which products are computed.
        exact: the product in float64, where ``product`` is computed in less and the network runs in it.
    """

    product: Callable[[Tensor, Tensor], Tensor]
    theta: Tensor
    mask: Tensor
    epsilon: float
    exact: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, vector: Tensor) -> Tensor:
        """P A P v, float64 ``[n_parameters]``."""
        return self.mask * self.product(self.theta, self.mask * vector)

    def again(self, vector: Tensor) -> Tensor:
        """The same product with other roundings: the difference shows how large they are.

        It is computed in float64, or else at weights that differ from ``theta`` by one rounding unit, up and down in turn: the exact
        product hardly changes, but its roundings do. That misses roundings which the weights do not reach, as in a saturated softmax.
        """
        if self.exact is not None:
            return self.mask * self.exact(self.theta, self.mask * vector)
        signs = torch.ones_like(self.theta, dtype=torch.float64)
        signs[::2] = -1
        return self.mask * self.product(self.theta.double() * (1 + self.epsilon * signs), self.mask * vector)

    @property
    def dimension(self) -> int:
        """The number of parameters that count."""
        return int(self.mask.sum())

    def probe(self, generator: torch.Generator, law: Literal["gaussian", "rademacher"] = "gaussian") -> Tensor:
        """A random vector on the parameters of the mask, drawn on the generator's device: N(0, 1), or +1 and -1."""
        if law == "gaussian":
            draw = torch.randn(len(self.mask), generator=generator, device=generator.device, dtype=torch.float64)
        else:
            draw = torch.randint(0, 2, (len(self.mask),), generator=generator, device=generator.device).double() * 2 - 1
        return draw.to(self.mask.device) * self.mask


def operator_at(objective: Objective, theta: Vector | None = None, *, matrix: Matrix = "hessian", ignore: Ignore = None) -> Operator:
    """The operator of a matrix of the mean loss at ``theta``.

    Args:
        objective: the loss.
        theta: ``[n_parameters]``, a tensor, array or list; the objective's own parameters by default.
        matrix: ``"hessian"``; ``"gauss_newton"``, the Hessian without the network's own curvature; ``"fisher"``, with labels that the
            network predicts; ``"empirical_fisher"``, with the examples' own labels.
        ignore: which parameters to leave out, as in ``landscape.kept_parameters``.

    Raises:
        ReplicationError: an unknown matrix, a vector of another length, or no parameters left.

    Example:
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), images, labels)
        >>> operator_at(objective, torch.zeros(2))(torch.tensor([1.0, 0.0])).tolist()
        [0.25, -0.25]
    """
    if matrix not in _METHODS:
        raise ReplicationError(f"The matrix is {matrix!r}; allowed: {', '.join(map(repr, _METHODS))}.")
    method, options = _METHODS[matrix]
    product = functools.partial(getattr(objective, method), **options)
    point = objective.parameters() if theta is None else as_vector(theta, "theta").to(objective.device)
    mask = kept_parameters(objective.layout, ignore, objective.device).double()
    if not mask.any():
        raise ReplicationError(f"ignore={ignore!r} leaves none of the objective's {len(objective.layout)} parameter tensors; ignore fewer.")
    in_double = objective.in_double if objective.dtype != torch.float64 else None
    exact = None if in_double is None else functools.partial(getattr(in_double, method), **options)
    return Operator(product=product, theta=point, mask=mask, epsilon=torch.finfo(objective.dtype).eps, exact=exact)
