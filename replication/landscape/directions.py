"""Directions in parameter space along which a loss is plotted (Li et al. 2018, arXiv 1712.09913, section 4)."""

import difflib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.vector import Slot, flat_parameters, flatten, layout_of

Normalisation = Literal["filter", "layer", "weight", "dfilter", "dlayer"] | None
Ignore = Literal["biasbn"] | Sequence[str] | Callable[[Slot], bool] | None
_NORMALISATIONS = ("filter", "layer", "weight", "dfilter", "dlayer", None)
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
        ReplicationError: an unknown normalisation or rule, or a complex parameter.

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
    _check_real(model)
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

    A filter is the set of weights of one output: a slice along the first axis (an output channel of a convolution, a row of a linear
    layer, of an LSTM's gates or of attention's joint projection; in an embedding, the vector of one token), along the second axis for a
    transposed convolution, and the whole tensor where it has one axis (PReLU, LayerScale). Its direction becomes
    d ||w|| / (||d|| + 1e-10), so a filter of zeros does not move.

    Args:
        normalise: ``"filter"``; ``"layer"``, the same with whole tensors; ``"weight"``, d * w elementwise; ``"dfilter"`` and
            ``"dlayer"``, filters and tensors of unit norm; None, the draws themselves.
        ignore: tensors that get a direction of zero, as in ``kept_parameters``. Biases and normalisation tensors that are not ignored
            have their own weights as direction, as in the official code.

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
    if normalise not in _NORMALISATIONS:
        raise ReplicationError(f"The normalisation is {normalise!r}; allowed: 'filter', 'layer', 'weight', 'dfilter', 'dlayer' or None.")
    if draws.shape != theta.shape or theta.shape != (layout[-1].stop,):
        raise ReplicationError(f"Draws {tuple(draws.shape)} and weights {tuple(theta.shape)} must be vectors of {layout[-1].stop} numbers.")
    ignored = ignored_tensors(layout, ignore)
    direction = torch.zeros_like(theta, dtype=torch.float64)
    for slot in layout:
        weight, draw = (vector[slot.slice].double().view(slot.shape) for vector in (theta, draws))
        if slot.name in ignored:
            continue
        direction[slot.slice] = (_rescaled(draw, weight, slot, normalise) if slot.role.kind == "weight" else weight).flatten()
    return direction


def kept_parameters(layout: Sequence[Slot], ignore: Ignore, device: torch.device | str | None = None) -> Tensor:
    """Mask ``[n_parameters]`` of the parameters that ``ignore`` leaves.

    Args:
        layout: ``objective.layout``, or ``layout_of(model)``.
        ignore: ``"biasbn"`` for biases and all tensors of batch, layer, group and similar norms, recognised by their names and
            module types; names of tensors or layers (among them "biasbn"); a function of a tensor's slot; None for nothing.

    Raises:
        ReplicationError: an unknown rule or name.

    Example:
        >>> layout = layout_of(nn.Sequential(nn.Linear(2, 1), nn.LayerNorm(1)))
        >>> kept_parameters(layout, "biasbn").tolist()
        [True, True, False, False, False]
        >>> kept_parameters(layout, ["0.weight"]).tolist()
        [False, False, True, True, True]
    """
    ignored = ignored_tensors(layout, ignore)
    return torch.cat([torch.full((slot.stop - slot.start,), slot.name not in ignored, device=device) for slot in layout])


def ignored_tensors(layout: Sequence[Slot], ignore: Ignore) -> set[str]:
    """The names of the tensors that ``ignore`` names; arguments and errors as in ``kept_parameters``.

    Example:
        >>> sorted(ignored_tensors(layout_of(nn.Linear(2, 1)), "biasbn"))
        ['bias']
    """
    if ignore is None:
        return set()
    if callable(ignore):
        return {slot.name for slot in layout if ignore(slot)}
    if isinstance(ignore, str) and ignore != "biasbn":
        raise ReplicationError(f"ignore is {ignore!r}; allowed: 'biasbn', a list of names, a function of a slot, or None.")
    ignored: set[str] = set()
    for wanted in [ignore] if isinstance(ignore, str) else ignore:
        if wanted == "biasbn":
            ignored |= {slot.name for slot in layout if slot.role.kind != "weight"}
            continue
        named = {slot.name for slot in layout if slot.name == wanted or slot.name.startswith(f"{wanted}.")}
        if not named:
            near = difflib.get_close_matches(wanted, [name for slot in layout for name in (slot.name, slot.layer)], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ReplicationError(f"ignore names {wanted!r}, which is no parameter or layer of the vector{hint}.")
        ignored |= named
    return ignored


def _rescaled(draw: Tensor, weight: Tensor, slot: Slot, normalise: Normalisation) -> Tensor:
    if normalise is None:
        return draw
    if normalise == "weight":
        return draw * weight
    shape, axes = _filters(slot) if normalise.endswith("filter") else ((-1,), (0,))
    draw, weight = draw.view(shape), weight.view(shape)
    unit = draw / (torch.linalg.vector_norm(draw, dim=axes, keepdim=True) + _EPSILON)
    return unit if normalise.startswith("d") else unit * torch.linalg.vector_norm(weight, dim=axes, keepdim=True)


def _filters(slot: Slot) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape in which a tensor's filters are apart, and the axes of a filter."""
    if len(slot.shape) < 2:
        return (-1,), (0,)
    if slot.role.transposed_groups:  # [in, out / groups, ...] to [groups, in / groups, out / groups, ...]
        shape = (slot.role.transposed_groups, slot.shape[0] // slot.role.transposed_groups, *slot.shape[1:])
        return shape, (1, *range(3, len(shape)))
    return tuple(slot.shape), tuple(range(1, len(slot.shape)))


def _check_real(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise ReplicationError(f"The parameter {name!r} is complex; a direction needs real ones: store its real and imaginary part.")
