"""A few examples from the whole set, on which a network is tried before any number is returned."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import Tree, convert, n_examples, tensors_of

N_PROBES = 32


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
    inputs, labels = fixed_selection(examples, members)
    return Probe(inputs, labels, convert(inputs, tensors_of(inputs)[0].device, torch.float64))


def fixed_selection(examples: ExampleSet, members: Tensor) -> tuple[Tree, Tree]:
    """Inputs and labels of some examples; those of a stream are read twice.

    Args:
        members: indices ``[n]``.

    Raises:
        ReplicationError: a stream that does not give the same examples again.

    Example:
        >>> fixed_selection(ExampleSet(torch.zeros(3, 2), torch.arange(3)), torch.tensor([2]))[1]
        tensor([2])
    """
    first = examples.select(members)
    if not examples.in_memory:
        again = examples.select(members)
        if not all(torch.equal(a, b) for a, b in zip(tensors_of(first), tensors_of(again), strict=True)):
            raise ReplicationError("Two readings of the same examples differ; give data that are not shuffled or augmented at random.")
    return first
