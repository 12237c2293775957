"""Whether another model is the same network with other numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic
from replication.objective.losses import ExampleLoss
from replication.objective.networks import converted, copy_of
from replication.objective.vector import batch_counts, flatten


def refuse_other_network(arithmetic: Arithmetic, loss: ExampleLoss, other: nn.Module | Mapping[str, Tensor], name: str) -> None:
    """Raise an error where a network's own losses are others than those of ``arithmetic`` with its parameters and buffers.

    Buffers of whole numbers and masks, plain attributes and options of layers (eps) are such a difference where the losses depend on them.

    Args:
        arithmetic: the network and a few examples; the weights written in it are lost.
        other: an evaluation copy of the other network, which is converted in place; or tensors by name, of which the buffers of whole
            numbers and masks are put into a copy of the network.
        name: what to call it.

    Raises:
        ReplicationError: they differ.

    Example:
        >>> from replication.objective import Objective
        >>> objective = Objective(nn.BatchNorm1d(2, eps=0.1), torch.eye(2), torch.tensor([0, 1]))
        >>> objective.refuse_other_network(nn.BatchNorm1d(2, eps=0.1), "The last model")
    """
    network = arithmetic.network
    module = other if isinstance(other, nn.Module) else _with_buffers(network.module, other)
    if module is None:
        return
    twin = network.alike(converted(module, network.leaves[0].dtype, None))
    network.write(flatten(twin.leaves).double(), twin.own_buffers)
    expected = arithmetic.losses(loss)
    network.write(flatten(twin.leaves).double())
    losses = Arithmetic(twin, arithmetic.inputs, arithmetic.labels, arithmetic.tolerance).losses(loss)
    if not torch.allclose(losses, expected, rtol=arithmetic.tolerance, atol=arithmetic.tolerance, equal_nan=True):
        worst = int((losses - expected).abs().nan_to_num(float("inf")).argmax())
        raise ReplicationError(
            f"{name} gives an example the loss {losses[worst].item():.6g} by itself, and {expected[worst].item():.6g} as the objective's "
            "network with its parameters and floating-point buffers; they differ in something else (a buffer of whole numbers or a mask, a "
            "plain attribute, an option such as eps), so make it a floating-point buffer, or equal in both."
        )


def _with_buffers(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """A copy of the network with these whole numbers and masks; None where it has them already."""
    whole = {name: buffer for name, buffer in module.named_buffers() if not buffer.is_floating_point() and not buffer.is_complex()}
    given = {name: tensors[name].to(whole[name]) for name in whole.keys() - batch_counts(module) if name in tensors}
    if all(torch.equal(tensor, whole[name]) for name, tensor in given.items()):
        return None
    duplicate = copy_of(module)
    for name, buffer in duplicate.named_buffers():
        if name in given:
            buffer.copy_(given[name])
    return duplicate
