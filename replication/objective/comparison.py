"""Whether another model is the same network with other numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, worst_disagreement
from replication.objective.losses import ExampleLoss
from replication.objective.networks import converted, copy_of
from replication.objective.vector import batch_counts, flatten, plain_numbers


def refuse_other_network(arithmetic: Arithmetic, loss: ExampleLoss, other: nn.Module | Mapping[str, Tensor], name: str) -> None:
    """Raise an error where a network's own losses are others than those of ``arithmetic`` with its parameters and buffers.

    Buffers of whole numbers and masks, plain attributes and options of layers (eps) are such a difference where the losses depend on them.

    Args:
        arithmetic: the network and a few examples; the weights written in it are lost.
        other: an evaluation copy of the other network, which is converted in place; or tensors by name, of which those are put into a copy
            of the network that its vectors do not hold: buffers of whole numbers, masks, caches, and numbers in attributes.
        name: what to call it.

    Raises:
        ReplicationError: they differ.

    Example:
        >>> from replication.objective import Objective
        >>> objective = Objective(nn.BatchNorm1d(2, eps=0.1), torch.eye(2), torch.tensor([0, 1]))
        >>> objective.refuse_other_network(nn.BatchNorm1d(2, eps=0.1), "The last model")
    """
    network = arithmetic.network
    module = other if isinstance(other, nn.Module) else _with_state(network.module, other)
    if module is None:
        return
    twin = network.alike(converted(module, network.leaves[0].dtype, None))
    network.write(flatten(twin.leaves).double(), twin.own_buffers if isinstance(other, nn.Module) else None)
    expected = arithmetic.losses(loss)
    network.write(flatten(twin.leaves).double())
    losses = Arithmetic(twin, arithmetic.inputs, arithmetic.labels, arithmetic.tolerance).losses(loss)
    worst = worst_disagreement(losses, expected, arithmetic.tolerance)
    if worst is not None:
        raise ReplicationError(
            f"{name} gives an example the loss {losses[worst].item():.6g} by itself, and {expected[worst].item():.6g} as the objective's "
            "network with its parameters and floating-point buffers; they differ in something else (a buffer of whole numbers or a mask, a "
            "plain attribute, an option such as eps), so make it a floating-point buffer, or equal in both."
        )


def _with_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """A copy of the network with these numbers; None where it has them already."""
    followed = {name for name, tensor in module.state_dict().items() if tensor.is_floating_point()} | batch_counts(module)
    own = {name: buffer for name, buffer in module.named_buffers() if name not in followed and name in tensors}
    same_shape = {name: buffer for name, buffer in own.items() if buffer.shape == tensors[name].shape}
    buffers = [name for name, buffer in same_shape.items() if not torch.equal(buffer, tensors[name].to(buffer))]
    own_numbers = {name: number for name, number in plain_numbers(module).items() if name in tensors and tensors[name].numel() == 1}
    numbers = [name for name, number in own_numbers.items() if number != tensors[name].item()]
    if not buffers and not numbers:
        return None
    duplicate = copy_of(module)
    for name in buffers:
        duplicate.get_buffer(name).copy_(tensors[name])
    for name in numbers:
        path, _, attribute = name.rpartition(".")
        owner = duplicate.get_submodule(path)
        setattr(owner, attribute, type(getattr(owner, attribute))(tensors[name].item()))
    return duplicate
