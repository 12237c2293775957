"""What is decided before a Gram matrix is computed: the form of every layer, and how many examples are taken at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.losses import PerExampleLoss, cross_entropy, one_per_example
from replication.stiffness.example_gradients import Calls, ExampleGradients, Layer, Stored, dot_products, numbers_of, possible_forms

Loss = Literal["cross_entropy"] | PerExampleLoss
_CHUNK_NUMBERS = 2**23  # captured inputs and outputs at a time
_TOLERANCE = 1e-6  # relative, of forms and of losses compared in float64


@dataclass(frozen=True, kw_only=True)
class Options:
    """How gradients are taken; each field is the argument of ``gram`` of that name."""

    layers: Sequence[str] | None = None
    theta: Tensor | None = None
    loss: Loss = "cross_entropy"
    dtype: torch.dtype = torch.float64
    device: torch.device | str | None = None
    chunk: int | None = None


@dataclass(frozen=True)
class Plan:
    """How the Gram matrices of one model are computed.

    Attributes:
        source: takes the gradients.
        layers: the layers asked for, each with its form, in the order of the model.
        chunk: examples in a forward and backward pass.
    """

    source: ExampleGradients
    layers: list[Layer]
    chunk: int


def plan_of(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Plan:
    """Compare each layer's possible forms with plain autograd on the first two examples, and choose.

    Raises:
        ReplicationError: as ``gram``.
    """
    dtype = options.dtype
    if dtype not in (torch.float64, torch.float32):
        raise ReplicationError(f"Gradients cannot be taken in {dtype}; choose torch.float64 or torch.float32.")
    loss: PerExampleLoss = cross_entropy if options.loss == "cross_entropy" else one_per_example(options.loss)
    device = torch.device(options.device) if options.device is not None else images.device
    trial = ExampleGradients(model, theta=options.theta, loss=loss, dtype=torch.float64, device=device)
    source = trial if dtype == torch.float64 else ExampleGradients(model, theta=options.theta, loss=loss, dtype=dtype, device=device)
    chosen = trial.layers(options.layers)
    two_images, two_labels = trial.prepare(images[:2], labels[:2])
    _refuse_interaction(trial, two_images, two_labels)
    calls, alone = trial.capture(chosen, two_images, two_labels), trial.one_by_one(chosen, two_images, two_labels)
    layers = [_with_form(trial, layer, calls[layer.name], alone[layer.name]) for layer in chosen]
    if options.chunk is not None:
        return Plan(source, layers, int(positive("chunk", options.chunk)))
    captured = sum(_numbers(inputs) + d[0].numel() for entries in calls.values() for inputs, d in entries)
    return Plan(source, layers, max(1, min(len(images), _CHUNK_NUMBERS // max(1, captured))))


def positive(name: str, value: float) -> float:
    """The value of an argument that must be above zero.

    Raises:
        ReplicationError: it is not.
    """
    if not value > 0:
        raise ReplicationError(f"The {name} is {value}; give a positive number.")
    return value


def _refuse_interaction(source: ExampleGradients, images: Tensor, labels: Tensor) -> None:
    """Raise where the loss of an example changes with its company: a gradient of one example is then not defined."""
    with torch.no_grad():
        together = source.losses(images, labels)
        alone = torch.cat([source.losses(image[None], label[None]) for image, label in zip(images, labels, strict=True)])
    if not torch.allclose(together, alone, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
        raise ReplicationError(
            f"The first two examples have losses {together.tolist()} together and {alone.tolist()} alone; gradients of single "
            "examples need a model in which examples do not interact."
        )


def _with_form(source: ExampleGradients, layer: Layer, calls: Calls, alone: Stored) -> Layer:
    """The layer with the first form whose products on two examples equal those of plain autograd."""
    module, expected = source.modules[layer.name], dot_products(alone, alone)
    norms = expected.diag().sqrt()
    allowed = _TOLERANCE * norms.outer(norms)
    for form in possible_forms(module, layer, calls)[:-1]:
        candidate = replace(layer, form=form, numbers=numbers_of(module, layer, form, calls))
        try:
            stored = source.form(candidate, calls)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # a module that vmap or this form cannot follow
            continue
        differences = (dot_products(stored, stored) - expected).abs()
        if bool((differences <= allowed).all()) or not bool(expected.isfinite().all()):
            return candidate
    return replace(layer, form="loop", numbers=alone[0].shape[1])


def _numbers(inputs: tuple[Any, ...]) -> int:
    return sum(item[0].numel() for item in inputs if isinstance(item, Tensor) and item.dim())
