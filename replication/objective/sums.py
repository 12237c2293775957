"""Sums over chunks of examples: values, gradients and products, in float64."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.objective.graphs import refuse_cut_graph
from replication.objective.losses import ExampleLoss
from replication.objective.plain import Network, computing, gradient
from replication.objective.products import Product
from replication.objective.stacked_mlp import StackedMlp

Chunk = tuple[Any, Any]


@dataclass(frozen=True)
class Sums:
    """Sums over examples at one or several points.

    Attributes:
        values: of the losses.
        weight: of the examples' weights, by which torch's mean divides: their number, unless some are ignored or weighted.
        gradients: of the losses' gradients; empty where they were not asked for.

    Example:
        >>> Sums(torch.tensor([6.0]), 3.0).mean()
        tensor([2.])
    """

    values: Tensor
    weight: float
    gradients: Tensor = torch.empty(0)  # noqa: RUF009 - never changed

    def mean(self) -> Tensor:
        """The mean losses."""
        return self.values / self.weight if self.weight else self.values * float("nan")

    def mean_gradients(self) -> Tensor:
        """The gradients of the mean losses."""
        return self.gradients / self.weight if self.weight else self.gradients * float("nan")


@dataclass(frozen=True)
class WeightDecay:
    """The term ``strength / 2 * |theta|^2`` of a loss.

    Example:
        >>> WeightDecay(0.5).of(torch.tensor([2.0]))
        1.0
    """

    strength: float

    def of(self, theta: Tensor) -> float:
        """Its value at ``theta`` ``[n_parameters]``."""
        return (self.strength / 2 * torch.as_tensor(theta).double().square().sum()).item() if self.strength else 0.0

    def added(self, thetas: Tensor, total: Sums) -> tuple[Tensor, Tensor]:
        """Mean values ``[n_points]`` and gradients ``[n_points, n_parameters]`` at ``thetas`` with it."""
        values, gradients = total.mean(), total.mean_gradients()
        if not self.strength:
            return values, gradients
        points = torch.as_tensor(thetas).to(values.device).double()
        return values + self.strength / 2 * points.square().sum(1), gradients + self.strength * points


@torch.inference_mode(False)
def values(network: Network, loss: ExampleLoss, theta: Tensor, chunks: Iterable[Chunk], buffers: Tensor | None = None) -> Sums:
    """The sum of the losses at ``theta`` ``[n_parameters]`` with ``buffers`` ``[n_buffers]`` (by default the model's own), a number."""
    weight: Tensor | float = 0.0  # stays on the device until the end, so that no chunk waits
    total = torch.zeros((), dtype=torch.float64, device=theta.device)
    with computing(graph=network.values_need_graph):
        network.write(theta, buffers)
        for inputs, labels in chunks:
            total += loss(network.outputs(inputs), labels).detach().double().sum()
            weight = weight + loss.weights(labels).sum()
    return Sums(total, float(weight))


@torch.inference_mode(False)
def gradients(network: Network, loss: ExampleLoss, thetas: Tensor, chunks: Iterable[Chunk], buffers: Tensor | None = None) -> Sums:
    """Sums of losses ``[n_points]`` and of their gradients ``[n_points, n_parameters]`` at ``thetas``, all with the same ``buffers``."""
    totals = torch.zeros(len(thetas), dtype=torch.float64, device=thetas.device)
    slopes = torch.zeros(thetas.shape, dtype=torch.float64, device=thetas.device)
    weight: Tensor | float = 0.0
    with computing(graph=True):
        for inputs, labels in chunks:
            weight = weight + loss.weights(labels).sum()
            for index, theta in enumerate(thetas):
                network.write(theta, buffers)
                outputs = network.outputs(inputs)
                losses = loss(outputs, labels)
                refuse_cut_graph(outputs, losses)
                total = losses.double().sum()
                slopes[index] += gradient(network, total)
                totals[index] += total.detach()
    return Sums(totals, float(weight), slopes)


@torch.inference_mode(False)
def stacked(network: StackedMlp, thetas: Tensor, chunks: Iterable[Chunk]) -> Sums:
    """The same for plain cross-entropy of a network that evaluates all points together."""
    weight = 0

    def counted() -> Iterator[Chunk]:
        nonlocal weight
        for inputs, labels in chunks:
            weight += len(labels)
            yield inputs, labels

    with computing(graph=False):
        totals, slopes = network.sums(thetas, counted())
    return Sums(totals, weight, slopes)


@torch.inference_mode(False)
def masked(
    network: Network,
    loss: ExampleLoss,
    thetas: Sequence[Tensor],
    passes: Callable[[], Iterator[Chunk]],
    n_classes: int,
    buffers: Tensor | None = None,
) -> Sums:
    """Sums of losses ``[n_points, n_classes]`` and gradients ``[n_points, n_classes, n_parameters]`` of the examples of each class.

    Args:
        passes: starts a pass over the examples, whose labels are class indices ``[n]``.
        buffers: ``[n_buffers]``, by default the model's own.
    """
    device, shape = thetas[0].device, (len(thetas), n_classes)
    totals = torch.zeros(shape, dtype=torch.float64, device=device)
    slopes = torch.zeros(*shape, len(thetas[0]), dtype=torch.float64, device=device)
    weight: Tensor | float = 0.0
    with computing(graph=True):
        for index, theta in enumerate(thetas):
            network.write(theta, buffers)
            for inputs, labels in passes():
                weight = weight + loss.weights(labels).sum() / len(thetas)
                losses = loss(network.outputs(inputs), labels).double()
                present = [label for label in labels.unique().tolist() if label >= 0]
                for number, label in enumerate(present, start=1):
                    share = losses[labels == label].sum()
                    slopes[index, label] += gradient(network, share, retain_graph=number < len(present))
                    totals[index, label] += share.detach()
    return Sums(totals, float(weight), slopes)


@torch.inference_mode(False)
def products(network: Network, loss: ExampleLoss, theta: Tensor, vector: Tensor, product: Product, chunks: Iterable[Chunk]) -> Tensor:
    """The mean over examples of a matrix product with ``vector``, float64 ``[n_parameters]``."""
    total = torch.zeros(len(vector), dtype=torch.float64, device=vector.device)
    weight: Tensor | float = 0.0
    with computing(graph=True):
        network.write(theta)
        for inputs, labels in chunks:
            total += product(network, loss, inputs, labels, vector)
            weight = weight + loss.weights(labels).sum()
    return Sums(total, float(weight)).mean()
