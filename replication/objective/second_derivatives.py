"""Whether products with second derivatives are right, found out by comparison with differences of first derivatives.

A custom autograd Function may return a right gradient from a backward that cannot be differentiated, or whose derivative is another
one (it detaches, leaves autograd, or passes slopes straight through). torch then counts it as constant, without an error. What the
forward pass itself detaches is constant by the user's wish and stays so.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, random_direction
from replication.objective.graphs import ForwardWatch, custom_functions
from replication.objective.inputs import map_tensors, take, tensors_of
from replication.objective.losses import ExampleLoss
from replication.objective.plain import computing
from replication.objective.products import (
    Product,
    derivatives,
    derivatives_of,
    empirical_fisher_product,
    gauss_newton_product,
    hessian_product,
)
from replication.objective.vector import flatten

_FEW = 8  # examples that are compared; all of the probe where they influence each other
# steps of differences, relative to the weights: a network with kinks may cross one in the longer ones, rounding is larger in the shorter
_STEPS = {True: (1e-6, 1e-7, 1e-8), False: (1e-2, 1e-3)}
_TOLERANCE = {True: (1e-2, 1e-4), False: (0.2, 1e-2)}  # relative to a tensor's part of the product; to the whole product and gradient
Differences = Callable[[float], Tensor]


class ProductCheck:
    """Compares each kind of product once with differences of first derivatives, at one point in one random direction.

    Args:
        arithmetic: the network in the finest arithmetic it runs in.
        loss: of each example.
        theta: the point ``[n_parameters]``, float64.
        whole: take all examples of the probe, since they influence each other.
    """

    def __init__(self, arithmetic: Arithmetic, loss: ExampleLoss, theta: Tensor, *, whole: bool) -> None:
        self._arithmetic, self._loss, self._theta, self._whole = arithmetic, loss, theta, whole
        self._trusted: set[Product] = set()

    def trust(self, product: Product) -> None:
        """Check one of ``products``, unless that has been done; other weights are written in the network then.

        Raises:
            ReplicationError: product and differences disagree, and not only since the forward pass detaches tensors.
        """
        if product not in self._trusted:
            _refuse_wrong_product(product, self._arithmetic, self._loss, self._theta, whole=self._whole)
            self._trusted.add(product)


def _refuse_wrong_product(product: Product, arithmetic: Arithmetic, loss: ExampleLoss, theta: Tensor, *, whole: bool) -> None:
    few = slice(None) if whole else slice(0, _FEW)
    inputs, labels = take(arithmetic.inputs, few), take(arithmetic.labels, few)
    network, leaves = arithmetic.network, arithmetic.network.leaves
    network.write(theta)
    with computing(graph=True), sdpa_kernel(SDPBackend.MATH):
        with ForwardWatch() as watch:
            losses = loss(network.outputs(inputs), labels)
        functions = custom_functions([losses])
        double = arithmetic.is_double and not watch.single
        if not double and not functions:  # differences would be too coarse to blame a network of torch's operations
            return
        slopes = flatten(derivatives(losses.double().sum(), leaves)).double()
        # where no slope arrives, torch may hold one back by design: a part without a graph, the row of an embedding's padding
        vector = random_direction(leaves, theta, seed=1) * (slopes != 0)
        actual = product(network, loss, inputs, labels, vector.to(leaves[0].dtype))
        expected = [_REFERENCES[product](arithmetic, loss, inputs, labels, theta, step * vector) / step for step in _STEPS[double]]
    error = _error(actual, expected, slopes, [leaf.numel() for leaf in leaves], double)
    if error > 1 and (functions or watch.hooks or not watch.detaches):
        culprit = f"the autograd Function '{functions[0]}'" if functions else "an operation or a hook"
        raise ReplicationError(
            f"The network has no second derivative that can be trusted: the product with it differs from differences of gradients, which "
            f"happens where the backward pass of {culprit} cannot be differentiated or passes slopes straight through; write it with "
            "differentiable operations, without detach."
        )


def _error(actual: Tensor, expected: Sequence[Tensor], slopes: Tensor, sizes: list[int], double: bool) -> float:
    """The largest difference of a tensor's part, in units of what is allowed; of each part the step that fits best."""
    relative, floor = _TOLERANCE[double]
    errors = []
    for reference in expected:
        scale = floor * (reference.norm() + slopes.norm())
        pieces = zip(actual.split(sizes), reference.split(sizes), strict=True)
        errors.append([float(((a - b).norm() / (relative * b.norm() + scale)).nan_to_num(0.0)) for a, b in pieces])
    return max((min(each) for each in zip(*errors, strict=True)), default=0.0)


def _hessian(arithmetic: Arithmetic, loss: ExampleLoss, inputs: Any, labels: Any, theta: Tensor, step: Tensor) -> Tensor:
    """H step, by differences of gradients."""
    network = arithmetic.network

    def gradient(point: Tensor) -> Tensor:
        network.write(point)
        return flatten(derivatives(loss(network.outputs(inputs), labels).double().sum(), network.leaves)).double()

    return (gradient(theta + step) - gradient(theta - step)) / 2


def _gauss_newton(arithmetic: Arithmetic, loss: ExampleLoss, inputs: Any, labels: Any, theta: Tensor, step: Tensor) -> Tensor:
    """J^T H_L J step, by differences of outputs and of the loss's slopes by them."""
    network = arithmetic.network

    def at(point: Tensor) -> tuple[Any, list[Tensor]]:
        network.write(point)
        outputs = network.outputs(inputs)
        return outputs, [tensor for tensor in tensors_of(outputs) if tensor.requires_grad]

    _, above = at(theta + step)
    _, below = at(theta - step)
    outputs, predictions = at(theta)
    half = [(a.detach() - b.detach()) / 2 for a, b in zip(above, below, strict=True)]

    def slopes(sign: int) -> Sequence[Tensor]:
        shifted = [(tensor.detach() + sign * part).requires_grad_() for tensor, part in zip(predictions, half, strict=True)]
        replacements = iter(shifted)
        tree = map_tensors(lambda tensor: next(replacements) if tensor.requires_grad else tensor, outputs)
        return derivatives(loss(tree, labels).double().sum(), shifted)

    curved = [(a - b) / 2 for a, b in zip(slopes(1), slopes(-1), strict=True)]
    return flatten(derivatives_of(predictions, network.leaves, curved)).double()


def _empirical_fisher(arithmetic: Arithmetic, loss: ExampleLoss, inputs: Any, labels: Any, theta: Tensor, step: Tensor) -> Tensor:
    """The sum of g_i (g_i . step), by differences of losses."""
    network = arithmetic.network

    def losses(point: Tensor) -> Tensor:
        network.write(point)
        return loss(network.outputs(inputs), labels)

    half = (losses(theta + step).detach() - losses(theta - step).detach()) / 2
    return flatten(derivatives_of([losses(theta)], network.leaves, [half])).double()


_REFERENCES: dict[Any, Any] = {hessian_product: _hessian, gauss_newton_product: _gauss_newton, empirical_fisher_product: _empirical_fisher}
