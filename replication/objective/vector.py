"""The flat vector of a model's parameters and the one of its floating-point buffers: what lies where, reading and writing.

Parameters lie in the order of ``model.named_parameters()``, each flattened row by row; buffers in the order of
``model.named_buffers()``. Whole-number buffers, such as batch norm's counter of batches, are left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.roles import WEIGHT, Role, role_of


@dataclass(frozen=True)
class Slot:
    """Where one parameter tensor lies in the flat vector.

    Attributes:
        name: the parameter's name, as in ``model.named_parameters()``.
        layer: the name of its module.
        shape: the shape of the tensor.
        start, stop: its first entry in the vector and the one after its last.
        role: what the tensor is in its module (``roles``).

    Example:
        >>> slot = layout_of(nn.Linear(3, 2))[1]
        >>> slot.name, slot.slice
        ('bias', slice(6, 8, None))
    """

    name: str
    layer: str
    shape: torch.Size
    start: int
    stop: int
    role: Role = WEIGHT

    @property
    def slice(self) -> slice:
        """The tensor's entries in the flat vector."""
        return slice(self.start, self.stop)


def layout_of(model: nn.Module) -> tuple[Slot, ...]:
    """The slots of the model's parameters in the flat vector, in order.

    Example:
        >>> [(slot.name, slot.layer, slot.start) for slot in layout_of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))]
        [('0.weight', '0', 0), ('0.bias', '0', 6), ('1.weight', '1', 8), ('1.bias', '1', 10)]
    """
    return slots_of(model, dict(model.named_parameters()))


def slots_of(model: nn.Module, parameters: Mapping[str, Tensor]) -> tuple[Slot, ...]:
    """The slots of some of the model's parameters in a flat vector that holds these only, in their order.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> [slot.slice for slot in slots_of(model, {"bias": model.bias})]
        [slice(0, 2, None)]
    """
    slots: list[Slot] = []
    start = 0
    for name, parameter in parameters.items():
        stop = start + parameter.numel()
        slots.append(Slot(name, name.rpartition(".")[0], parameter.shape, start, stop, role_of(model, name)))
        start += parameter.numel()
    return tuple(slots)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """The tensors' entries as one vector, detached, in their own type; empty where there are no tensors.

    Example:
        >>> flatten([torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)])
        tensor([1., 2., 3.])
    """
    pieces = [tensor.detach().flatten() for tensor in tensors]
    return torch.cat(pieces) if pieces else torch.empty(0)


def checked_vector(vector: Any, n: int) -> Tensor:
    """A parameter vector ``[n]`` from a tensor, an array or a list, detached.

    Raises:
        ReplicationError: anything else, or a vector of another length.

    Example:
        >>> checked_vector([1.0, 2.0], 2)
        tensor([1., 2.], dtype=torch.float64)
    """
    if not isinstance(vector, Tensor):
        try:
            vector = torch.as_tensor(np.array(vector, dtype=np.float64))
        except (TypeError, ValueError):
            raise ReplicationError(f"The vector is a {type(vector).__name__}; give a tensor or array of {n} numbers.") from None
    if vector.shape != (n,):
        raise ReplicationError(f"The vector has shape {tuple(vector.shape)}; the objective's parameters have ({n},).")
    with torch.inference_mode(False):
        return vector.clone() if vector.is_inference() else vector.detach()


def unflatten(vector: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The pieces of a flat vector by name, each a view of it in the shape of its tensor.

    Args:
        vector: ``[n]``, as long as all shapes together.
        shapes: by name, in the order of the vector.

    Example:
        >>> unflatten(torch.arange(3.0), {"weight": torch.Size([1, 2]), "bias": torch.Size([1])})
        {'weight': tensor([[0., 1.]]), 'bias': tensor([2.])}
    """
    pieces = vector.split([shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def parameter_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The shapes of the parameters by name, in the order of the vector.

    Example:
        >>> parameter_shapes(nn.Linear(3, 2))
        {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])}
    """
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def buffer_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The shapes of the floating-point buffers by name, in order: batch norm's running means and variances.

    Example:
        >>> list(buffer_shapes(nn.BatchNorm1d(4)))
        ['running_mean', 'running_var']
    """
    return {name: buffer.shape for name, buffer in _floating_buffers(model).items()}


def flat_parameters(model: nn.Module) -> Tensor:
    """The parameters as one vector, float64 ``[n_parameters]``.

    Example:
        >>> flat_parameters(nn.Linear(3, 2)).shape
        torch.Size([8])
    """
    return flatten(model.parameters()).double()


def flat_buffers(model: nn.Module) -> Tensor:
    """The floating-point buffers as one vector, float64 ``[n_buffers]``.

    Example:
        >>> flat_buffers(nn.BatchNorm1d(2))
        tensor([0., 0., 1., 1.], dtype=torch.float64)
    """
    return flatten(_floating_buffers(model).values()).double()


def write_parameters(model: nn.Module, vector: Tensor) -> None:
    """Put a vector ``[n_parameters]`` into the model's parameters, in place, rounded to their type.

    Raises:
        ReplicationError: a vector of another length.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> write_parameters(model, torch.tensor([2.0, 3.0]))
        >>> model(torch.ones(1)).item()
        5.0
    """
    _write(dict(model.named_parameters()), vector, "parameters")


def write_buffers(model: nn.Module, vector: Tensor) -> None:
    """Put a vector ``[n_buffers]`` into the model's floating-point buffers, in place, rounded to their type.

    Raises:
        ReplicationError: a vector of another length.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> write_buffers(norm, torch.tensor([5.0, 2.0]))
        >>> norm.running_mean, norm.running_var
        (tensor([5.]), tensor([2.]))
    """
    _write(_floating_buffers(model), vector, "floating-point buffers")


def batch_counts(model: nn.Module) -> set[str]:
    """The buffers in which normalisation layers of torch count batches; no output in evaluation mode depends on them.

    Example:
        >>> batch_counts(nn.Sequential(nn.BatchNorm1d(1)))
        {'0.num_batches_tracked'}
    """
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    return {f"{name}.num_batches_tracked".lstrip(".") for name in norms}


def plain_numbers(model: nn.Module) -> dict[str, float]:
    """Numbers in public attributes of the modules, by name; no vector holds them.

    Example:
        >>> plain_numbers(nn.Sequential(nn.LeakyReLU(0.2)))["0.negative_slope"]
        0.2
    """
    return {
        f"{path}.{name}" if path else name: value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, int | float) and name != "training" and not name.startswith("_")
    }


def _write(tensors: Mapping[str, Tensor], vector: Tensor, kind: str) -> None:
    n = sum(tensor.numel() for tensor in tensors.values())
    if vector.shape != (n,):
        raise ReplicationError(f"The vector has shape {tuple(vector.shape)}; the model's {kind} have ({n},).")
    pieces = unflatten(vector, {name: tensor.shape for name, tensor in tensors.items()})
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(pieces[name])


def _floating_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
