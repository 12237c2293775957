"""What a network and a loss do, found out by running them on a few examples before any number is returned.

The loss must be a function of the parameters and of one example at a time. So random numbers in the forward pass and examples that
influence each other are looked for by evaluation, and not by the types of layers.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, finest_arithmetic, losses, losses_of, moved, outputs_of
from replication.objective.coupling import check_linear_backward, check_padding, check_repeatable, examples_interact
from replication.objective.example_sets import ExampleSet
from replication.objective.graphs import ForwardWatch, nodes_of
from replication.objective.inputs import call, convert, main_tensor, map_tensors, take, tensors_of
from replication.objective.kept_values import refuse_kept_values
from replication.objective.losses import ExampleLoss, check_class_range
from replication.objective.networks import converted, copy_of
from replication.objective.other_weights import refuse_graph_of_the_original, refuse_other_weights
from replication.objective.plain import PlainNetwork, computing
from replication.objective.probes import Probe
from replication.objective.second_derivatives import ProductCheck
from replication.objective.vector import flatten

NO_GRADIENT = "None of the inputs have requires_grad=True"  # how a warning of torch begins
_CHUNK_NUMBERS = 2**22  # input and activation numbers in a chunk: about 16 MB in float32, near the optimum on CPU and small on a GPU


@dataclass(frozen=True)
class Findings:
    """What the examination of a network found.

    Attributes:
        finest: the network in the finest arithmetic it runs in, for proofs.
        interact: whether the loss of an example changes with the examples beside it.
        chunk: number of examples in one pass that is fast.
        products: whether products with second derivatives can be trusted.
    """

    finest: Arithmetic
    interact: bool
    chunk: int
    products: ProductCheck


def examine(model: nn.Module, network: PlainNetwork, loss: ExampleLoss, probe: Probe, examples: ExampleSet, chunk: int | None) -> Findings:
    """Run a network and a loss on a few examples and find out what they do; the network's own weights are written in it afterwards.

    Args:
        model: the user's own, of which ``network`` has a copy.

    Raises:
        ReplicationError: they fail, are random, keep values that depend on the weights, read weights of the user's own model, or let
            examples influence each other without a chunk that divides their number.
    """
    untouched, own = copy_of(network.module), flatten(network.leaves).double()
    inspect_forward(network, loss, probe, examples)
    with computing(graph=True):
        refuse_graph_of_the_original(model, outputs_of(network, probe.inputs, probe.n))
    finest = finest_arithmetic(network, copy_of(untouched), loss, probe)
    check_repeatable(finest, loss)
    _check_padding(finest, loss, probe, examples)
    fresh = network.alike(converted(untouched, finest.network.leaves[0].dtype, None))
    theta = moved(network.leaves, own)
    finest.network.write(theta)
    refuse_other_weights(model, finest.network.module, lambda: finest.losses(loss), finest.tolerance)
    refuse_kept_values(finest, fresh, loss, own, theta)
    check_linear_backward(finest, loss, theta)
    norms = [module for module in network.module.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    interact = any(norm.running_mean is None for norm in norms) or examples_interact(finest, loss, own, theta, probe.unusual)
    network.write(own)
    if interact and (chunk is None or examples.n % chunk):
        raise ReplicationError(
            "The loss of an example, or its gradient, changes with the examples beside it (batch statistics, a loss that compares "
            "examples, targets that are broadcast, or a network that takes the first axis for time), so the size of a chunk is part of its "
            f"definition: choose a chunk that divides the {examples.n} examples{'' if chunk is None else f', and {chunk} does not'}."
        )
    return Findings(finest, interact, default_chunk(network, probe, examples.n), ProductCheck(finest, loss, theta, whole=interact))


def _check_padding(finest: Arithmetic, loss: ExampleLoss, probe: Probe, examples: ExampleSet) -> None:
    def losses_of(inputs: Any, labels: Any) -> Tensor:
        converted_inputs = convert(inputs, probe.device, finest.network.leaves[0].dtype)
        return Arithmetic(finest.network, converted_inputs, labels, finest.tolerance).losses(loss)

    check_padding(examples, probe.members, (probe.inputs, probe.labels), losses_of, finest.tolerance)


def inspect_forward(network: PlainNetwork, loss: ExampleLoss, probe: Probe, examples: ExampleSet) -> None:
    """Run the network, and note on it what its forward pass needs.

    Raises:
        ReplicationError: forward pass or loss fail on the examples.
    """
    network.reentrant = _is_reentrant(network, probe)
    network.copies_inputs = True  # a forward pass may write into its inputs: it gets copies here, and later where it does
    with computing(graph=True):
        outputs = _outputs_with_gradients(network, probe)
        if loss.weigh is not None and (scores := main_tensor(outputs)).dim() == 0:
            raise ReplicationError(
                "The network returns one number for all examples; give a network that returns outputs for each, [n, ...]."
            )
        if loss.weigh is not None and examples.in_memory and _are_indices(examples.labels):
            check_class_range(loss.ignored_label, scores.shape[-1 if scores.dim() < 2 else 1], examples.labels)
        losses_of(loss, outputs, probe.labels)
    try:
        with computing(graph=False):
            losses(network, loss, probe.inputs, probe.labels)
    except ReplicationError:
        network.values_need_graph = True
    network.copies_inputs = _writes_into_inputs(network, loss, probe)


def _are_indices(labels: Any) -> bool:
    return isinstance(labels, Tensor) and not labels.is_floating_point()


def _outputs_with_gradients(network: PlainNetwork, probe: Probe) -> Any:
    try:
        with warnings.catch_warnings(), ForwardWatch() as watch:
            warnings.filterwarnings("error", NO_GRADIENT)
            outputs = outputs_of(network, probe.inputs, probe.n)
    except ReplicationError as error:
        refuse_lost_gradients(error)
        raise
    network.weight_norm = watch.weight_norm
    return outputs


def refuse_lost_gradients(error: Exception) -> None:
    """Raise a sentence where the error is torch's warning that reentrant checkpointing loses gradients."""
    if NO_GRADIENT in str(error):
        raise ReplicationError(
            "Checkpointing with use_reentrant=True gets inputs that have no gradient, so torch gives none to the weights inside of it; use "
            "use_reentrant=False."
        ) from error


def _writes_into_inputs(network: PlainNetwork, loss: ExampleLoss, probe: Probe) -> bool:
    copies = [tensor.clone() for tensor in tensors_of(probe.inputs)]
    replaced = iter(copies)
    inputs = map_tensors(lambda _: next(replaced), probe.inputs)
    network.copies_inputs = False
    versions = [tensor._version for tensor in copies]
    with computing(graph=network.values_need_graph):
        losses(network, loss, inputs, probe.labels)
    return versions != [tensor._version for tensor in copies]


def _is_reentrant(network: PlainNetwork, probe: Probe) -> bool:
    """Whether reentrant checkpointing is used, which needs inputs with a gradient: its node is looked for in the graph."""
    network.reentrant = True
    try:
        with computing(graph=True):
            outputs = network.outputs(probe.inputs)
    except Exception:  # inputs with a gradient are nothing that a forward pass must allow
        return False
    return any(node.name() == "CheckpointFunctionBackward" for node in nodes_of(tensors_of(outputs)))


def default_chunk(network: PlainNetwork, probe: Probe, n: int) -> int:
    """The most examples whose inputs and activations stay within ``_CHUNK_NUMBERS`` numbers."""
    few = min(2, probe.n)
    inputs = take(probe.inputs, slice(0, few))
    numbers = sum(tensor.numel() for tensor in tensors_of(inputs)) // few
    with _counting(network.module) as count, computing(graph=network.values_need_graph):
        network.outputs(inputs)
    return max(1, min(n, _CHUNK_NUMBERS // max(1, numbers + count() // few)))


@contextmanager
def _counting(module: nn.Module) -> Iterator[Callable[[], int]]:
    """The number of entries that modules without children return."""
    numbers = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal numbers
        numbers += sum(tensor.numel() for tensor in tensors_of(output))

    leaves = [each for each in module.modules() if next(each.children(), None) is None and not isinstance(each, torch.jit.ScriptModule)]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        yield lambda: numbers
    finally:
        for handle in handles:
            handle.remove()


def moving_buffers(module: nn.Module, inputs: Any) -> tuple[str, ...]:
    """The floating-point buffers that a forward pass in training mode changes, by name; found on a copy.

    Where that pass fails, for instance since it needs more examples, those of normalisation layers are taken.

    Raises:
        ReplicationError: that pass changes something else than buffers on which the outputs depend.

    Example:
        >>> moving_buffers(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).eval(), torch.randn(4, 2))
        ('0.running_mean', '0.running_var')
    """
    duplicate = copy_of(module)
    saved = {name: buffer.clone() for name, buffer in duplicate.named_buffers()}
    before = {name: buffer for name, buffer in saved.items() if buffer.is_floating_point()}
    try:
        expected = _outputs_in_evaluation(duplicate, inputs)
        with torch.random.fork_rng(), computing(graph=True):
            call(duplicate.train(), map_tensors(torch.clone, inputs))
    except Exception:  # a user's forward method may raise anything
        norms = {name for name, layer in module.named_modules() if isinstance(layer, nn.modules.batchnorm._NormBase)}
        return tuple(name for name in before if name.rpartition(".")[0] in norms)
    after = {name: buffer.clone() for name, buffer in duplicate.named_buffers()}
    _refuse_hidden_state(duplicate, saved, inputs, expected)
    return tuple(name for name, buffer in before.items() if name not in after or not torch.equal(after[name], buffer))


def _outputs_in_evaluation(module: nn.Module, inputs: Any) -> list[Tensor]:
    with computing(graph=True):
        return [tensor.detach().clone() for tensor in tensors_of(call(module.eval(), map_tensors(torch.clone, inputs)))]


def _refuse_hidden_state(duplicate: nn.Module, saved: dict[str, Tensor], inputs: Any, expected: list[Tensor]) -> None:
    """Raise an error where a training pass changed the outputs other than through the buffers, which are restored here."""
    buffers = dict(duplicate.named_buffers())
    if buffers.keys() != saved.keys():
        return
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(saved[name])
    outputs = _outputs_in_evaluation(duplicate, inputs)
    if not all(torch.allclose(a, b, equal_nan=True) for a, b in zip(outputs, expected, strict=True)):
        raise ReplicationError(
            "A forward pass in training mode changes a plain attribute on which the outputs in evaluation mode depend, and a recording "
            "holds parameters and buffers only; make it a buffer (register_buffer)."
        )
