"""Losses by name, by torch module or as functions: a sum over examples, divided as torch's ``reduction="mean"`` divides.

Derivatives of a mean over a whole set need the loss of each example. A mean over a chunk, or targets that are broadcast against
outputs, would give wrong numbers without an error, so every call is checked.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.inputs import main_tensor, map_tensors, n_examples, tensors_of
from replication.objective.networks import converted

PerExampleLoss = Callable[[Any, Any], Tensor]
Loss = str | nn.Module | PerExampleLoss

_NAMES: dict[str, type[nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "nll": nn.NLLLoss,
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "smooth_l1": nn.SmoothL1Loss,
    "bce": nn.BCELoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
    "kl_div": nn.KLDivLoss,
}
_OTHER_NAMES = {
    "ce": "cross_entropy",
    "categorical_cross_entropy": "cross_entropy",
    "negative_log_likelihood": "nll",
    "l2": "mse",
    "mean_squared_error": "mse",
    "squared_error": "mse",
    "mae": "l1",
    "mean_absolute_error": "l1",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits",
}
_ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.HuberLoss,
    nn.SmoothL1Loss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.KLDivLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
)


@dataclass(frozen=True)
class ExampleLoss:
    """A loss as the sum of one number per example, divided by the sum of their weights.

    Attributes:
        function: outputs and labels to one number per example ``[n]``.
        weigh: labels to the weight of each example ``[n]`` in the divisor; None where each counts one.
        module: torch's loss behind it, None for a function of the user's.

    Example:
        >>> loss = example_loss(nn.CrossEntropyLoss(ignore_index=9))
        >>> logits, labels = torch.zeros(3, 2), torch.tensor([0, 9, 1])
        >>> loss(logits, labels), loss.weights(labels)
        (tensor([0.6931, 0.0000, 0.6931]), tensor([1., 0., 1.], dtype=torch.float64))
    """

    function: PerExampleLoss
    weigh: Callable[[Any], Tensor] | None = None
    module: nn.Module | None = None

    def __call__(self, outputs: Any, labels: Any) -> Tensor:
        """One number per example ``[n]``.

        Raises:
            ReplicationError: anything else comes out.
        """
        return _checked(self.function(outputs, labels), labels)

    def weights(self, labels: Any) -> Tensor:
        """The weight of each example in the divisor ``[n]``: 1, unless torch's mean divides by something else."""
        if self.weigh is not None:
            return self.weigh(labels)
        return torch.ones(n_examples(labels, "labels"), dtype=torch.float64, device=tensors_of(labels)[0].device)

    @property
    def is_plain_cross_entropy(self) -> bool:
        """Whether it is cross-entropy without class weights and label smoothing."""
        return type(self.module) is nn.CrossEntropyLoss and self.module.weight is None and not self.module.label_smoothing

    @property
    def is_log_likelihood(self) -> bool:
        """Whether the loss is minus the log likelihood of labels whose natural parameters are the outputs."""
        plain_binary = type(self.module) is nn.BCEWithLogitsLoss and self.module.weight is None and self.module.pos_weight is None
        return self.is_plain_cross_entropy or plain_binary

    @property
    def ignored_label(self) -> int | None:
        """The label of positions that do not count; None where the loss has none."""
        index = getattr(self.module, "ignore_index", None)
        return index if isinstance(index, int) else None


def example_loss(loss: Loss, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> ExampleLoss:
    """A user's loss as one number per example.

    Args:
        loss: a name such as ``"cross_entropy"``, ``"mse"``, ``"l1"`` or ``"bce_with_logits"``; one of torch's loss modules, with its class
            weights, ``ignore_index`` and label smoothing; or a function of outputs and labels that returns one loss per example
            ``[n]``. Names and torch's modules take the outputs' main tensor (``inputs.main_tensor``), a function takes them as they
            are.
        dtype: type of the network, for the weights inside of a loss module.
        device: of these weights.

    Raises:
        ReplicationError: an unknown name, a module that sums over examples, or something that cannot be called; later, a loss that
            is not one number per example, or labels that do not fit.

    Example:
        >>> example_loss("mse")(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([5.])
    """
    if isinstance(loss, str):
        loss = _named(loss)
    if not callable(loss):
        raise ReplicationError(f"The loss is a {type(loss).__name__}; allowed: {', '.join(_NAMES)}, a torch loss module, or a function.")
    if not isinstance(loss, nn.Module):
        return ExampleLoss(_on_copies(loss))
    module = converted(copy.deepcopy(loss), dtype if dtype == torch.float64 else torch.float32, device)
    reduction = getattr(module, "reduction", None)
    if not type(module).__module__.startswith("torch.nn.") or reduction == "none":
        return ExampleLoss(_on_copies(module))
    if reduction == "sum":
        raise ReplicationError(f"{type(module).__name__} sums over the examples, and the objective is a mean; give it reduction='mean'.")
    each = copy.deepcopy(module)
    each.reduction = "none"  # type: ignore[assignment]
    if isinstance(module, nn.CrossEntropyLoss | nn.NLLLoss):
        return ExampleLoss(_classification(each), _weights_of_labels(module), module)
    return ExampleLoss(_averaged(each, total=reduction == "batchmean"), None, module)


def _on_copies(loss: PerExampleLoss) -> PerExampleLoss:
    """A loss of the user's on copies of the labels, which it may change in place (to mask ignored ones)."""
    return lambda outputs, labels: loss(outputs, map_tensors(torch.clone, labels))


def _named(name: str) -> nn.Module:
    key = name.lower().replace("-", "_").replace(" ", "_").removesuffix("_loss")
    compact = key.replace("_", "").removesuffix("loss")
    names = {allowed: allowed for allowed in _NAMES} | _OTHER_NAMES
    by_compact = {known.replace("_", ""): target for known, target in names.items()}
    if compact not in by_compact:
        raise ReplicationError(f"The loss '{name}' is unknown; allowed: {', '.join(_NAMES)}, a torch loss module, or a function.")
    return _NAMES[by_compact[compact]]()


def _classification(module: Any) -> PerExampleLoss:
    def losses(outputs: Any, labels: Any) -> Tensor:
        scores = main_tensor(outputs)
        labels = _class_labels(module, scores, labels)
        try:
            return _sum_per_example(module(scores, labels), len(labels))
        except IndexError:
            check_class_range(module.ignore_index, scores.shape[1], labels)
            raise

    return losses


def _class_labels(module: Any, scores: Tensor, labels: Any) -> Tensor:
    """Class indices as int64, or shares of classes in the type of the scores; anything else is an error."""
    if not isinstance(labels, Tensor):
        raise ReplicationError(f"Cross-entropy was given labels of type {type(labels).__name__}; give class indices as a tensor [n].")
    if labels.is_floating_point() and labels.shape == scores.shape and scores.dim() > 1 and isinstance(module, nn.CrossEntropyLoss):
        return labels.to(scores.dtype)
    indices = not labels.is_floating_point() and not labels.is_complex()
    if not indices or scores.dim() < 2 or labels.shape != (len(scores), *scores.shape[2:]):
        kind = str(labels.dtype).removeprefix("torch.")
        raise ReplicationError(
            f"Cross-entropy was given labels of shape {tuple(labels.shape)} and type {kind} for outputs of shape {tuple(scores.shape)}; "
            "give class indices [n] of an integer type and outputs [n, n_classes], or a loss of your own that takes these."
        )
    return labels.long()


def check_class_range(ignored: int | None, n_classes: int, labels: Tensor) -> None:
    """Raise an error where an index label has no output.

    Example:
        >>> check_class_range(-100, 2, torch.tensor([0, 1, -100]))
    """
    wrong = labels[(labels != ignored) & ((labels < 0) | (labels >= n_classes))]
    if wrong.numel():
        raise ReplicationError(
            f"There is a label {wrong.flatten()[0].item()}, and the network has {n_classes} outputs; give labels from 0 to {n_classes - 1}."
        )


def _weights_of_labels(module: Any) -> Callable[[Tensor], Tensor]:
    """The divisor of torch's mean: the class weights of the labels that are not ignored; for shares of classes, the positions."""

    def weights(labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return torch.full((len(labels),), math.prod(labels.shape[2:]), dtype=torch.float64, device=labels.device)
        counted = labels != module.ignore_index
        each = counted.double() if module.weight is None else module.weight.double()[labels.long() * counted] * counted
        return _sum_per_example(each, len(labels))

    return weights


def _sum_per_example(values: Tensor, n: int) -> Tensor:
    return values if values.dim() == 1 else values.reshape(n, -1).sum(1)


def _averaged(module: Any, *, total: bool) -> PerExampleLoss:
    """The mean over an example's entries of a loss that torch averages over all entries; the sum for ``batchmean``."""

    def losses(outputs: Any, labels: Any) -> Tensor:
        predictions = main_tensor(outputs)
        if isinstance(module, _ELEMENTWISE):
            labels = _aligned(module, predictions, labels)
        values = module(predictions, labels)
        if values.dim() == 0 or len(values) != len(predictions):
            raise ReplicationError(f"{type(module).__name__} gives no loss per example; give a function that returns one per example.")
        if values.dim() == 1:
            return values
        return values.flatten(1).sum(1) if total else values.flatten(1).mean(1)

    return losses


def _aligned(module: nn.Module, predictions: Tensor, targets: Any) -> Tensor:
    """Targets in the type and shape of the predictions, where they differ in axes of length one only; never broadcast."""
    shape = tuple(targets.shape) if isinstance(targets, Tensor) else None
    same = shape is not None and [n for n in shape if n != 1] == [n for n in predictions.shape if n != 1]
    if not same or len(targets) != len(predictions):
        raise ReplicationError(
            f"{type(module).__name__} was given outputs of shape {tuple(predictions.shape)} and targets of shape {shape}; give targets "
            "of the outputs' shape."
        )
    return targets.to(predictions.dtype).view_as(predictions)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each example ``[n]``.

    Args:
        logits: ``[n, n_classes]``.
        labels: class indices ``[n]``.

    Raises:
        ReplicationError: as in ``class_indices``.

    Example:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6931])
    """
    return F.cross_entropy(logits, class_indices(labels), reduction="none")


def class_indices(labels: Tensor) -> Tensor:
    """The labels as int64 ``[n]``.

    Raises:
        ReplicationError: another number of axes, or numbers that are not of an integer type.

    Example:
        >>> class_indices(torch.tensor([1, 0], dtype=torch.uint8))
        tensor([1, 0])
    """
    if labels.dim() != 1 or labels.is_floating_point():
        kind = str(labels.dtype).removeprefix("torch.")
        raise ReplicationError(
            f"Cross-entropy was given labels of shape {tuple(labels.shape)} and type {kind}; "
            "give class indices [n] of an integer type, or a loss of your own that takes these."
        )
    return labels.long()


def one_per_example(loss: PerExampleLoss) -> PerExampleLoss:
    """The same loss with a check: each call raises an error where it does not return one number per example.

    This catches a mean over examples, and targets ``[n]`` that are broadcast against outputs ``[n, 1]``.

    Example:
        >>> checked = one_per_example(lambda outputs, targets: (outputs - targets).square().mean())
        >>> checked(torch.zeros(2), torch.ones(2))
        Traceback (most recent call last):
        replication.errors.ReplicationError: The loss of 2 examples has shape (); it must return one per example (reduction='none').
    """

    return lambda outputs, labels: _checked(loss(outputs, labels), labels)


def _checked(losses: Any, labels: Any) -> Tensor:
    n = n_examples(labels, "labels")
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
    if shape != (n,):
        raise ReplicationError(f"The loss of {n} examples has shape {shape}; it must return one per example (reduction='none').")
    if losses.is_complex():
        raise ReplicationError("The loss is complex; give a loss that returns real numbers.")
    return losses
