"""The papers' networks, one file per family, built by name.

``build(name, classes, channels)`` returns a freshly initialised ``torch.nn.Module``; PyTorch's global generator is used
and given back as it was found, so the same seed gives the same weights whatever was drawn before.
"""

import importlib
from typing import TYPE_CHECKING

from replication.errors import ReplicationError

if TYPE_CHECKING:
    from torch import nn

_FAMILIES = {"mnist_fc": "mlp", "lenet": "lenet"}


def names() -> tuple[str, ...]:
    """Every model's name."""
    return tuple(_FAMILIES)


def module_of(name: str) -> str:
    """The dotted module that defines a model: what its training depends on."""
    return f"{__name__}.{_FAMILIES[name]}"


def build(name: str, *, classes: int, channels: int, seed: int) -> "nn.Module":
    """A model by name for images with ``channels`` channels, initialised from ``seed``.

    Raises:
        ReplicationError: there is no model of this name.
    """
    import torch  # here, so that reading a configuration does not wait for torch

    if name not in _FAMILIES:
        raise ReplicationError(f"There is no model '{name}'; allowed: {', '.join(_FAMILIES)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(importlib.import_module(module_of(name)), name)(classes=classes, channels=channels)
    return model
