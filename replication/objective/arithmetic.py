"""A network in the finest arithmetic that it runs in, for comparisons, and points to compare at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.inputs import n_examples, take
from replication.objective.losses import ExampleLoss, PerExampleLoss
from replication.objective.networks import converted
from replication.objective.plain import PlainNetwork, computing
from replication.objective.probes import Probe


@dataclass(frozen=True)
class Arithmetic:
    """A network with the examples in its type, and how closely two of its results must agree.

    Attributes:
        network: the network.
        inputs, labels: of the probe.
        tolerance: relative, of losses and gradients.
    """

    network: PlainNetwork
    inputs: Any
    labels: Any
    tolerance: float

    @property
    def is_double(self) -> bool:
        """Whether the arithmetic is float64."""
        return self.network.leaves[0].dtype == torch.float64

    def losses(self, loss: PerExampleLoss, examples: slice = slice(None)) -> Tensor:
        """The losses of some examples ``[n]`` without a graph, float64, at the weights that are written."""
        with computing(graph=self.network.values_need_graph):
            return losses(self.network, loss, take(self.inputs, examples), take(self.labels, examples))


def finest_arithmetic(network: PlainNetwork, untouched: nn.Module, loss: ExampleLoss, probe: Probe) -> Arithmetic:
    """float64 where the network runs in it, else its own type.

    Args:
        network: the network, of which is known what its forward pass needs.
        untouched: a copy of its module that was never called; it is changed.
    """
    dtype = network.leaves[0].dtype
    if dtype == torch.float64:
        return Arithmetic(network, probe.double, probe.labels, 1e-7)
    own = Arithmetic(network, probe.inputs, probe.labels, torch.finfo(dtype).eps ** 0.5)
    try:
        double = Arithmetic(network.alike(converted(untouched, torch.float64, None)), probe.double, probe.labels, 1e-7)
        double.losses(loss, slice(0, 2))
    except (ReplicationError, RuntimeError, MemoryError):
        return own
    return double


def losses(network: PlainNetwork, loss: PerExampleLoss, inputs: Any, labels: Any) -> Tensor:
    """The losses of examples ``[n]``, detached, float64.

    Raises:
        ReplicationError: the network or the loss fails.
    """
    return losses_of(loss, outputs_of(network, inputs, n_examples(labels, "labels")), labels)


def outputs_of(network: PlainNetwork, inputs: Any, n: int) -> Any:
    """What the network returns for ``n`` examples.

    Raises:
        ReplicationError: it fails.
    """
    try:
        return network.outputs(inputs)
    except ReplicationError:
        raise
    except Exception as error:  # a user's forward method may raise anything
        raise ReplicationError(f"The network cannot run on {n} of the examples: {reason_of(error)}.") from error


def losses_of(loss: PerExampleLoss, outputs: Any, labels: Any) -> Tensor:
    """The losses of outputs ``[n]``, detached, float64.

    Raises:
        ReplicationError: the loss fails.
    """
    try:
        return loss(outputs, labels).detach().double()
    except ReplicationError:
        raise
    except Exception as error:
        raise ReplicationError(f"The loss cannot be computed from the network's outputs and the labels: {reason_of(error)}.") from error


def reason_of(error: Exception) -> str:
    """An exception on one line.

    Example:
        >>> reason_of(ValueError("two\\nlines."))
        'ValueError: two lines'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")


def worst_disagreement(first: Tensor, second: Tensor, tolerance: float) -> int | None:
    """The place where two results differ most, None where they agree to ``tolerance``.

    Example:
        >>> worst_disagreement(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), 1e-3)
        1
    """
    if torch.allclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True):
        return None
    return int((first - second).abs().nan_to_num(float("inf")).argmax())


def moved(leaves: Sequence[Tensor], own: Tensor) -> Tensor:
    """The vector, every tensor moved at random by a tenth of its size; zeros move too, so that no layer stays without influence.

    Args:
        leaves: tensors of the shapes that the vector holds.
        own: ``[n_parameters]``, float64.
    """
    return own + 0.1 * random_direction(leaves, own, seed=0)


def random_direction(leaves: Sequence[Tensor], own: Tensor, *, seed: int) -> Tensor:
    """Gaussian numbers ``[n_parameters]`` of the size of each tensor, or of size 0.5 for a tensor of zeros."""
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    for leaf, piece in zip(leaves, own.split([leaf.numel() for leaf in leaves]), strict=True):
        size = piece.square().mean().sqrt().item() if len(piece) else 0.0
        noise = torch.randn(leaf.numel(), generator=generator, dtype=torch.float64).to(own.device)
        pieces.append((size or 0.5) * noise)
    return torch.cat(pieces)


def moved_buffers(own: Tensor) -> Tensor:
    """The floating-point buffers, moved so that variances stay positive."""
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, len(own), generator=generator, dtype=torch.float64).to(own.device)
    return own * (1 + 0.1 * first) + 0.05 * second


def close(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    """Whether gradients agree tensor by tensor, relative to each and to a thousandth of all; not compared where not finite.

    Example:
        >>> close([torch.tensor([1.0])], [torch.tensor([1.1])], 1e-3)
        False
    """
    finite = [bool((a.isfinite() & b.isfinite()).all()) for a, b in zip(actual, expected, strict=True)]
    pairs = [(a, b) for a, b, known in zip(actual, expected, finite, strict=True) if known]
    floor = 1e-3 * max((float(b.norm()) for _, b in pairs), default=0.0)
    return all(float((a - b).norm()) <= tolerance * (float(b.norm()) + floor) for a, b in pairs)
