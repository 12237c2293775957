"""The loss as a function of the parameter vector, on a fixed set of examples.

Loss change allocation follows it along the training path, the loss landscape on a plane, curvature at a point. The model is
copied and never changed. Vectors hold the parameters in the order of ``model.named_parameters()``, each flattened.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import comparison, memory_format, options, other_weights, products, sums
from replication.objective.evaluation import Evaluation, Evaluator, Metric
from replication.objective.examination import Findings, examine, moving_buffers
from replication.objective.example_sets import ExamplesInDouble, examples_of, n_classes
from replication.objective.fast_paths import Chosen, Paths, choose
from replication.objective.losses import Loss, example_loss
from replication.objective.networks import BatchNorm, evaluation_copy, unwrapped
from replication.objective.plain import PlainNetwork
from replication.objective.probes import probe_of
from replication.objective.subsets import Subset, chosen_parameters
from replication.objective.vector import buffer_shapes, checked_vector, flatten, slots_of


class Objective:
    """Mean loss of a model over a fixed set of examples, as a function of the flat parameter vector.

    Values and sums over examples are float64. The network runs in ``dtype``, to which a float64 vector is rounded once. Dropout
    is off. Batch norm uses its ``"running"`` statistics, or with ``"batch"`` the statistics of each chunk of ``chunk``
    consecutive examples. The chunk is then part of the definition of the loss (docs/papers/lca.md).

    Derivatives are those of the model's own forward pass. A faster form of the network is used only after its losses and gradients
    were found equal to those of the model on examples of this set (``fast_paths``); ``paths`` says which.

    Args:
        model: the network; copied, never changed. ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.
        inputs: what the model takes, examples first: a tensor or array of any type, or a tuple (passed by position) or dict (by
            keyword) of them. With ``labels=None``: a ``Dataset``, a ``DataLoader`` or a list of batches ``(inputs, labels)``, which are
            read anew in every pass, so that they need not fit into memory.
        labels: ``[n_examples, ...]``, class indices, or whatever ``loss`` accepts.
        loss: a name (``"cross_entropy"``, ``"mse"``, ``"l1"``, ``"bce_with_logits"``, ...), one of torch's loss modules, or a function of
            the model's outputs and the labels that returns one loss per example ``[n]``. Names and modules use the outputs' tensor,
            their ``logits``, or the first of several; their mean is torch's (ignored labels and class weights change the divisor).
        batch_norm: ``"running"`` or ``"batch"``.
        chunk: number of examples in one pass; chosen for speed by default. It must be given, and divide the number of examples, where
            the loss of an example changes with the examples beside it.
        dtype: floating-point type of the network's arithmetic.
        device: where to compute; by default where the inputs are.
        parameters: which parameters the vector holds: all, ``"trainable"`` for those that require gradients, names of parameters or
            layers, or a function of name and parameter. The others keep the model's values.
        weight_decay: adds ``weight_decay / 2 * |theta|^2`` to the loss.
        metric: what ``evaluate`` gives as accuracy: ``"accuracy"``, the mean of a function of outputs and labels with one number per
            example, or None. By default accuracy for torch's losses of class scores, and none for a loss of your own.
        fast: False runs the model's own forward pass only.

    Attributes:
        layout: the slot of each parameter tensor in the vector.
        n_parameters, n_examples: the length of the vector, and the number of examples.
        buffer_shapes: the shapes of the floating-point buffers by name, in the order of ``buffers()``.

    Raises:
        ReplicationError: inputs and labels that do not fit each other, a model that cannot be copied or run, a loss that is unknown or
            does not return one number per example, a forward pass that is random, or a missing chunk size.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> objective = Objective(model, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), dtype=torch.float64)
        >>> round(objective.value(torch.zeros(6)), 4)  # two classes, no knowledge: log 2
        0.6931
        >>> objective.gradient(torch.zeros(6))
        tensor([-0.2500,  0.2500,  0.2500, -0.2500,  0.0000,  0.0000],
               dtype=torch.float64)
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        labels: Any = None,
        *,
        loss: Loss = "cross_entropy",
        batch_norm: BatchNorm = "running",
        chunk: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        parameters: Subset = "all",
        weight_decay: float = 0.0,
        metric: Metric | Literal["auto", "accuracy"] | None = "auto",
        fast: bool = True,
    ) -> None:
        options.check_options(batch_norm, chunk, dtype, weight_decay, metric)
        model, self._examples = unwrapped(model), examples_of(inputs, labels, device, dtype)
        other_weights.refuse_overlooked_weights(model, loss)
        self._probe = probe_of(self._examples, chunk)
        self.dtype, self.device, self._loss = dtype, self._probe.device, example_loss(loss, dtype, self._probe.device)
        self._copy = functools.partial(evaluation_copy, batch_norm=batch_norm, dtype=dtype, device=self.device)
        module, chosen = self._copy(model), chosen_parameters(model, parameters)
        self.layout, self._names, self._plain = slots_of(model, chosen), list(chosen), PlainNetwork(module, list(chosen))
        self.n_parameters, self.n_examples, self._chunk_given = self.layout[-1].stop, self._examples.n, chunk
        self._fast, self._metric, self._decay = fast, metric, sums.WeightDecay(weight_decay)
        self.buffer_shapes, self._own = buffer_shapes(self._plain.module), flatten(self._plain.leaves).double()
        self._findings: Findings = examine(model, self._plain, self._loss, self._probe, self._examples, chunk)
        memory_format.avoid_overflow(self._plain.module)
        self.chunk = chunk or self._findings.chunk

    @functools.cached_property
    @torch.inference_mode(False)
    def _chosen(self) -> Chosen:
        if not self._fast:
            return Chosen(self._plain, None, Paths("plain", "plain", 0, "fast=False"))
        return choose(self._plain, self._names, self._findings.finest, self._loss, self._probe, self._examples)

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self._chosen, self._examples, self._loss, self._metric, self._chunk_given, self.chunk)

    @functools.cached_property
    def in_double(self) -> "Objective | None":
        """The same objective in float64 by the model's own forward pass, for comparisons; None where it does not run in float64."""
        if not self._findings.finest.is_double:
            return None
        double, plain = copy.copy(self), self._findings.finest.network
        double.dtype, double._plain, double._chosen = torch.float64, plain, Chosen(plain, None, Paths("plain", "plain", 0, "fast=False"))
        double._examples = ExamplesInDouble(self._examples)
        return double

    @property
    def paths(self) -> Paths:
        """Which forms of the network are used, and why not faster ones.

        Example:
            >>> Objective(nn.Linear(2, 2), torch.zeros(1, 2), torch.tensor([0]), fast=False).paths.network
            'plain'
        """
        return self._chosen.paths

    @property
    def inputs(self) -> Any:
        """The inputs as the network gets them; there are none if they are read from a stream."""
        return self._examples.inputs

    @property
    def labels(self) -> Any:
        """The labels of all examples."""
        return self._examples.labels

    @property
    def n_classes(self) -> int:
        """One more than the largest label; raises an error if labels are not one class index per example."""
        return n_classes(self.labels)

    def parameters(self) -> Tensor:
        """The model's own parameter vector ``[n_parameters]``, float64."""
        return self._own.clone()

    def buffers(self) -> Tensor:
        """The model's own floating-point buffers, float64 ``[n_buffers]``: batch norm's running means and variances, layer by layer."""
        return self._plain.own_buffers.clone()

    def refuse_other_network(self, other: nn.Module | Mapping[str, Tensor], name: str) -> None:
        """Raise an error where another model, called ``name``, is more than this network with other parameters and floating-point buffers.

        ``other`` is the model, or tensors by name, of which the buffers of whole numbers and masks are put into this network.
        """
        other = self._copy(unwrapped(other)) if isinstance(other, nn.Module) else other
        comparison.refuse_other_network(self._findings.finest, self._loss, other, name)

    @functools.cached_property
    def moving_buffers(self) -> tuple[str, ...]:
        """The floating-point buffers that a forward pass in training mode changes: batch norm's running statistics and the like."""
        return moving_buffers(self._plain.module, self._probe.inputs)

    def value(self, theta: Tensor, *, buffers: Tensor | None = None) -> float:
        """The mean loss at ``theta`` ``[n_parameters]``, with other ``buffers`` ``[n_buffers]`` than the model's own if they are given.

        Raises:
            ReplicationError: a vector of another length. All methods that take vectors raise it.
        """
        point, statistics = self._vector(theta), self._plain.checked_buffers(buffers)
        total = sums.values(self._chosen.network, self._loss, point, self._examples.chunks(self.chunk), statistics)
        return (total.mean() + self._decay.of(theta)).item()

    def evaluate(self, theta: Tensor, *, buffers: Tensor | None = None) -> Evaluation:
        """Mean loss, accuracy and the standard error of the loss at ``theta`` ``[n_parameters]``, made for many points.

        The loss equals ``value`` up to rounding. Nothing is kept for derivatives: batch norm is folded into the weights in float64
        and the network runs in channels_last, where that was found to be right. The first call prepares a second copy of the model.

        Args:
            theta, buffers: as for ``value``.

        Example:
            >>> objective = Objective(nn.Linear(1, 2), torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]))
            >>> objective.evaluate(torch.tensor([1.0, -1.0, 0.0, 0.0])).accuracy
            1.0
        """
        evaluation = self._evaluator.evaluate(
            checked_vector(theta, self.n_parameters).to(self.device), self._plain.checked_buffers(buffers)
        )
        return evaluation._replace(loss=evaluation.loss + float(self._decay.of(theta))) if self._decay.strength else evaluation

    def gradient(self, theta: Tensor) -> Tensor:
        """The gradient of the mean loss at ``theta``, float64 ``[n_parameters]``."""
        return self.value_and_gradient(theta)[1]

    def value_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Value and gradient in one pass."""
        (value,), (gradient,) = self.values_and_gradients(checked_vector(theta, self.n_parameters)[None])
        return value.item(), gradient

    def values_and_gradients(self, thetas: Tensor, *, buffers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values ``[n_points]`` and gradients ``[n_points, n_parameters]`` at several points, both float64.

        Args:
            thetas: parameter vectors ``[n_points, n_parameters]``.
            buffers: ``[n_buffers]``, for all points, instead of the model's own.
        """
        return self._decay.added(thetas, self._sums(thetas, self._examples.chunks(self.chunk), buffers))

    def gradients_on(self, thetas: Tensor, examples: Tensor, *, buffers: Tensor | None = None) -> Tensor:
        """Gradients ``[n_points, n_parameters]`` of the mean loss over a subset of the examples, float64.

        Args:
            thetas, buffers: as for ``values_and_gradients``.
            examples: indices of the subset ``[m]``; if examples influence each other, as many as one chunk.
        """
        examples = options.checked_indices(examples, self.n_examples)
        if self._findings.interact and len(examples) != self.chunk:
            raise ReplicationError(
                f"Examples influence each other in chunks of {self.chunk} examples, and {len(examples)} are given; give {self.chunk}."
            )
        chunks = (self._examples.select(members) for members in examples.to(self.device).split(self.chunk))
        return self._decay.added(thetas, self._sums(thetas, chunks, buffers))[1]

    def _sums(self, thetas: Tensor, chunks: Iterator[sums.Chunk], buffers: Tensor | None) -> sums.Sums:
        vectors = torch.stack([self._vector(theta) for theta in options.some_points(thetas)])
        if self._chosen.stacked is not None:
            return sums.stacked(self._chosen.stacked, vectors, chunks)
        return sums.gradients(self._chosen.network, self._loss, vectors, chunks, self._plain.checked_buffers(buffers))

    def gradient_by_class(self, theta: Tensor) -> Tensor:
        """The share of each class in the gradient, float64 ``[n_classes, n_parameters]``; the rows sum to ``gradient(theta)``.

        Row c is n_c / n times the gradient of the mean loss of class c's n_c examples (docs/papers/lca.md). Labels that are not one class
        index per example are an error, and so is weight decay, which belongs to no class.
        """
        return self.values_and_gradients_by_class(checked_vector(theta, self.n_parameters)[None])[1][0]

    def values_and_gradients_by_class(self, thetas: Tensor, *, buffers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The share of each class in values ``[n_points, n_classes]`` and gradients ``[n_points, n_classes, n_parameters]``, float64.

        Examples of one class pass through the network together, so the cost is that of ``values_and_gradients``. Where examples influence
        each other, or are a stream, chunks stay mixed: one backward pass per class. Errors are those of ``gradient_by_class``.
        """
        if self._decay.strength:
            raise ReplicationError("Weight decay belongs to no class; leave it out where losses are split by class.")
        classes = range(self.n_classes)
        if self._findings.interact or not self._examples.in_memory:
            vectors, statistics = [self._vector(theta) for theta in thetas], self._plain.checked_buffers(buffers)
            masked = sums.masked(self._plain, self._loss, vectors, lambda: self._examples.chunks(self.chunk), len(classes), statistics)
            return masked.mean(), masked.mean_gradients()
        parts = [self._sums(thetas, self._examples.chunks_of_class(label, self.chunk), buffers) for label in classes]
        weight = sum(part.weight for part in parts)
        return torch.stack([part.values for part in parts], 1) / weight, torch.stack([part.gradients for part in parts], 1) / weight

    def hessian_vector_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss at ``theta`` times ``vector``, float64 ``[n_parameters]``.

        It is the derivative of the gradient's product with ``vector`` (Pearlmutter 1994), exact up to rounding. What the forward pass
        detaches counts as constant. The first product is compared with differences of gradients (``second_derivatives``).

        Raises:
            ReplicationError: an operation without a second derivative, or with a wrong one (a custom autograd Function that detaches).

        Example:
            >>> objective = Objective(nn.Linear(1, 1), torch.ones(1, 1), torch.zeros(1), loss="mse")
            >>> objective.hessian_vector_product(torch.zeros(2), torch.tensor([1.0, 0.0]))
            tensor([2., 2.], dtype=torch.float64)
        """
        return self._with_decay(self._product(products.hessian_product, theta, vector), vector)

    def gauss_newton_vector_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        """The generalised Gauss-Newton matrix at ``theta`` times ``vector``, float64 ``[n_parameters]`` (Schraudolph 2002).

        J^T H_L J, with J the derivative of the network's outputs and H_L the loss's Hessian by them: the Hessian without the
        network's own curvature, positive semi-definite for convex losses.

        Example:
            >>> objective = Objective(nn.Linear(1, 1), torch.ones(1, 1), torch.zeros(1), loss="mse")
            >>> objective.gauss_newton_vector_product(torch.zeros(2), torch.tensor([1.0, 0.0]))
            tensor([2., 2.], dtype=torch.float64)
        """
        return self._with_decay(self._product(products.gauss_newton_product, theta, vector), vector)

    def fisher_vector_product(self, theta: Tensor, vector: Tensor, *, empirical: bool = False) -> Tensor:
        """The Fisher matrix at ``theta`` times ``vector``, float64 ``[n_parameters]``; without weight decay.

        The expectation of g g^T over the labels that the network itself predicts (Amari 1998). For cross-entropy, also the binary one
        with logits, it equals the Gauss-Newton matrix. With ``empirical`` the examples' own labels are taken (Kunstner et al. 2019);
        class weights belong to g, and the sum is divided as the loss is.

        Raises:
            ReplicationError: another loss without ``empirical``, or ``empirical`` where examples influence each other.

        Example:
            >>> objective = Objective(nn.Linear(1, 2), torch.ones(1, 1), torch.tensor([0]), dtype=torch.float64)
            >>> objective.fisher_vector_product(torch.zeros(4), torch.tensor([1.0, 0, 0, 0]))
            tensor([ 0.2500, -0.2500,  0.2500, -0.2500], dtype=torch.float64)
        """
        return self._product(products.fisher_product(self._loss, empirical=empirical, interact=self._findings.interact), theta, vector)

    def _with_decay(self, product: Tensor, vector: Tensor) -> Tensor:
        return product + self._decay.strength * checked_vector(vector, self.n_parameters).to(self.device).double()

    def _product(self, product: products.Product, theta: Tensor, vector: Tensor) -> Tensor:
        point, direction = self._vector(theta), self._vector(vector)
        if self._plain.reentrant:
            raise ReplicationError("Checkpointing with use_reentrant=True has no second derivative; use use_reentrant=False.")
        self._findings.products.trust(product)
        return sums.products(self._chosen.network, self._loss, point, direction, product, self._examples.chunks(self.chunk))

    @torch.inference_mode(False)
    def _vector(self, theta: Tensor) -> Tensor:
        return checked_vector(theta, self.n_parameters).to(self.device, self.dtype)
