"""What a network and a loss do, found out by running them on a few examples before any number is returned.

The loss must be a function of the parameters and of one example at a time. So random numbers in the forward pass and examples that
influence each other are looked for by evaluation, and not by the types of layers.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import call, convert, main_tensor, map_tensors, n_examples, take, tensors_of
from replication.objective.losses import ExampleLoss, check_class_range
from replication.objective.networks import converted
from replication.objective.plain import PlainNetwork, computing

N_PROBES = 32
_CHUNK_NUMBERS = 2**22  # input and activation numbers in a chunk: about 16 MB in float32, near the optimum on CPU and small on a GPU


@dataclass(frozen=True)
class Probe:
    """A few examples from the whole set: the first, the last and random ones, in the type of the network and in float64.

    Attributes:
        inputs, labels: at most ``N_PROBES`` examples, or one chunk where examples influence each other.
        double: the same inputs with floating-point numbers in float64.
    """

    inputs: Any
    labels: Any
    double: Any

    @property
    def n(self) -> int:
        """Number of examples."""
        return n_examples(self.labels, "labels")

    @property
    def device(self) -> torch.device:
        """Where the examples are."""
        return tensors_of(self.inputs)[0].device


def probe_of(examples: ExampleSet, chunk: int | None) -> Probe:
    """Examples to try a network on, drawn from the whole set by a fixed seed.

    Raises:
        ReplicationError: a stream that does not give the same examples again.

    Example:
        >>> probe_of(ExampleSet(torch.zeros(100, 2), torch.arange(100)), None).labels[[0, -1]]
        tensor([ 0, 99])
    """
    n = min(examples.n, N_PROBES if chunk is None else min(chunk, N_PROBES))
    drawn = torch.randperm(max(examples.n - 2, 0), generator=torch.Generator().manual_seed(0))[: max(n - 2, 0)] + 1
    ends = [0] if n == 1 else [0, examples.n - 1]
    members = torch.tensor(sorted([*ends, *drawn.tolist()]))
    inputs, labels = examples.select(members)
    if not examples.in_memory:
        again = examples.select(members)
        if not all(torch.equal(a, b) for a, b in zip(tensors_of((inputs, labels)), tensors_of(again), strict=True)):
            raise ReplicationError("Two readings of the same examples differ; give data that are not shuffled or augmented at random.")
    return Probe(inputs, labels, _in_double(inputs))


def _in_double(inputs: Any) -> Any:
    return convert(inputs, tensors_of(inputs)[0].device, torch.float64)


@dataclass(frozen=True)
class Findings:
    """What the examination of a network found.

    Attributes:
        finest: the network in the finest arithmetic it runs in, for proofs.
        interact: whether the loss of an example changes with the examples beside it.
        chunk: number of examples in one pass that is fast.
    """

    finest: "Arithmetic"
    interact: bool
    chunk: int


def examine(network: PlainNetwork, names: list[str], loss: ExampleLoss, probe: Probe, examples: ExampleSet, chunk: int | None) -> Findings:
    """Run a network and a loss on a few examples and find out what they do.

    Raises:
        ReplicationError: they fail, are random, or let examples influence each other without a chunk that divides their number.
    """
    inspect_forward(network, loss, probe, examples)
    finest = finest_arithmetic(network, names, loss, probe)
    together = check_repeatable(finest, loss, probe.labels)
    norms = [module for module in network.module.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    interact = any(norm.running_mean is None for norm in norms) or examples_interact(finest, loss, probe.labels, together)
    if interact and (chunk is None or examples.n % chunk):
        raise ReplicationError(
            "The loss of an example changes with the examples beside it (batch statistics, a loss that compares examples, targets that are "
            "broadcast, or a network that takes the first axis for time), so the size of a chunk is part of its definition: choose a chunk "
            f"that divides the {examples.n} examples, and it is {chunk}."
        )
    return Findings(finest, interact, default_chunk(network, probe, examples.n))


def double_of(network: PlainNetwork, names: list[str]) -> PlainNetwork:
    """The same network in float64, apart from the given one."""
    double = PlainNetwork(converted(copy.deepcopy(network.module), torch.float64, None), names)
    double.copies_inputs, double.reentrant, double.values_need_graph = network.copies_inputs, network.reentrant, network.values_need_graph
    return double


def inspect_forward(network: PlainNetwork, loss: ExampleLoss, probe: Probe, examples: ExampleSet) -> None:
    """Run the network, and note on it what its forward pass needs.

    Raises:
        ReplicationError: forward pass or loss fail on the examples.
    """
    network.reentrant = _is_reentrant(network, probe)
    network.copies_inputs = True  # a forward pass may write into its inputs: it gets copies here, and later where it does
    with computing(graph=True):
        outputs = _outputs(network, probe.inputs, probe.n)
        if loss.weigh is not None and examples.in_memory and not tensors_of(examples.labels)[0].is_floating_point():
            check_class_range(loss.ignored_label, main_tensor(outputs).shape[-1 if main_tensor(outputs).dim() < 2 else 1], examples.labels)
        _losses_of(loss, outputs, probe.labels)
    try:
        with computing(graph=False):
            _losses(network, loss, probe.inputs, probe.labels)
    except ReplicationError:
        network.values_need_graph = True
    network.copies_inputs = _writes_into_inputs(network, loss, probe)


def _losses(network: PlainNetwork, loss: ExampleLoss, inputs: Any, labels: Any) -> Tensor:
    return _losses_of(loss, _outputs(network, inputs, n_examples(labels, "labels")), labels)


def _outputs(network: PlainNetwork, inputs: Any, n: int) -> Any:
    try:
        return network.outputs(inputs)
    except ReplicationError:
        raise
    except Exception as error:  # a user's forward method may raise anything
        raise ReplicationError(f"The network cannot run on {n} of the examples: {_reason(error)}.") from error


def _losses_of(loss: ExampleLoss, outputs: Any, labels: Any) -> Tensor:
    try:
        return loss(outputs, labels).detach().double()
    except ReplicationError:
        raise
    except Exception as error:
        raise ReplicationError(f"The loss cannot be computed from the network's outputs and the labels: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")


def _writes_into_inputs(network: PlainNetwork, loss: ExampleLoss, probe: Probe) -> bool:
    copies = [tensor.clone() for tensor in tensors_of(probe.inputs)]
    replaced = iter(copies)
    inputs = map_tensors(lambda _: next(replaced), probe.inputs)
    network.copies_inputs = False
    versions = [tensor._version for tensor in copies]
    with computing(graph=network.values_need_graph):
        _losses(network, loss, inputs, probe.labels)
    return versions != [tensor._version for tensor in copies]


def _is_reentrant(network: PlainNetwork, probe: Probe) -> bool:
    """Whether reentrant checkpointing is used, which needs inputs with a gradient: its node is looked for in the graph."""
    network.reentrant = True
    try:
        with computing(graph=True):
            outputs = network.outputs(probe.inputs)
    except Exception:  # inputs with a gradient are nothing that a forward pass must allow
        return False
    pending = [tensor.grad_fn for tensor in tensors_of(outputs) if tensor.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node.name() == "CheckpointFunctionBackward":
            return True
        following = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= following
        pending.extend(following)
    return False


@dataclass(frozen=True)
class Arithmetic:
    """A network with the examples in its type, and how closely two of its results must agree."""

    network: PlainNetwork
    inputs: Any
    tolerance: float


def finest_arithmetic(network: PlainNetwork, names: list[str], loss: ExampleLoss, probe: Probe) -> Arithmetic:
    """float64 where the network runs in it, else its own type."""
    dtype = network.leaves[0].dtype
    own = Arithmetic(network, probe.inputs, torch.finfo(dtype).eps ** 0.5)
    if dtype == torch.float64:
        return Arithmetic(network, probe.double, 1e-7)
    try:
        double = double_of(network, names)
        with computing(graph=network.values_need_graph):
            _losses(double, loss, take(probe.double, slice(0, 2)), take(probe.labels, slice(0, 2)))
    except (ReplicationError, RuntimeError, MemoryError):
        return own
    return Arithmetic(double, probe.double, 1e-7)


def check_repeatable(arithmetic: Arithmetic, loss: ExampleLoss, labels: Any) -> Tensor:
    """The losses of the probe, which two evaluations must agree on.

    Raises:
        ReplicationError: they do not: the forward pass draws random numbers or keeps a state.
    """
    with computing(graph=arithmetic.network.values_need_graph):
        first, second = (_losses(arithmetic.network, loss, arithmetic.inputs, labels) for _ in range(2))
    if not torch.allclose(first, second, rtol=arithmetic.tolerance, atol=arithmetic.tolerance, equal_nan=True):
        worst = int((first - second).abs().nan_to_num(float("inf")).argmax())
        raise ReplicationError(
            f"Two evaluations of the same example at the same parameters give the losses {first[worst].item():.6g} and "
            f"{second[worst].item():.6g}; the forward pass or the data draw random numbers or keep a state, so switch that off in "
            "evaluation mode (dropout modules are off already)."
        )
    return first


def examples_interact(arithmetic: Arithmetic, loss: ExampleLoss, labels: Any, together: Tensor) -> bool:
    """Whether the loss of an example changes with the examples beside it: subsets alone are compared with the whole probe."""
    n, (network, inputs, tolerance) = len(together), (arithmetic.network, arithmetic.inputs, arithmetic.tolerance)
    subsets = [slice(0, n // 2), slice(n // 3, n - 1), slice(0, 1), slice(n - 1, n)]
    for subset in (subset for subset in subsets if 0 < subset.stop - subset.start < n):
        try:
            with computing(graph=network.values_need_graph):
                alone = _losses(network, loss, take(inputs, subset), take(labels, subset))
        except ReplicationError:
            if subset.stop - subset.start == 1 and n > 3:  # networks that squeeze a batch of one away
                continue
            return True
        if not torch.allclose(alone, together[subset], rtol=tolerance, atol=tolerance, equal_nan=True):
            return True
    return False


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

    handles = [leaf.register_forward_hook(count) for leaf in module.modules() if not any(leaf.children())]
    try:
        yield lambda: numbers
    finally:
        for handle in handles:
            handle.remove()


def moved(network: PlainNetwork, own: Tensor) -> Tensor:
    """The vector, every tensor moved at random by a tenth of its size; zeros move too, so that no layer stays without influence."""
    generator = torch.Generator().manual_seed(0)
    pieces = []
    for leaf, piece in zip(network.leaves, own.split([leaf.numel() for leaf in network.leaves]), strict=True):
        size = piece.square().mean().sqrt().item() if len(piece) else 0.0
        noise = torch.randn(leaf.numel(), generator=generator, dtype=torch.float64).to(own.device)
        pieces.append(piece + (0.1 * size or 0.05) * noise)
    return torch.cat(pieces)


def moved_buffers(own: Tensor) -> Tensor:
    """The floating-point buffers, moved so that variances stay positive."""
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, len(own), generator=generator, dtype=torch.float64).to(own.device)
    return own * (1 + 0.1 * first) + 0.05 * second


def moving_buffers(module: nn.Module, inputs: Any) -> tuple[str, ...]:
    """The floating-point buffers that a forward pass in training mode changes, by name; found on a copy.

    Where that pass fails, for instance since it needs more examples, those of normalisation layers are taken.

    Example:
        >>> moving_buffers(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).eval(), torch.randn(4, 2))
        ('0.running_mean', '0.running_var')
    """
    duplicate = copy.deepcopy(module).train()
    before = {name: buffer.clone() for name, buffer in duplicate.named_buffers() if buffer.is_floating_point()}
    try:
        with torch.random.fork_rng(), computing(graph=True):
            call(duplicate, map_tensors(torch.clone, inputs))
    except Exception:  # a user's forward method may raise anything
        norms = {name for name, layer in module.named_modules() if isinstance(layer, nn.modules.batchnorm._NormBase)}
        return tuple(name for name in before if name.rpartition(".")[0] in norms)
    after = dict(duplicate.named_buffers())
    return tuple(name for name, buffer in before.items() if name not in after or not torch.equal(after[name], buffer))
