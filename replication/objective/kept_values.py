"""Values that a network computes from its weights once and keeps: they are wrong as soon as the weights are others.

Such a value may be kept by the copy (it was computed in our first call) or may come with the user's model, which has been called.
A first call on fresh copies at two points shows the first kind. For the second kind, attributes are emptied one by one: what the
forward pass fills again and leaves as it is when the weights change is such a value. A third kind is computed when the network enters
evaluation mode, so the losses change when it enters it again.
"""

import contextlib
import functools
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, worst_disagreement
from replication.objective.inputs import tensors_of
from replication.objective.losses import ExampleLoss, PerExampleLoss
from replication.objective.plain import PlainNetwork
from replication.objective.vector import flatten

Way = Literal["empty", "none", "removed", "zeros"]
_DEPTH = 3  # of containers in an attribute
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
    worst = worst_disagreement(losses, expected, arithmetic.tolerance)
    if worst is not None:
        raise ReplicationError(
            f"An example has the loss {expected[worst].item():.6g} in a network that was not called before and {losses[worst].item():.6g} "
            "in one that was called with other weights; its forward pass keeps a value that it computes once from the weights or the data, "
            "so compute it in every pass."
        )
    _refuse_changed(used, written)
    refuse_kept_attributes(other, loss, own, theta)
    refuse_values_of_the_mode(other, loss, theta)


def refuse_values_of_the_mode(network: Arithmetic, loss: PerExampleLoss, theta: Tensor) -> None:
    """Raise an error where the losses at other weights change when the network enters evaluation mode once more.

    Args:
        network: a copy for this purpose; ``theta`` ``[n_parameters]`` is written in it.

    Raises:
        ReplicationError: they do.
    """
    module = network.network.module
    network.network.write(theta)
    few = slice(0, _FEW)
    before = network.losses(loss, few)
    try:
        module.train()
        module.eval()
        network.network.write(theta)
        after = network.losses(loss, few)
    except Exception:  # modes that cannot be changed keep nothing
        return
    if not torch.allclose(before, after, rtol=network.tolerance, atol=network.tolerance, equal_nan=True):
        raise ReplicationError(
            "The network computes values from its weights when it enters evaluation mode and keeps them (fused or expanded weights), so "
            "they are wrong at other weights, and the weights get no gradient through them; compute them in every forward pass."
        )


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

    def empty(self, way: Way) -> None:
        """Make it as it is before the first call, as far as that can be guessed."""
        value = self.holder[self.name]
        if way == "none":
            self.holder[self.name] = None
        elif way == "zeros" and isinstance(value, Tensor):
            self.holder[self.name] = torch.zeros_like(value)
        elif way == "removed" or isinstance(getattr(type(self.module), self.name, None), functools.cached_property):
            del self.holder[self.name]
        elif isinstance(value, bool):
            self.holder[self.name] = False
        else:
            self.holder[self.name] = type(value)() if isinstance(value, dict | list) else None

    @property
    def is_flag(self) -> bool:
        """Whether it may say that other attributes are filled."""
        value = self.holder.get(self.name)
        return isinstance(value, bool) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point())

    @property
    def is_filled(self) -> bool:
        """Whether it has a value other than the empty one."""
        value = self.holder.get(self.name)
        if isinstance(value, Tensor | np.ndarray | float):
            return True
        return bool(value) if isinstance(value, dict | list | bool) else bool(tensors_of(_plain(value)))


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
        for way in ("empty", "none", "removed", "zeros"):
            with contextlib.suppress(Exception):  # a forward pass that needs the attribute fills nothing by itself
                stale = stale or _is_stale(network, loss, places, own, theta, way)
            for place, value in zip(places, before, strict=True):
                place.holder[place.name] = value
        if stale:
            raise ReplicationError(
                f"Attribute '{names[1]}' of a {names[0].__name__} is computed from the weights in the first call and kept, so it is wrong "
                "at other weights; compute it in every forward pass."
            )


def _is_stale(network: Arithmetic, loss: PerExampleLoss, places: list[_Place], own: Tensor, theta: Tensor, way: Way) -> bool:
    def filled(point: Tensor, *, empty: bool = True) -> list[Tensor]:
        if empty:
            for place in places:
                place.empty(way)
        network.network.write(point)
        network.losses(loss, slice(0, _FEW))
        return [_contents(place) for place in places]

    start = filled(own)
    if not any(place.is_filled for place in places):
        return False
    kept, new = filled(theta, empty=False), filled(theta)
    return _equal(start, kept) and not _equal(start, new)


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
    own = [attribute for name, attribute in vars(place.module).items() if name not in _OF_MODULES]
    tree = [*own, *place.module._buffers.values()] if place.is_flag else value
    numbers = [tensor.detach().double().flatten() for tensor in tensors_of(_plain(tree)) if not tensor.is_complex()]
    return torch.cat(numbers) if numbers else torch.empty(0, dtype=torch.float64)


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    """The tensors and numbers in a value, in a list: in containers, objects, partial functions and closures, to some depth.

    Parameters and modules are left out; a module in a container is none of the network's own.
    """
    if isinstance(value, nn.Parameter | type | str | bytes) or not depth:
        return []
    if isinstance(value, nn.Module):
        return [tensor.detach() for tensor in value.state_dict().values()] if depth < _DEPTH else []
    if isinstance(value, Tensor | np.ndarray):
        return value
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    return [_plain(item, depth - 1) for item in _parts(value)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, Collection):
        return list(value)
    if isinstance(value, functools.partial):
        return [*value.args, *value.keywords.values(), value.func]
    if isinstance(value, types.FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if _has_contents(cell)]
    return list(vars(value).values()) if hasattr(value, "__dict__") and not callable(value) else []


def _has_contents(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not assigned yet
        return False
