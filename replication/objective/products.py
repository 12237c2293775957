"""Products of vectors with the Hessian, the generalised Gauss-Newton matrix and the Fisher matrix, without these matrices.

Each function gives the sum over a chunk of examples at the weights that are written in the network. Attention runs in its plain form,
the only one that can be differentiated twice everywhere.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from replication.errors import ReplicationError
from replication.objective.graphs import refuse_cut_graph
from replication.objective.inputs import map_tensors, tensors_of
from replication.objective.losses import ExampleLoss
from replication.objective.plain import Network
from replication.objective.vector import flatten

Losses = Callable[[Any, Any], Tensor]
Product = Callable[[Network, Losses, Any, Any, Tensor], Tensor]


def hessian_product(network: Network, losses: Losses, inputs: Any, labels: Any, vector: Tensor) -> Tensor:
    """H v by differentiating g . v (Pearlmutter 1994), float64 ``[n_parameters]``."""
    with sdpa_kernel(SDPBackend.MATH):
        outputs = network.outputs(inputs)
        values = losses(outputs, labels)
        refuse_cut_graph(outputs, values)
        slopes = derivatives(values.double().sum(), network.leaves, create_graph=True)
        return flatten(derivatives(_dot(slopes, _pieces(vector, network.leaves)), network.leaves)).double()


def gauss_newton_product(network: Network, losses: Losses, inputs: Any, labels: Any, vector: Tensor) -> Tensor:
    """J^T H_L J v with J the derivative of the outputs and H_L the loss's Hessian by them (Schraudolph 2002), float64."""
    with sdpa_kernel(SDPBackend.MATH):
        outputs = network.outputs(inputs)
        predictions = [tensor for tensor in tensors_of(outputs) if tensor.requires_grad]
        tangents = _forward(predictions, network.leaves, vector)
        detached = [tensor.detach().requires_grad_() for tensor in predictions]
        replacements = iter(detached)
        outputs = map_tensors(lambda tensor: next(replacements) if tensor.requires_grad else tensor, outputs)
        slopes = derivatives(losses(outputs, labels).double().sum(), detached, create_graph=True)
        curved = derivatives(_dot(slopes, tangents), detached)
        return flatten(derivatives_of(predictions, network.leaves, curved)).double()


def fisher_product(loss: ExampleLoss, *, empirical: bool, interact: bool) -> Product:
    """The product with the Fisher matrix that a loss has.

    Raises:
        ReplicationError: there is none.

    Example:
        >>> from replication.objective.losses import example_loss
        >>> fisher_product(example_loss("cross_entropy"), empirical=False, interact=False).__name__
        'gauss_newton_product'
    """
    if empirical and interact:
        raise ReplicationError("Examples influence each other, so there are no gradients of single examples to form a Fisher matrix.")
    if not empirical and not loss.is_log_likelihood:
        raise ReplicationError("The Fisher matrix needs the loss 'cross_entropy' or 'bce_with_logits', or empirical=True.")
    return empirical_fisher_product if empirical else gauss_newton_product


def empirical_fisher_product(network: Network, losses: Losses, inputs: Any, labels: Any, vector: Tensor) -> Tensor:
    """The sum over examples of g_i (g_i . v), with g_i the gradient of example i's loss, float64."""
    with sdpa_kernel(SDPBackend.MATH):
        each = [losses(network.outputs(inputs), labels)]
        return flatten(derivatives_of(each, network.leaves, _forward(each, network.leaves, vector))).double()


def _forward(results: Sequence[Tensor], leaves: Sequence[Tensor], vector: Tensor) -> list[Tensor]:
    """J v for the results, by differentiating w -> J^T w, which is linear."""
    weights = [torch.zeros_like(result, requires_grad=True) for result in results]
    slopes = derivatives_of(results, leaves, weights, create_graph=True)
    return [piece.detach() for piece in derivatives(_dot(slopes, _pieces(vector, leaves)), weights)]


def derivatives(total: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False) -> Sequence[Tensor]:
    """The derivatives of a number; zero where it does not depend on a leaf."""
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return derivatives_of([total], leaves, None, create_graph=create_graph)


def derivatives_of(
    results: Sequence[Tensor], leaves: Sequence[Tensor], weights: Sequence[Tensor] | None, *, create_graph: bool = False
) -> Sequence[Tensor]:
    """The vector-Jacobian product; zero for what has no influence."""
    if not results:
        return [torch.zeros_like(leaf) for leaf in leaves]
    try:
        return torch.autograd.grad(results, leaves, weights, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        if "reentrant" in str(error) or "differentiate twice" in str(error) or "not implemented" in str(error):
            reason = " ".join(str(error).split())
            raise ReplicationError(f"The network has no second derivative: {reason}.") from error
        raise


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack([a.flatten() @ b.flatten().to(a.dtype) for a, b in zip(left, right, strict=True)]).sum()


def _pieces(vector: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    parts = vector.split([leaf.numel() for leaf in leaves])
    return [part.view(leaf.shape).to(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
