"""Losses of single examples: what every instrument is given, and its mistakes that would pass unseen as wrong numbers."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from replication.errors import ReplicationError

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One loss per example ``[n]``.

    Raises:
        ReplicationError: as ``class_indices``.
    """
    return F.cross_entropy(logits, class_indices(labels), reduction="none")


def class_indices(labels: Tensor) -> Tensor:
    """Labels as int64 ``[n]``.

    Raises:
        ReplicationError: another number of axes, or no whole numbers.
    """
    if labels.dim() != 1 or labels.is_floating_point():
        kind = str(labels.dtype).removeprefix("torch.")
        raise ReplicationError(
            f"Cross-entropy was given labels of shape {tuple(labels.shape)} and type {kind}; "
            "give class indices [n] of an integer type, or a loss of your own that takes these."
        )
    return labels.long()


def one_per_example(loss: PerExampleLoss) -> PerExampleLoss:
    """The same loss, checked: a mean over examples, or targets broadcast against outputs, is a ReplicationError at the first call."""

    def checked(outputs: Tensor, labels: Tensor) -> Tensor:
        losses = loss(outputs, labels)
        if losses.shape != (len(labels),):
            raise ReplicationError(
                f"The loss of {len(labels)} examples has shape {tuple(losses.shape)}; it must return one per example (reduction='none')."
            )
        return losses

    return checked
