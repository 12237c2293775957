"""Loss and accuracy at many parameter vectors, without derivatives, as fast as the machine does them exactly.

Surfaces need only values: batch norm is folded into the weights at every point (replication/objective/folding.py), weights are written
in place in channels_last, nothing is recorded for derivatives, and chunks are as large as suits the largest activation.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from replication.objective import memory_format
from replication.objective.folding import Folded
from replication.objective.vector import buffer_shapes, unflatten

# elements of the largest activation of a chunk (benchmarks/landscape.py measures the one for CPU), and a floor for wide networks
_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**27}
_LEAST_CHUNK = 16


class Evaluation(NamedTuple):
    """At one parameter vector, over all examples.

    Attributes:
        loss: the mean.
        accuracy: share of examples whose largest output is their label's, in [0, 1]; nan where labels are no class indices.
        standard_error: of the mean loss as an estimate for the population of examples: standard deviation / sqrt(n).
    """

    loss: float
    accuracy: float
    standard_error: float


class Evaluator:
    """Evaluates one model on one set of examples.

    Args:
        model: in evaluation mode, on its device and in its floating-point type.
        network: its evaluation form; copied, since its weights are overwritten.
        shapes: of the model's parameters by name, in the order of the flat vector.
        loss: outputs and labels to one loss per example.
        chunk: examples at a time; None chooses.
    """

    def __init__(
        self,
        model: nn.Module,
        network: Folded,
        shapes: dict[str, torch.Size],
        images: Tensor,
        labels: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        chunk: int | None,
    ) -> None:
        self._images, self._labels, self._loss = images, labels, loss
        self._folded, self._network = network, copy.deepcopy(network.module)
        self._parameters, self._buffers = shapes, buffer_shapes(model)
        for parameter in self._network.parameters():
            parameter.data = memory_format.in_channels_last(parameter.data)
        self._targets = dict([*self._network.named_parameters(), *self._network.named_buffers()])
        chosen = _CHUNK_ELEMENTS.get(images.device.type, 2**21) // (network.largest or 2**15)
        self.chunk = chunk or min(len(labels), max(_LEAST_CHUNK, chosen))

    @property
    def n_folded(self) -> int:
        """Batch norms that were folded."""
        return len(self._folded.pairs)

    @torch.inference_mode()
    def evaluate(self, theta: Tensor, buffers: Tensor) -> Evaluation:
        """Loss and accuracy at ``theta`` ``[n_parameters]`` with the floating-point ``buffers`` ``[n_buffers]``, both flat."""
        self._write(theta.to(self._images.device).double(), buffers.to(self._images.device).double())
        losses, right = [], torch.zeros((), dtype=torch.int64, device=self._labels.device)
        classes = False
        for images, labels in zip(self._images.split(self.chunk), self._labels.split(self.chunk), strict=True):
            outputs = self._network(memory_format.in_channels_last(images))
            outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
            losses.append(self._loss(outputs, labels).double())
            classes = outputs.dim() == 2 and labels.dim() == 1 and not labels.is_floating_point()
            if classes:
                right += ((outputs.argmax(1) == labels) & ~outputs.isnan().any(1)).sum()
        every, n = torch.cat(losses), len(self._labels)
        standard_error = every.std().item() / n**0.5 if n > 1 else float("nan")
        return Evaluation(every.mean().item(), right.item() / n if classes else float("nan"), standard_error)

    def _write(self, theta: Tensor, buffers: Tensor) -> None:
        """Put both vectors into the network; folded weights are rounded once, from float64."""
        statistics = unflatten(buffers, self._buffers)
        for name, tensor in (self._folded.fold(unflatten(theta, self._parameters), statistics) | statistics).items():
            if name in self._targets:  # statistics of folded norms are gone
                self._targets[name].copy_(tensor)
