"""Values that a network computes from its weights once and keeps: they are wrong as soon as the weights are others.

Such a value may be kept by the copy (it was computed in our first call) or may come with the user's model, which has been called.
A first call on fresh copies at two points shows the first kind. For the second kind, attributes are emptied one by one: what the
forward pass fills again, whatever the examples, and leaves as it is when the weights change, is such a value.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic
from replication.objective.inputs import tensors_of
from replication.objective.losses import ExampleLoss, PerExampleLoss
from replication.objective.plain import PlainNetwork
from replication.objective.vector import flatten

_FEW = 4  # examples of a pass that looks for kept values
_OF_MODULES = frozenset(vars(nn.Module()))


def refuse_kept_values(arithmetic: Arithmetic, fresh: PlainNetwork, loss: ExampleLoss, own: Tensor, theta: Tensor) -> None:
    """Raise an error where the network keeps values that depend on its weights, or changes its weights.

    Args:
        arithmetic: the network, which has been called at ``own``; ``theta`` is left written in it.
        fresh: the same network, never called; it is changed.
        own, theta: two points ``[n_parameters]``.

    Raises:
        ReplicationError: it does.
    """
    used, other = arithmetic.network, Arithmetic(fresh, arithmetic.inputs, arithmetic.labels, arithmetic.tolerance)
    used.write(theta)
    fresh.write(theta)
    written = flatten(used.leaves)
    losses, expected = arithmetic.losses(loss), other.losses(loss)
    if not torch.allclose(losses, expected, rtol=arithmetic.tolerance, atol=arithmetic.tolerance, equal_nan=True):
        worst = int((losses - expected).abs().nan_to_num(float("inf")).argmax())
        raise ReplicationError(
            f"An example has the loss {expected[worst].item():.6g} in a network that was not called before and {losses[worst].item():.6g} "
            "in one that was called with other weights; its forward pass keeps a value that it computes once from the weights or the data, "
            "so compute it in every pass."
        )
    _refuse_changed(used, written)
    refuse_kept_attributes(other, loss, own, theta)


def _refuse_changed(network: PlainNetwork, written: Tensor) -> None:
    after = flatten(network.leaves)
    if not torch.equal(after.nan_to_num(), written.nan_to_num()):
        raise ReplicationError(
            "The forward pass changes the parameters in evaluation mode (data-dependent initialisation, or max_norm of an embedding); pass "
            "a batch through the model first, or switch that off."
        )


@dataclass(frozen=True)
class _Place:
    """An attribute of a module."""

    module: nn.Module
    name: str

    @property
    def holder(self) -> dict[str, Any]:
        """The dictionary that holds it."""
        return vars(self.module) if self.name in vars(self.module) else self.module._buffers

    def empty(self, *, remove: bool) -> None:
        """Make it as it is before the first call, as far as that can be guessed: None, empty, False, or not there."""
        value = self.holder[self.name]
        if remove or isinstance(getattr(type(self.module), self.name, None), functools.cached_property):
            del self.holder[self.name]
        elif isinstance(value, bool):
            self.holder[self.name] = False
        else:
            self.holder[self.name] = type(value)() if isinstance(value, dict | list) else None

    @property
    def is_filled(self) -> bool:
        """Whether it has a value other than the empty one."""
        value = self.holder.get(self.name)
        return isinstance(value, Tensor | np.ndarray | float) or (isinstance(value, dict | list | bool) and bool(value))


def refuse_kept_attributes(network: Arithmetic, loss: PerExampleLoss, own: Tensor, theta: Tensor) -> None:
    """Empty the same attribute of all modules of a type at a time, and see whether it is filled with what depends on the weights.

    Args:
        network: a copy for this purpose; other weights are written in it.
        own, theta: two points ``[n_parameters]``.

    Raises:
        ReplicationError: an attribute holds a value of other weights.
    """
    for names, places in _groups(network.network.module).items():
        before = [place.holder[place.name] for place in places]
        stale = False
        for remove in (False, True):
            with contextlib.suppress(Exception):  # a forward pass that needs the attribute fills nothing by itself
                stale = stale or _is_stale(network, loss, places, own, theta, remove=remove)
            for place, value in zip(places, before, strict=True):
                place.holder[place.name] = value
        if stale:
            raise ReplicationError(
                f"Attribute '{names[1]}' of a {names[0].__name__} is computed from the weights in the first call and kept, so it is wrong "
                "at other weights; compute it in every forward pass."
            )


def _is_stale(network: Arithmetic, loss: PerExampleLoss, places: list[_Place], own: Tensor, theta: Tensor, *, remove: bool) -> bool:
    n = min(len(tensors_of(network.labels)[0]), 2 * _FEW)
    first, second = slice(0, (n + 1) // 2), slice(n // 2, n)

    def filled(point: Tensor, examples: slice, *, empty: bool = True) -> list[Tensor]:
        if empty:
            for place in places:
                place.empty(remove=remove)
        network.network.write(point)
        network.losses(loss, examples)
        return [_contents(place) for place in places]

    start = filled(own, first)
    if not any(place.is_filled for place in places):
        return False
    kept, new = filled(theta, first, empty=False), filled(theta, first)
    return _equal(start, kept) and not _equal(start, new) and _equal(start, filled(own, second))


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True) for a, b in zip(first, second, strict=True))


def _groups(module: nn.Module) -> dict[tuple[type, str], list[_Place]]:
    """The attributes that may be kept values, by type of module and name; torch's own modules keep none."""
    groups: dict[tuple[type, str], list[_Place]] = {}
    for each in module.modules():
        if not type(each).__module__.startswith("torch."):
            for place in _places(each):
                groups.setdefault((type(each), place.name), []).append(place)
    return groups


def _places(module: nn.Module) -> Iterator[_Place]:
    for name in [*(vars(module).keys() - _OF_MODULES), *module._buffers]:
        place = _Place(module, name)
        if place.is_filled:
            yield place


def _contents(place: _Place) -> Tensor:
    """The numbers in an attribute as one vector; of a flag, those in all attributes of its module."""
    value = place.holder.get(place.name)
    tree = [*vars(place.module).values(), *place.module._buffers.values()] if isinstance(value, bool) else value
    numbers = [tensor.detach().double().flatten() for tensor in tensors_of(_plain(tree)) if not tensor.is_complex()]
    return torch.cat(numbers) if numbers else torch.empty(0, dtype=torch.float64)


def _plain(value: Any) -> Any:
    """The tensors and numbers of a value, in a list."""
    if isinstance(value, nn.Parameter | nn.Module):
        return []
    if isinstance(value, Tensor | np.ndarray):
        return value
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, dict):
        return [_plain(item) for item in value.values()]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else []
