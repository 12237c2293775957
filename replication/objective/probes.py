"""A few examples from the whole set, on which a network is tried before any number is returned."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import Tree, convert, n_examples, tensors_of

N_PROBES = 32
N_UNUSUAL = 8  # examples that are evaluated by themselves


@dataclass(frozen=True)
class Probe:
    """A few examples from the whole set: the first, the last, unusual and random ones, in the type of the network and in float64.

    Attributes:
        inputs, labels: at most ``N_PROBES`` examples, or one chunk where examples influence each other.
        double: the same inputs with floating-point numbers in float64.
        members: their indices ``[n]``.
        unusual: places of a few in ``members``, for which a network may do something rare.
    """

    inputs: Any
    labels: Any
    double: Any
    members: Tensor
    unusual: tuple[int, ...]

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
    ends = [0, examples.n - 1][:n]
    drawn = torch.randperm(examples.n, generator=torch.Generator().manual_seed(0))[: 2 * n].tolist()
    rare = unusual(examples, (n - len(ends)) // 2)
    members = sorted(list(dict.fromkeys([*ends, *rare, *drawn]))[:n])
    indices = torch.tensor(members)
    inputs, labels = fixed_selection(examples, indices)
    return Probe(
        inputs,
        labels,
        convert(inputs, tensors_of(inputs)[0].device, torch.float64),
        indices,
        tuple(members.index(each) for each in rare[:N_UNUSUAL]),
    )


def unusual(examples: ExampleSet, most: int) -> list[int]:
    """Examples for which a network may do something rare: those with the rarest labels, and with the most extreme inputs.

    Of a stream the labels alone are known.

    Args:
        most: how many at most.

    Returns:
        their indices; of labels and inputs in turn.

    Example:
        >>> unusual(ExampleSet(torch.tensor([[0.0], [1.0], [9.0], [2.0]]), torch.tensor([0, 1, 1, 1])), 3)
        [0, 1, 2]
    """
    labels = [index for tensor in tensors_of(examples.labels) for index in _with_rare_values(tensor)]
    inputs = extreme(examples.inputs) if examples.in_memory else []
    in_turn = [index for pair in itertools.zip_longest(labels, inputs) for index in pair if index is not None]
    return list(dict.fromkeys(in_turn))[:most]


def _with_rare_values(labels: Tensor) -> list[int]:
    """The first example with each of the rarest values; of labels that are numbers and no classes the most extreme ones."""
    if labels.is_floating_point() or labels.is_complex():
        return _extreme(labels)
    rows = labels.reshape(len(labels), -1).long()
    values, counts = rows.unique(return_counts=True)
    rarest = values[counts.argsort()[:N_PROBES]]
    return [int((rows == value).any(1).int().argmax()) for value in rarest]


def extreme(inputs: Tree) -> list[int]:
    """Examples with extreme inputs, the most telling ones first in each tensor.

    Example:
        >>> extreme(torch.tensor([[0.0, 0.0], [-1.0, 4.0], [2.0, 2.0]]))
        [0, 1, 2]
    """
    return list(dict.fromkeys(index for tensor in tensors_of(inputs) for index in _extreme(tensor)))


def _extreme(inputs: Tensor) -> list[int]:
    """The examples with the smallest sum and the smallest number (padded ones have them), then with the largest, then with the others."""
    if not inputs.numel() or inputs.is_complex():
        return []
    rows = inputs.reshape(len(inputs), -1)
    rows = rows if rows.is_floating_point() else rows.double()
    sums, least, most = (measure.nan_to_num() for measure in (rows.sum(1), rows.amin(1), rows.amax(1)))
    return [int(place) for place in (sums.argmin(), least.argmin(), most.argmax(), sums.argmax(), most.argmin(), least.argmax())]


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
