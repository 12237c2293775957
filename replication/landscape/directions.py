"""Directions in parameter space along which a loss is plotted (Li et al. 2018, arXiv 1712.09913, section 4)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.vector import Slot, flat_parameters, flatten, layout_of

Normalisation = Literal["filter", "layer", "weight", "dfilter", "dlayer"] | None
Ignore = Literal["biasbn"] | None
_EPSILON = 1e-10  # added to a draw's norm before dividing by it


def random_direction(
    model: nn.Module, generator: torch.Generator, normalise: Normalisation = "filter", ignore: Ignore = "biasbn"
) -> Tensor:
    """A Gaussian direction rescaled to the model's weights, float64 ``[n_parameters]`` (the paper's d; specification 1.2).

    N(0, 1) in float32, tensor by tensor in the order of ``model.named_parameters()``, on the generator's device.

    Args:
        generator: its state alone decides the draws; ``axis_generator`` makes one for a seed and an axis.
        normalise, ignore: as in ``normalised``.

    Raises:
        ReplicationError: an unknown normalisation or rule.
    """
    layout = layout_of(model)
    draws = flatten(torch.randn(slot.shape, generator=generator, device=generator.device) for slot in layout)
    theta = flat_parameters(model)
    return normalised(draws.to(theta.device), theta, layout, normalise, ignore)


def axis_generator(seed: int, axis: int) -> torch.Generator:
    """The generator of one axis (0 for x, 1 for y) of the directions with this seed, whatever was drawn or built before."""
    state = np.random.SeedSequence([seed, axis]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def normalised(
    draws: Tensor, theta: Tensor, layout: Sequence[Slot], normalise: Normalisation = "filter", ignore: Ignore = "biasbn"
) -> Tensor:
    """Rescale raw draws to the weights ``theta``; both ``[n_parameters]``; float64.

    A filter is a slice along the first axis: an output channel of a convolution, a row of a linear layer. Its direction becomes
    d ||w|| / (||d|| + 1e-10), so a filter of zeros gets none.

    Args:
        normalise: ``"filter"``; ``"layer"``, the same with whole tensors; ``"weight"``, d * w elementwise; ``"dfilter"`` and
            ``"dlayer"``, filters and tensors of unit norm; None, the draws themselves.
        ignore: what becomes of tensors with at most one axis (biases, batch norm): ``"biasbn"`` gives them no direction, None
            gives them their own weights as direction, as the official code does.

    Raises:
        ReplicationError: an unknown normalisation or rule, or vectors that do not fit the layout.
    """
    if normalise not in ("filter", "layer", "weight", "dfilter", "dlayer", None):
        raise ReplicationError(f"The normalisation is {normalise!r}; allowed: 'filter', 'layer', 'weight', 'dfilter', 'dlayer' or None.")
    if ignore not in ("biasbn", None):
        raise ReplicationError(f"ignore is {ignore!r}; allowed: 'biasbn' (no direction for biases and batch norm) or None.")
    if draws.shape != theta.shape or theta.shape != (layout[-1].stop,):
        raise ReplicationError(f"Draws {tuple(draws.shape)} and weights {tuple(theta.shape)} must be vectors of {layout[-1].stop} numbers.")
    direction = torch.zeros_like(theta, dtype=torch.float64)
    for slot in layout:
        weight, draw = (vector[slot.slice].double().view(slot.shape) for vector in (theta, draws))
        if weight.dim() > 1:
            direction[slot.slice] = _rescaled(draw, weight, normalise).flatten()
        elif ignore is None:
            direction[slot.slice] = weight.flatten()
    return direction


def without_biases_and_norms(layout: Sequence[Slot], device: torch.device | str | None = None) -> Tensor:
    """Mask ``[n_parameters]`` of tensors with two axes or more: what ``ignore="biasbn"`` leaves."""
    return torch.cat([torch.full((slot.stop - slot.start,), len(slot.shape) > 1, device=device) for slot in layout])


def _rescaled(draw: Tensor, weight: Tensor, normalise: Normalisation) -> Tensor:
    if normalise is None:
        return draw
    if normalise == "weight":
        return draw * weight
    axes = tuple(range(1 if normalise.endswith("filter") else 0, draw.dim()))
    unit = draw / (torch.linalg.vector_norm(draw, dim=axes, keepdim=True) + _EPSILON)
    return unit if normalise.startswith("d") else unit * torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
