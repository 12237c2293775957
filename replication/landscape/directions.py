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
    """A Gaussian direction rescaled to the model's weights, float64 ``[n_parameters]`` (section 4, the paper's d).

    The draws are N(0, 1) in float32, tensor by tensor in the order of ``model.named_parameters()``, on the generator's device.

    Args:
        generator: the draws depend on its state only; ``axis_generator`` makes one for a seed and an axis.
        normalise, ignore: as in ``normalised``.

    Raises:
        ReplicationError: an unknown normalisation or rule.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> direction = random_direction(model, axis_generator(seed=0, axis=0))
        >>> filters = direction[:6].view(2, 3)
        >>> bool(torch.allclose(filters.norm(dim=1), model.weight.double().norm(dim=1)))
        True
        >>> direction[6:].tolist()
        [0.0, 0.0]
    """
    layout = layout_of(model)
    draws = flatten(torch.randn(slot.shape, generator=generator, device=generator.device) for slot in layout)
    theta = flat_parameters(model)
    return normalised(draws.to(theta.device), theta, layout, normalise, ignore)


def axis_generator(seed: int, axis: int) -> torch.Generator:
    """A generator for one axis (0 for x, 1 for y) of the directions with this seed; nothing drawn or built before changes it.

    Example:
        >>> first, again = (torch.randn(3, generator=axis_generator(seed=5, axis=1)) for _ in range(2))
        >>> torch.equal(first, again)
        True
    """
    state = np.random.SeedSequence([seed, axis]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def normalised(
    draws: Tensor, theta: Tensor, layout: Sequence[Slot], normalise: Normalisation = "filter", ignore: Ignore = "biasbn"
) -> Tensor:
    """Draws rescaled to the weights ``theta`` (section 4); both ``[n_parameters]``, the result in float64.

    A filter is a slice along the first axis: an output channel of a convolution, a row of a linear layer. Its direction becomes
    d ||w|| / (||d|| + 1e-10), so a filter of zeros does not move.

    Args:
        normalise: ``"filter"``; ``"layer"``, the same with whole tensors; ``"weight"``, d * w elementwise; ``"dfilter"`` and
            ``"dlayer"``, filters and tensors of unit norm; None, the draws themselves.
        ignore: the direction of tensors with at most one axis (biases, batch norm): ``"biasbn"`` sets it to zero, None
            to the weights themselves, as the official code does.

    Raises:
        ReplicationError: an unknown normalisation or rule, or vectors that do not fit the layout.

    Example:
        >>> layout = layout_of(nn.Linear(2, 2))
        >>> theta = torch.tensor([3.0, 4.0, 0.0, 0.0, 7.0, 8.0])
        >>> normalised(torch.ones(6), theta, layout).round(decimals=3).tolist()
        [3.536, 3.536, 0.0, 0.0, 0.0, 0.0]
        >>> normalised(torch.ones(6), theta, layout, "layer", ignore=None).round(decimals=3).tolist()
        [2.5, 2.5, 2.5, 2.5, 7.0, 8.0]
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
    """Mask ``[n_parameters]`` of the tensors with two axes or more, the ones that ``ignore="biasbn"`` keeps.

    Example:
        >>> without_biases_and_norms(layout_of(nn.Linear(2, 1))).tolist()
        [True, True, False]
    """
    return torch.cat([torch.full((slot.stop - slot.start,), len(slot.shape) > 1, device=device) for slot in layout])


def _rescaled(draw: Tensor, weight: Tensor, normalise: Normalisation) -> Tensor:
    if normalise is None:
        return draw
    if normalise == "weight":
        return draw * weight
    axes = tuple(range(1 if normalise.endswith("filter") else 0, draw.dim()))
    unit = draw / (torch.linalg.vector_norm(draw, dim=axes, keepdim=True) + _EPSILON)
    return unit if normalise.startswith("d") else unit * torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
