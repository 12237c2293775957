"""The flat vector of a model's parameters, and of its floating-point buffers: what lies where."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """Where one parameter tensor lies in the flat vector; ``layer`` is its module's name."""

    name: str
    layer: str
    shape: torch.Size
    start: int
    stop: int

    @property
    def slice(self) -> slice:
        """Of the flat vector."""
        return slice(self.start, self.stop)


def layout_of(model: nn.Module) -> tuple[Slot, ...]:
    """The slots of a model's parameters, in order."""
    slots: list[Slot] = []
    start = 0
    for name, parameter in model.named_parameters():
        slots.append(Slot(name, name.rpartition(".")[0], parameter.shape, start, start + parameter.numel()))
        start += parameter.numel()
    return tuple(slots)


def buffer_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The floating-point buffers in order: batch norm's running means and variances; counters of batches are left out."""
    return {name: buffer.shape for name, buffer in model.named_buffers() if buffer.is_floating_point()}


def flat_buffers(model: nn.Module) -> Tensor:
    """The same buffers as one vector, float64 ``[n_buffers]``."""
    pieces = [buffer.detach().flatten().double() for buffer in model.buffers() if buffer.is_floating_point()]
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.float64)


def named(vector: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The pieces of a flat vector, each in the shape of its tensor."""
    pieces = vector.split([shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
