"""Loss and accuracy at many parameter vectors, without derivatives.

Surfaces need only values. So batch norm is folded into the weights at every point (``folding``), weights are written in place in
channels_last, nothing is kept for derivatives, and the size of chunks follows from the largest activation.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import memory_format
from replication.objective.example_sets import ExampleSet
from replication.objective.fast_paths import Chosen, TracedNetwork
from replication.objective.inputs import call, main_tensor, map_tensors
from replication.objective.losses import ExampleLoss
from replication.objective.plain import Network, computing

logger = logging.getLogger(__name__)
# elements of the largest activation in a chunk (benchmarks/landscape.py measures the one for CPU), and a lower limit for wide networks
_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**27}
_SMALLEST_CHUNK = 16

Metric = Callable[[Any, Any], Tensor]
_CLASS_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)


class Evaluation(NamedTuple):
    """The result at one parameter vector, over all examples.

    Attributes:
        loss: the mean loss.
        accuracy: the share of labelled examples whose largest output is the one of their label, in [0, 1]; nan unless outputs are
            scores ``[n, n_classes]`` of at least two classes and labels are their indices, and for a loss of your own unless the metric
            is "accuracy". With a metric of your own: its mean.
        standard_error: of the mean loss as an estimate for the population of examples: standard deviation / sqrt(n).

    Example:
        >>> Evaluation(loss=0.7, accuracy=0.5, standard_error=0.1).loss
        0.7
    """

    loss: float
    accuracy: float
    standard_error: float


class Evaluator:
    """Evaluates one network on one set of examples.

    Args:
        chosen: the forms of the network that may be used.
        examples: in the network's type.
        loss: of each example.
        metric: outputs and labels to one number per example ``[n]``; ``"accuracy"`` where it is defined; ``"auto"`` the same for
            torch's losses of class scores; None for no metric.
        chunk: number of examples in one pass; None chooses the fastest for a traced network.
        default_chunk: for all other networks.
    """

    def __init__(
        self,
        chosen: Chosen,
        examples: ExampleSet,
        loss: ExampleLoss,
        metric: Metric | str | None,
        chunk: int | None,
        default_chunk: int,
    ) -> None:
        self._explains = metric in ("auto", "accuracy")
        of_classes = isinstance(loss.module, _CLASS_LOSSES)
        self._examples, self._loss, self._metric = examples, loss, ("accuracy" if of_classes else None) if metric == "auto" else metric
        self._network: Network | _WrittenNetwork = chosen.network
        self._said = False  # why there is no accuracy
        self.chunk = chunk or default_chunk
        if isinstance(chosen.network, TracedNetwork):
            self._network = _WrittenNetwork(chosen.network)
            device = chosen.network.leaves[0].device.type
            elements = _CHUNK_ELEMENTS.get(device, 2**21) // (chosen.network.form.largest or 2**15)
            self.chunk = chunk or min(examples.n, max(_SMALLEST_CHUNK, elements))

    def evaluate(self, theta: Tensor, buffers: Tensor | None) -> Evaluation:
        """Loss and accuracy at ``theta`` ``[n_parameters]`` with the floating-point ``buffers`` ``[n_buffers]``, both flat."""
        with _without_graph(self._network):
            self._network.write(theta, buffers)
            losses, weights, scores = [], [], _scores(self._metric, self._loss)
            for inputs, labels in self._examples.chunks(self.chunk):
                outputs = _at_least_single(self._network.outputs(inputs))
                losses.append(self._loss(outputs, labels).detach().double())
                weights.append(self._loss.weights(labels).double())
                scores.add(outputs, labels)
        if self._explains and math.isnan(scores.mean()) and not self._said:
            self._said = True
            logger.info(
                "Accuracy is nan, since outputs are not scores of two or more classes [n, n_classes], labels not their indices, or "
                "the loss is none of torch's class losses (metric='accuracy' says that outputs are scores)."
            )
        return Evaluation(*_mean_and_error(torch.cat(losses), torch.cat(weights), scores.mean()))


def _mean_and_error(losses: Tensor, weights: Tensor, score: float) -> tuple[float, float, float]:
    """The weighted mean, the score, and the mean's standard error (of a ratio, where weights differ)."""
    n = len(losses)
    if bool((weights == 1).all()):
        return losses.mean().item(), score, losses.std().item() / n**0.5 if n > 1 else float("nan")
    total = weights.sum()
    mean = losses.sum() / total
    error = (losses - mean * weights).square().sum().mul(n / max(n - 1, 1)).sqrt() / total
    return mean.item(), score, error.item() if n > 1 else float("nan")


class _WrittenNetwork:
    """A traced network whose weights are written in place; folded weights are rounded once, from float64."""

    def __init__(self, network: TracedNetwork) -> None:
        self._source, self._module = network, copy.deepcopy(network.form.module)
        for parameter in self._module.parameters():
            parameter.data = memory_format.in_channels_last(parameter.data)
        self._targets = dict([*self._module.named_parameters(), *self._module.named_buffers()])

    def write(self, theta: Tensor, buffers: Tensor | None = None) -> None:
        for name, tensor in self._source.tensors(theta.double(), buffers).items():
            if name in self._targets:  # the other names of a tied tensor are not there twice
                self._targets[name].copy_(tensor)

    def outputs(self, inputs: Any) -> Any:
        return call(self._module, map_tensors(memory_format.in_channels_last, inputs))


@contextmanager
def _without_graph(network: Network | _WrittenNetwork) -> Iterator[None]:
    if isinstance(network, _WrittenNetwork):
        with computing(graph=False), torch.inference_mode():
            yield
    else:
        with computing(graph=network.values_need_graph):
            yield


def _at_least_single(outputs: Any) -> Any:
    return map_tensors(lambda tensor: tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor, outputs)


def _scores(metric: Metric | str | None, loss: ExampleLoss) -> "_Accuracy | _MeanMetric":
    if callable(metric):
        return _MeanMetric(metric)
    return _Accuracy(loss, wanted=metric is not None)


class _MeanMetric:
    def __init__(self, metric: Metric) -> None:
        self._metric, self._n = metric, 0
        self._sum: Tensor | float = 0.0  # stays on the device, so that no chunk waits

    def add(self, outputs: Any, labels: Any) -> None:
        values = self._metric(outputs, map_tensors(torch.clone, labels))  # which it may change in place
        if values.dim() != 1:
            raise ReplicationError(f"The metric has shape {tuple(values.shape)}; it must return one number per example [n].")
        self._sum, self._n = self._sum + values.double().sum(), self._n + len(values)

    def mean(self) -> float:
        return float(self._sum) / self._n


class _Accuracy:
    """The share of examples whose largest score is the one of their label, as long as all chunks have scores and index labels."""

    def __init__(self, loss: ExampleLoss, *, wanted: bool) -> None:
        self._loss, self._defined = loss, wanted
        self._right: Tensor | int = 0  # these stay on the device, so that no chunk waits
        self._n: Tensor | int = 0
        self._outside: Tensor | int = 0

    def add(self, outputs: Any, labels: Any) -> None:
        scores = self._scores_of(outputs) if self._defined else None
        self._defined = scores is not None and scores.dim() == 2 and scores.shape[1] > 1 and _are_indices(labels)
        if not self._defined or scores is None:
            return
        counted = labels != self._loss.ignored_label if self._loss.ignored_label is not None else torch.ones_like(labels, dtype=torch.bool)
        self._outside = self._outside + (((labels < 0) | (labels >= scores.shape[1])) & counted).sum()
        self._right = self._right + ((scores.argmax(1) == labels) & ~scores.isnan().any(1) & counted).sum()
        self._n = self._n + counted.sum()

    def _scores_of(self, outputs: Any) -> Tensor | None:
        if isinstance(outputs, Tensor):
            return outputs
        if self._loss.module is not None:
            return main_tensor(outputs)
        logits = getattr(outputs, "logits", None)
        return logits if isinstance(logits, Tensor) else None

    def mean(self) -> float:
        right, n, outside = int(self._right), int(self._n), int(self._outside)
        return right / n if self._defined and n and not outside else float("nan")


def _are_indices(labels: Any) -> bool:
    return isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point() and not labels.is_complex()
