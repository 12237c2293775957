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
    if not torch.allclose(losses, expected, rtol=arithmetic.tolerance, atol=arithmetic.tolerance, equal_nan=True):
        worst = int((losses - expected).abs().nan_to_num(float("inf")).argmax())
        raise ReplicationError(
            f"{name} gives an example the loss {losses[worst].item():.6g} by itself, and {expected[worst].item():.6g} as the objective's "
            "network with its parameters and floating-point buffers; they differ in something else (a buffer of whole numbers or a mask, a "
            "plain attribute, an option such as eps), so make it a floating-point buffer, or equal in both."
        )


def _with_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """A copy of the network with these numbers; None where it has them already."""
    followed = {name for name, tensor in module.state_dict().items() if tensor.is_floating_point()} | batch_counts(module)
    duplicate, changed = copy_of(module), False
    buffers = dict(duplicate.named_buffers())
    for name, tensor in tensors.items():
        if name in buffers and name not in followed and buffers[name].shape == tensor.shape:
            changed |= not torch.equal(buffers[name], tensor.to(buffers[name]))
            buffers[name].copy_(tensor)
        changed |= _set_number(duplicate, name, tensor)
    return duplicate if changed else None


def _set_number(module: nn.Module, name: str, number: Tensor) -> bool:
    """Put a number into the attribute of this name, if there is one with another number."""
    path, _, attribute = name.rpartition(".")
    owner = dict(module.named_modules()).get(path)
    value = None if owner is None else vars(owner).get(attribute)
    if not isinstance(value, int | float) or number.numel() != 1 or value == number.item():
        return False
    setattr(owner, attribute, type(value)(number.item()))
    return True
