"""The papers' networks, one file per family, built by name.

``build(name, classes=..., channels=..., seed=...)`` returns a freshly initialised ``torch.nn.Module``; PyTorch's global
generator is used and then restored, so the same seed always gives the same weights.
Keywords beyond these make reduced versions of the same network: narrower, shallower, for smaller images. What is known
of a model without building it is in its ``Entry``; nothing here imports torch until a model is built.

The families share ``parts`` (blocks and layers) and ``initialisation``; ``counting`` counts parameters and multiply-accumulates.
"""

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.errors import ReplicationError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Entry:
    """A model as published.

    Attributes:
        family: the module under ``replication.models`` that defines it.
        paper: short name of the paper.
        image: channels, height and width of its input.
        overrides: keywords of ``build`` for reduced versions.
        classes: outputs.
    """

    family: str
    paper: str
    image: tuple[int, int, int]
    overrides: tuple[str, ...]
    classes: int = 10


_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)
_RESNET = ("image_size", "width", "depth")
_LANDSCAPE_RESNETS = (
    *(f"resnet{depth}{tail}" for depth in (20, 56, 110) for tail in ("", "_noshort")),
    *(f"wide_resnet56_k{k}{tail}" for k in (1, 2, 4, 8) for tail in ("", "_noshort")),
)
_ENTRIES = {
    "vgg9": Entry("vgg", "landscape", _CIFAR, ("image_size", "width", "stages", "uniform_scale")),
    **{name: Entry("resnet", "landscape", _CIFAR, _RESNET) for name in _LANDSCAPE_RESNETS},
    "densenet121": Entry("densenet", "landscape", _CIFAR, ("image_size", "growth", "blocks")),
    "mnist_fc": Entry("mlp", "LCA", _MNIST, ("image_size", "hidden")),
    "lenet": Entry("lenet", "LCA", _MNIST, ("image_size", "width", "hidden", "dropout")),
    "allcnn": Entry("allcnn", "LCA", _CIFAR, ("image_size", "width", "dropout")),
    "lca_resnet20": Entry("resnet", "LCA", _CIFAR, _RESNET),
    "svcca_toy": Entry("mlp", "SVCCA", (1, 1, 1), ("image_size", "hidden"), classes=4),
    "svcca_convnet": Entry("convnet", "SVCCA", _CIFAR, ("image_size", "width", "hidden")),
    "svcca_resnet32": Entry("preactivation_resnet", "SVCCA", _CIFAR, _RESNET),
    "svcca_lstm": Entry("lstm", "SVCCA", (1, 20, 28), ("units", "layers"), classes=28),
    "pwcca_convnet": Entry("convnet", "PWCCA", _CIFAR, ("image_size", "width")),
    "stiffness_fc": Entry("mlp", "stiffness", _MNIST, ("image_size", "hidden", "unit_sphere")),
    "stiffness_cnn": Entry("convnet", "stiffness", _CIFAR, ("image_size", "width", "unit_sphere")),
    "stiffness_fc_v1": Entry("mlp", "stiffness", _MNIST, ("image_size", "hidden")),
    "stiffness_cnn_v1": Entry("convnet", "stiffness", _CIFAR, ("image_size", "widths")),
    "stiffness_resnet20": Entry("resnet", "stiffness", _CIFAR, _RESNET),
}


def names() -> tuple[str, ...]:
    """Every model's name."""
    return tuple(_ENTRIES)


def entry_of(name: str) -> Entry:
    """What is known of a model without building it.

    Raises:
        ReplicationError: there is no model of this name.
    """
    if name not in _ENTRIES:
        raise ReplicationError(f"There is no model '{name}'{_hint(name, _ENTRIES)}; allowed: {', '.join(_ENTRIES)}.")
    return _ENTRIES[name]


def module_of(name: str) -> str:
    """The dotted module that defines a model: what its training depends on."""
    return f"{__name__}.{entry_of(name).family}"


def build(name: str, *, classes: int, channels: int, seed: int, **overrides: Any) -> "nn.Module":
    """A model by name for images with ``channels`` channels, initialised from ``seed``.

    Args:
        overrides: what differs from the published form, such as ``width=8, image_size=16``; ``entry_of(name).overrides``
            has the keywords and the model's own documentation their meaning.

    Raises:
        ReplicationError: there is no model of this name, it has no such override, or the override's value cannot be built.
    """
    allowed = entry_of(name).overrides
    for key in overrides:
        if key not in allowed:
            raise ReplicationError(f"Model '{name}' has no setting '{key}'{_hint(key, allowed)}; allowed: {', '.join(allowed)}.")
    import torch  # here, so that reading a configuration does not wait for torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(importlib.import_module(module_of(name)), name)(classes=classes, channels=channels, **overrides)
    return model


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""
