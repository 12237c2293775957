"""What a network does with single examples and with several, found out before a Gram matrix is computed.

A gradient of one example is defined only where the example's loss and gradient are the same alone and among others, and at every call.
"""

import logging
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, moved, reason_of
from replication.objective.coupling import REPETITIONS, drawing
from replication.objective.examination import NO_GRADIENT, refuse_lost_gradients
from replication.objective.inputs import Tree, convert, map_tensors, n_examples, take, tensors_of
from replication.objective.kept_values import refuse_kept_attributes, refuse_values_of_the_mode
from replication.objective.networks import converted, copy_of
from replication.objective.other_weights import refuse_graph_of_the_original, refuse_other_weights
from replication.objective.plain import computing
from replication.objective.vector import flatten
from replication.stiffness.example_gradients import ExampleGradients, Layer
from replication.stiffness.plan import TOLERANCE, agrees

_LOG = logging.getLogger(__name__)


def examine(source: ExampleGradients, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> tuple[dict[str, Tensor], bool]:
    """Take the gradients of a few examples one by one, and compare losses and gradients with those of one batch.

    Returns:
        The gradients by layer ``[n, n_parameters of the layer]``, and whether the network takes several examples at a time.

    Raises:
        ReplicationError: the network fails on single examples, examples interact, or the forward pass is random.
    """
    copies = map_tensors(torch.clone, inputs)
    versions = [tensor._version for tensor in tensors_of(copies)]
    (gradients, losses), draws = drawing(lambda: _one_by_one(source, layers, copies, labels))
    if versions != [tensor._version for tensor in tensors_of(copies)]:
        source.network.copies_inputs = True  # the forward pass writes into its inputs
        gradients, losses = _one_by_one(source, layers, inputs, labels)
    if draws:
        _refuse_randomness(source, inputs, labels, losses)
    together = _losses_together(source, inputs, labels)
    if together is None:
        return gradients, False
    _refuse_other_losses(together, losses, source.dtype)
    _refuse_coupled_gradients(source, layers, inputs, labels, gradients)
    return gradients, True


def refuse_company(source: ExampleGradients, inputs: Tree, labels: Tree) -> None:
    """Raise an error where examples have other losses together than each by itself.

    Raises:
        ReplicationError: they do.
    """
    with computing(graph=source.network.reentrant):
        together = source.losses(inputs, labels).detach()
        alone = [source.losses(*take((inputs, labels), slice(i, i + 1))).detach() for i in range(len(together))]
    _refuse_other_losses(together, torch.cat(alone), source.dtype)


def _refuse_other_losses(together: Tensor, alone: Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    if not torch.allclose(together, alone, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise ReplicationError(
            f"{len(alone)} examples have losses {together.tolist()} together and {alone.tolist()} alone; gradients of single examples "
            "need a model in which examples do not interact and nothing is random."
        )


def refuse_weights_of_the_original(model: nn.Module, source: ExampleGradients, inputs: Tree, labels: Tree) -> None:
    """Raise an error where the losses depend on the user's own model; a network that fails is left to ``examine``.

    Args:
        model: the user's.
        source: a copy of it.
        inputs, labels: a few examples, which are taken one by one.

    Raises:
        ReplicationError: they do.
    """
    if not _checked_in(source.dtype, model, source, inputs, labels) and source.dtype == torch.float64:
        _checked_in(torch.float32, model, source, inputs, labels)  # weights of the user's own are a reason why float64 fails


def _checked_in(dtype: torch.dtype, model: nn.Module, source: ExampleGradients, inputs: Tree, labels: Tree) -> bool:
    """Whether the network runs in this type, in which it is checked."""
    network = source.network.alike(converted(copy_of(source.model), dtype, None))
    network.copies_inputs = True
    network.write(moved(network.leaves, flatten(network.leaves).double()))
    arithmetic = Arithmetic(network, convert(inputs, source.device, dtype), labels, TOLERANCE[dtype])

    def losses() -> Tensor:
        return torch.cat([arithmetic.losses(source.loss, slice(i, i + 1)) for i in range(n_examples(labels, "labels"))])

    try:
        with torch.enable_grad():  # first, since a value that is cached without a graph would hide where it comes from
            outputs = network.outputs(take(arithmetic.inputs, slice(0, 1)))
        losses()
    except Exception:  # a user's forward method may raise anything
        return False
    refuse_graph_of_the_original(model, outputs)
    refuse_other_weights(model, network.module, losses, arithmetic.tolerance)
    return True


def refuse_values_of_other_weights(source: ExampleGradients, inputs: Tree, labels: Tree) -> None:
    """Raise an error where the model keeps values that it computed from its weights.

    Raises:
        ReplicationError: it does.
    """
    network = source.network.alike(copy_of(source.model))
    network.values_need_graph = True  # reentrant checkpointing warns without a graph
    own = flatten(network.leaves).double()
    arithmetic = Arithmetic(network, inputs, labels, TOLERANCE[source.dtype])
    theta = moved(network.leaves, own)
    refuse_kept_attributes(arithmetic, source.loss, own, theta)
    refuse_values_of_the_mode(arithmetic, source.loss, theta)


def _one_by_one(source: ExampleGradients, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> tuple[dict[str, Tensor], Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", NO_GRADIENT)
            stored, losses = source.one_by_one(layers, inputs, labels)
    except ReplicationError:
        raise
    except Exception as error:
        if NO_GRADIENT in str(error) and not source.network.reentrant:
            source.network.reentrant = True  # checkpointing that needs inputs with a gradient
            return _one_by_one(source, layers, inputs, labels)
        refuse_lost_gradients(error)
        if source.dtype == torch.float64 and any(word in str(error) for word in ("dtype", "Double", "Float")):
            raise ReplicationError(
                f"The model cannot be evaluated in float64 ({' '.join(str(error).split())}); give dtype=torch.float32, let it create its "
                "tensors in the type of its inputs."
            ) from error
        raise ReplicationError(f"The gradient of one example of a batch of its own cannot be taken: {reason_of(error)}.") from error
    return {name: gradients for name, (gradients,) in stored.items()}, losses


def _losses_together(source: ExampleGradients, inputs: Tree, labels: Tree) -> Tensor | None:
    try:
        with torch.no_grad():
            return source.losses(inputs, labels)
    except ReplicationError:
        raise
    except Exception as error:  # whatever the network cannot do with several examples
        _LOG.info("Gradients are taken one example at a time, since the network fails on several examples (%s).", error)
        return None


def _refuse_randomness(source: ExampleGradients, inputs: Tree, labels: Tree, losses: Tensor) -> None:
    """Evaluate the first example many times."""
    first, tolerance = take((inputs, labels), slice(0, 1)), TOLERANCE[source.dtype]
    for _ in range(REPETITIONS):
        with torch.no_grad():
            again = source.losses(*first)
        if not torch.allclose(again, losses[:1], rtol=tolerance, atol=tolerance, equal_nan=True):
            raise ReplicationError(
                f"An example has the loss {losses[0].item():.6g} and then {again.item():.6g}; gradients of single examples "
                "need a model in which examples do not interact and nothing is random."
            )


def _refuse_coupled_gradients(
    source: ExampleGradients, layers: Sequence[Layer], inputs: Tree, labels: Tree, gradients: dict[str, Tensor]
) -> None:
    """Compare a random combination of the gradients with the one that a batch gives."""
    weights = torch.randn(n_examples(labels, "labels"), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(source.device)
    sums, _ = source.weighted_sum(layers, inputs, labels, weights)
    for name, rows in gradients.items():
        expected = weights @ rows.double()
        scale = (weights.abs() @ rows.double().norm(dim=1)).nan_to_num(posinf=0.0)
        if not agrees(sums[name], expected, scale.expand_as(expected), source.dtype):
            raise ReplicationError(
                f"The gradients of examples in layer '{name}' are others in a batch than alone, though the losses are the same; gradients "
                "of single examples need a model in which examples do not interact, also in the backward pass, and that computes in its "
                "own type throughout (no float16 or bfloat16 inside)."
            )
