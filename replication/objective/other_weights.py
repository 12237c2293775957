"""Weights that reach the losses by another way than the parameters of the copy, so that a written vector does not reach them.

A deep copy keeps what a closure, a hook or a loss function refers to: the user's own model. It also gives each tensor memory of its
own, so an attribute is no longer a view of a weight. Both are found by moving the tensors in question and comparing the copy's losses.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import random_direction
from replication.objective.coupling import REPETITIONS
from replication.objective.graphs import nodes_of
from replication.objective.inputs import tensors_of


def refuse_other_weights(model: nn.Module, duplicate: nn.Module, losses: Callable[[], Tensor], tolerance: float) -> None:
    """Raise an error where the losses of the copy depend on the user's own model, or on an attribute that was a view of a weight.

    The user's weights are moved for the time of one pass and restored exactly.

    Args:
        model: the user's model.
        duplicate: a copy of it; best with moved weights, since a weight without influence at its own value may have one elsewhere.
        losses: of a few examples, by ``duplicate``. Where they differ from call to call, nothing can be compared.
        tolerance: to which two equal losses agree.

    Raises:
        ReplicationError: they do.
    """
    expected = losses()

    def depends(tensors: Iterable[Tensor]) -> bool:
        with _moved(tensors):
            actual = losses()
        return not torch.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)

    own = dict([*model.named_parameters(), *model.named_buffers()])
    if depends(own.values()) and not any(depends([]) for _ in range(REPETITIONS)):  # else they are random
        _refuse(next((name for name, tensor in own.items() if depends([tensor])), next(iter(own))))
    copies = _attributes(duplicate)
    for name in _views_of_weights(model):
        if name in copies and depends([copies[name]]):
            raise ReplicationError(
                f"Attribute '{name}' shares the memory of a weight, and in the copy of the model that is used here it does not; read the "
                "weight itself in the forward pass."
            )


def refuse_graph_of_the_original(model: nn.Module, outputs: Any) -> None:
    """Raise an error where the graph of the copy's outputs leads to a parameter of the user's model, for instance by a cached tensor.

    Args:
        model: the user's model.
        outputs: of the copy, with their graph.

    Raises:
        ReplicationError: it does.

    Example:
        >>> refuse_graph_of_the_original(nn.Linear(1, 1), nn.Linear(1, 1)(torch.ones(1, 1)))
    """
    reached = {id(node.variable) for node in nodes_of(tensors_of(outputs)) if hasattr(node, "variable")}
    for name, parameter in model.named_parameters():
        if id(parameter) in reached:
            _refuse(name)


def _refuse(name: str) -> None:
    raise ReplicationError(
        f"A closure, a hook, a cached function or the loss reads '{name}' of your own model, and the computation uses a copy of it, so it "
        "would stay at its present value and get no gradient; write the operation as a method of a module that holds the weight, evaluate "
        "a term of the loss separately, or read a detached clone where a constant is meant."
    )


def refuse_overlooked_weights(model: nn.Module, loss: Any) -> None:
    """Raise an error where a copy of model and loss leaves out a hook on a parameter, or would separate the loss from the weights.

    Args:
        model: the user's model.
        loss: as the user gave it.

    Raises:
        ReplicationError: a parameter has a hook, or a loss module holds a parameter of the model.

    Example:
        >>> refuse_overlooked_weights(nn.Linear(1, 1), "mse")
    """
    held = {id(tensor) for tensor in _tensors_in(loss)} if isinstance(loss, nn.Module) else set()
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks:
            raise ReplicationError(
                f"Parameter '{name}' has a hook (register_hook), which changes gradients of your own model and not those computed here, on "
                "a copy; remove the hook, or scale the gradient afterwards."
            )
        if id(parameter) in held:
            raise ReplicationError(
                f"The loss module holds parameter '{name}' of the model, which would stay at its present value in the loss; evaluate this "
                "term of the loss separately, or return what it needs from the model."
            )


@contextmanager
def _moved(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Floating-point tensors moved in place and restored; ``data`` leaves the user's graphs usable."""
    movable = [tensor.data for tensor in tensors if _is_movable(tensor)]
    saved = [tensor.clone() for tensor in movable]
    try:
        for tensor in movable:
            own = tensor.flatten().double()
            tensor.add_(0.1 * random_direction([tensor], own, seed=2).view(tensor.shape).to(tensor.dtype))
        yield
    finally:
        for tensor, values in zip(movable, saved, strict=True):
            tensor.copy_(values)


def _is_movable(tensor: Tensor) -> bool:
    repeated = any(step == 0 and length > 1 for step, length in zip(tensor.stride(), tensor.shape, strict=True))
    return tensor.is_floating_point() and not tensor.is_inference() and not tensor.is_meta and not repeated


def _views_of_weights(model: nn.Module) -> list[str]:
    """The attributes and buffers that share memory with a parameter, by name."""
    parameters = list(model.parameters())
    storages, own = {_storage(parameter) for parameter in parameters}, {id(parameter) for parameter in parameters}
    return [name for name, tensor in _attributes(model).items() if id(tensor) not in own and _storage(tensor) in storages]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided and tensor.numel() else -id(tensor)  # of any device


def _attributes(model: nn.Module) -> dict[str, Tensor]:
    """The buffers, and the tensors among the attributes of the modules, also inside of lists, tuples and dicts."""
    attributes = dict(model.named_buffers())
    for prefix, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if key not in ("_parameters", "_modules", "_buffers")}
        for key, value in plain.items():
            attributes |= dict(_named(f"{prefix}.{key}" if prefix else key, value))
    return attributes


def _named(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _named(f"{name}[{number}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named(f"{name}[{key!r}]", item)


def _tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """The parameters, also of modules that are plain attributes in lists."""
    yield from module.parameters()
    for each in module.modules():
        for value in vars(each).values():
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, nn.Module):
                    yield from item.parameters()
                elif isinstance(item, Tensor):
                    yield item
