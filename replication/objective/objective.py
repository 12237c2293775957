"""The loss as a function of the parameter vector, on a fixed set of examples.

LCA follows it along the training path, the landscape on a plane, curvature at a point. The model given is copied, so it
is never changed; vectors hold the parameters in the order of ``model.named_parameters()``, each flattened.
"""

import copy
import functools
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from replication.errors import ReplicationError
from replication.objective import memory_format
from replication.objective.evaluation import Evaluation, Evaluator
from replication.objective.folding import Folded, folded
from replication.objective.losses import PerExampleLoss, class_indices, cross_entropy, one_per_example
from replication.objective.stacked_mlp import StackedMlp
from replication.objective.vector import flat_buffers, flat_parameters, layout_of, parameter_shapes, unflatten

_CHUNK_NUMBERS = 2**22  # input and activation numbers in a chunk: about 16 MB in float32, near the optimum on CPU and small on a GPU


class Objective:
    """Mean loss of a model over a fixed set of examples, as a function of the flat parameter vector.

    Values and sums over examples are float64; the network runs in ``dtype``, to which a vector given in float64 is rounded
    once. Dropout is off. Batch norm uses ``"running"`` statistics, or ``"batch"`` statistics of fixed consecutive chunks of
    ``chunk`` examples, which are then part of the definition of the loss (LCA specification, section 1.2).

    Args:
        model: the network; copied, never changed.
        images: ``[n_examples, ...]``.
        labels: ``[n_examples]``, class indices (or whatever ``loss`` takes).
        loss: ``"cross_entropy"`` or a function of outputs and labels that returns one loss per example ``[n]``.
        batch_norm: ``"running"`` or ``"batch"``.
        chunk: examples at a time; chosen for speed where it is not part of the definition.
        dtype: floating-point type of the network's arithmetic.
        device: where to compute; default: where the images are.

    Raises:
        ReplicationError: no examples, unequal numbers of images and labels, labels that are no class indices where cross-entropy needs
            them, or batch statistics without a chunk size that divides the examples; later, a loss that is not one per example.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        loss: Literal["cross_entropy"] | PerExampleLoss = "cross_entropy",
        batch_norm: Literal["running", "batch"] = "running",
        chunk: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        if len(images) == 0 or len(images) != len(labels):
            raise ReplicationError(
                f"The objective was given {len(images)} images and {len(labels)} labels; give one label for each of at least one image."
            )
        self.dtype = dtype
        self.device = torch.device(device) if device is not None else images.device
        # NCHW and contiguous: convolution backward on CPU crashed on permuted views of NHWC arrays
        self.images = images.to(self.device, dtype).contiguous()
        self.labels = (class_indices(labels) if loss == "cross_entropy" else labels).to(self.device)
        self.layout = layout_of(model)
        self._shapes = parameter_shapes(model)
        self._loss: PerExampleLoss = cross_entropy if loss == "cross_entropy" else one_per_example(loss)
        self._model = memory_format.prepare(_frozen_copy(model, batch_norm).to(self.device, dtype))
        self._examples_interact = batch_norm == "batch" and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        if self._examples_interact and (chunk is None or len(images) % chunk):
            raise ReplicationError(
                f"Batch statistics need a chunk size that divides the {len(images)} examples, and it is {chunk}; "
                "it is part of the definition of the loss: choose one."
            )
        self.chunk = chunk or self._default_chunk()
        self._chunk_given = chunk
        self._evaluator: Evaluator | None = None
        self._stacked = StackedMlp.of(self._model) if loss == "cross_entropy" else None

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return self.layout[-1].stop

    def parameters(self) -> Tensor:
        """The model's own parameter vector ``[n_parameters]``, float64."""
        return flat_parameters(self._model)

    def value(self, theta: Tensor) -> float:
        """The mean loss at ``theta`` ``[n_parameters]``."""
        vector = self._vector(theta)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for images, labels in self._chunks():
                total += self._losses(vector, images, labels).sum()
        return (total / len(self.labels)).item()

    def buffers(self) -> Tensor:
        """The model's own floating-point buffers (batch norm's running means and variances, layer by layer), float64 ``[n_buffers]``."""
        return flat_buffers(self._model)

    def evaluate(self, theta: Tensor, *, buffers: Tensor | None = None) -> Evaluation:
        """Mean loss, its standard error over examples, and accuracy at ``theta`` ``[n_parameters]``: ``value`` for many points.

        The same as ``value`` up to rounding, without anything that derivatives need: batch norm is folded into the weights in
        float64 and the network runs in channels_last. The first call prepares a second copy of the model.

        Args:
            buffers: running statistics other than the model's own ``[n_buffers]``, in the order of ``buffers()``.

        Raises:
            ReplicationError: a vector of another length.
        """
        self._check(theta)
        own = self.buffers()
        if buffers is not None and buffers.shape != own.shape:
            raise ReplicationError(f"The buffers have shape {tuple(buffers.shape)}; the model's own have {tuple(own.shape)}: give as many.")
        if self._evaluator is None:
            self._evaluator = Evaluator(self._model, self._folded, self._shapes, self.images, self.labels, self._loss, self._chunk_given)
        return self._evaluator.evaluate(theta, own if buffers is None else buffers)

    def gradient(self, theta: Tensor) -> Tensor:
        """The gradient of the mean loss at ``theta``, float64 ``[n_parameters]``."""
        return self.value_and_gradient(theta)[1]

    def value_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Value and gradient in one pass."""
        values, gradients = self.values_and_gradients(theta[None])
        return values[0].item(), gradients[0]

    def values_and_gradients(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``[n_points]`` and gradients ``[n_points, n_parameters]`` at several points, both float64.

        Plain ReLU networks of linear layers evaluate all points in one larger matrix product.
        """
        values, gradients = self._sums(thetas, self._chunks())
        return values / len(self.labels), gradients / len(self.labels)

    def gradients_on(self, thetas: Tensor, examples: Tensor) -> Tensor:
        """Gradients ``[n_points, n_parameters]`` of the mean loss over some of the examples, float64.

        Args:
            examples: their indices ``[m]``; where batch statistics couple examples, one chunk of the objective's size.

        Raises:
            ReplicationError: batch statistics, and another number of examples than a chunk.
        """
        if self._examples_interact and len(examples) != self.chunk:
            raise ReplicationError(f"Batch statistics are of chunks of {self.chunk} examples, and {len(examples)} are given; give as many.")
        chunks = ((self.images[members], self.labels[members]) for members in examples.to(self.device).split(self.chunk))
        return self._sums(thetas, chunks)[1] / len(examples)

    def _sums(self, thetas: Tensor, chunks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Sums over the examples of the losses ``[n_points]`` and of their gradients ``[n_points, n_parameters]``, float64."""
        vectors = torch.stack([self._vector(theta) for theta in thetas])
        if self._stacked is not None:
            return self._stacked.sums(vectors, chunks)
        values = torch.zeros(len(thetas), dtype=torch.float64, device=self.device)
        gradients = torch.zeros(thetas.shape, dtype=torch.float64, device=self.device)
        for images, labels in chunks:
            for index, point in enumerate(vectors):
                variable = point.detach().requires_grad_()
                loss = self._losses(variable, images, labels).sum()
                gradients[index] += torch.autograd.grad(loss, variable)[0]
                values[index] += loss.detach()
        return values, gradients

    def gradient_by_class(self, theta: Tensor) -> Tensor:
        """The share of each class in the gradient, float64 ``[n_classes, n_parameters]``; the rows sum to ``gradient(theta)``.

        Row c is n_c / n times the gradient of class c's mean loss (LCA specification, section 1.6).
        """
        return self.values_and_gradients_by_class(theta[None])[1][0]

    def values_and_gradients_by_class(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """The share of each class in values ``[n_points, n_classes]`` and gradients ``[n_points, n_classes, n_parameters]``, float64.

        Examples of one class pass the network together, so this costs what ``values_and_gradients`` costs. Where batch statistics
        couple the examples the chunks stay mixed and the losses are masked, one backward pass per class.
        """
        if self._examples_interact:
            return self._masked_by_class(thetas)
        sums = [self._sums(thetas, self._chunks_of(label)) for label in range(self.n_classes)]
        values, gradients = (torch.stack(parts, dim=1) for parts in zip(*sums, strict=True))
        return values / len(self.labels), gradients / len(self.labels)

    @property
    def n_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1

    def _masked_by_class(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        shape = (len(thetas), self.n_classes)
        values = torch.zeros(shape, dtype=torch.float64, device=self.device)
        gradients = torch.zeros(*shape, self.n_parameters, dtype=torch.float64, device=self.device)
        for index, theta in enumerate(thetas):
            vector = self._vector(theta)
            for images, labels in self._chunks():
                variable = vector.detach().requires_grad_()
                losses = self._losses(variable, images, labels)
                present = labels.unique().tolist()
                for number, label in enumerate(present, start=1):
                    share = losses[labels == label].sum()
                    gradients[index, label] += torch.autograd.grad(share, variable, retain_graph=number < len(present))[0]
                    values[index, label] += share.detach()
        return values / len(self.labels), gradients / len(self.labels)

    def hessian_vector_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss at ``theta`` times ``vector``, float64 ``[n_parameters]``, by double backward."""
        point, direction = self._vector(theta), self._vector(vector)
        total = torch.zeros(self.n_parameters, dtype=torch.float64, device=self.device)
        for images, labels in self._chunks():
            variable = point.detach().requires_grad_()
            loss = self._losses(variable, images, labels).sum()
            (gradient,) = torch.autograd.grad(loss, variable, create_graph=True)
            total += torch.autograd.grad(gradient @ direction, variable)[0]
        return total / len(self.labels)

    def _vector(self, theta: Tensor) -> Tensor:
        self._check(theta)
        return theta.to(self.device, self.dtype)

    def _check(self, theta: Tensor) -> None:
        if theta.shape != (self.n_parameters,):
            raise ReplicationError(f"The vector has shape {tuple(theta.shape)}; the objective's parameters have ({self.n_parameters},).")

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images.split(self.chunk), self.labels.split(self.chunk), strict=True)

    def _chunks_of(self, label: int) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._classes[label]
        return zip(images.split(self.chunk), labels.split(self.chunk), strict=True)

    @functools.cached_property
    def _classes(self) -> list[tuple[Tensor, Tensor]]:
        """A copy of the examples, class by class."""
        members = [(self.labels == label).nonzero().flatten() for label in range(self.n_classes)]
        return [(self.images[each], self.labels[each]) for each in members]

    def _losses(self, vector: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of every example of a chunk at one point, float64 ``[n]``."""
        tensors = self._folded.fold(unflatten(vector, self._shapes), self._statistics)
        tensors = {name: memory_format.in_channels_last(tensor) for name, tensor in tensors.items()}
        return self._loss(functional_call(self._folded.module, tensors, (images,)), labels).double()

    @functools.cached_property
    def _folded(self) -> Folded:
        return folded(self._model, self.images[:2])

    @functools.cached_property
    def _statistics(self) -> dict[str, Tensor]:
        return {name: buffer.double() for name, buffer in self._model.named_buffers() if buffer.is_floating_point()}

    def _default_chunk(self) -> int:
        """As many examples as keep a chunk's images and activations within cache-friendly memory."""
        numbers = self.images[0].numel()

        def count(_module: nn.Module, _inputs: object, output: object) -> None:
            nonlocal numbers
            numbers += output.numel() if isinstance(output, Tensor) else 0

        leaves = [m for m in self._model.modules() if not list(m.children())]
        handles = [leaf.register_forward_hook(count) for leaf in leaves]
        try:
            with torch.no_grad():
                self._model(self.images[:1])
        finally:
            for handle in handles:
                handle.remove()
        return max(1, min(len(self.labels), _CHUNK_NUMBERS // numbers))


def _frozen_copy(model: nn.Module, batch_norm: Literal["running", "batch"]) -> nn.Module:
    """An evaluation-mode copy; with ``batch`` its batch norms forget their running statistics, so they use the chunk's."""
    duplicate = copy.deepcopy(model).eval().requires_grad_(False)
    for module in duplicate.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and batch_norm == "batch":
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return duplicate
