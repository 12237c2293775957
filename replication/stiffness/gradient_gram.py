"""All dot products of per-example gradients, layer by layer, without the gradient matrix of the whole network.

K_ij = g_i . g_j with g_i the gradient of example i's loss (Fort et al. 2019, arXiv 1901.09491, equations 1 to 5). K is the sum
of the layers' K, and a layer's comes from the cheapest form of its gradients (``example_gradients``). Layers whose gradients
fit into the memory allowed share one pass over the examples; a layer too large for it goes through pairs of blocks of examples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.losses import PerExampleLoss, class_indices, cross_entropy, one_per_example
from replication.stiffness.example_gradients import (
    Calls,
    ExampleGradients,
    Layer,
    Stored,
    dot_products,
    numbers_of,
    possible_forms,
    squared_lengths,
)

TOTAL = "total"
Examples = tuple[Tensor, Tensor]
_CHUNK_NUMBERS = 2**23  # captured inputs and outputs at a time
_TILE = 128  # rows of K at a time: of a square K only what lies right of the diagonal is computed
_TILE_NUMBERS = 2**24  # products of positions at a time
_TOLERANCE = 1e-6  # relative, of forms and of losses compared in float64


def gram(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: Sequence[str] | None = None,
    *,
    other: Examples | None = None,
    theta: Tensor | None = None,
    loss: Literal["cross_entropy"] | PerExampleLoss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
    memory: float = 2**30,
    per_layer: bool = True,
) -> dict[str, Tensor]:
    """The Gram matrices of per-example gradients, by layer and in total (stiffness specification, section 1.7).

    All parameters take part, whether they require gradients or not. ``dtype`` is of the network and of the products; late in
    training float32 gives many pairs the wrong sign (specification, trap 14). The softmax and its derivative are float64 always.

    Args:
        model: in evaluation mode; copied, never changed.
        images: ``[n, ...]``.
        labels: ``[n]``, class indices (or whatever ``loss`` takes).
        layers: names of modules that have parameters of their own, as in ``objective.layout``; all by default.
        other: further examples ``(images [m, ...], labels [m])`` for the columns; the same examples by default.
        theta: parameters instead of the model's own ``[n_parameters]``, in the order of ``named_parameters()``.
        loss: ``"cross_entropy"`` or a function of outputs and labels that returns one loss per example ``[n]``, without regularisers.
        device: where to compute; default: where the images are.
        chunk: examples in a forward and backward pass; changes nothing but rounding.
        memory: bytes for stored gradients, beside one chunk's activations and the results; at least two examples of the largest layer.
        per_layer: False keeps the total only.

    Returns:
        float64 ``[n, n]`` or ``[n, m]`` for each layer by name, and under ``"total"`` the sum of the layers asked for.

    Raises:
        ReplicationError: examples interact or chance takes part, an unknown layer, no examples, unequal numbers of images and labels,
            a vector of the wrong length, a loss that is not one per example, or sizes that are not positive.
    """
    _check_examples(images, labels, loss)
    source, plan, chunk = _prepare(model, images, labels, layers, theta, loss, dtype, device, chunk)
    rows = source.prepare(images, labels)
    columns = rows if other is None else source.prepare(*other)
    shape = (len(rows[1]), len(columns[1]))
    total = torch.zeros(shape, dtype=torch.float64, device=rows[0].device)
    grams = {layer.name: torch.zeros_like(total) if per_layer else total for layer in plan}
    _check_examples(*(other or rows), loss)
    capacity = _positive("memory", memory) / dtype.itemsize
    for group in _groups(plan, max(shape) if other is None else sum(shape), capacity):
        for across, down, left, right in _blocks(source, group, rows, None if other is None else columns, chunk, capacity):
            for layer in group:
                _add_products(grams[layer.name][across, down], left[layer.name], right[layer.name], symmetric=left is right)
    for matrix in grams.values() if per_layer else [total]:
        if other is None:
            matrix.copy_(matrix.triu() + matrix.triu(1).T)
        if per_layer:
            total += matrix
    return (grams if per_layer else {}) | {TOTAL: total}


def squared_norms(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: Sequence[str] | None = None,
    *,
    theta: Tensor | None = None,
    loss: Literal["cross_entropy"] | PerExampleLoss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Squared norms of the per-example gradients, the diagonal of ``gram``, at the cost of one pass.

    A rectangular Gram matrix needs them for its cosines and to tell zero gradients from orthogonal ones. Arguments and errors
    are those of ``gram``.

    Returns:
        float64 ``[n]`` for each layer by name and under ``"total"``.
    """
    _check_examples(images, labels, loss)
    source, plan, chunk = _prepare(model, images, labels, layers, theta, loss, dtype, device, chunk)
    pictures, targets = source.prepare(images, labels)
    pieces: dict[str, list[Tensor]] = {layer.name: [] for layer in plan}
    for some, their in zip(pictures.split(chunk), targets.split(chunk), strict=True):
        for name, stored in source.gradients(plan, some, their).items():
            pieces[name].append(squared_lengths(stored).double())
    norms = {name: torch.cat(parts) for name, parts in pieces.items()}
    return norms | {TOTAL: torch.stack(list(norms.values())).sum(0)}


def _check_examples(images: Tensor, labels: Tensor, loss: Literal["cross_entropy"] | PerExampleLoss) -> None:
    if len(images) == 0 or len(images) != len(labels):
        raise ReplicationError(
            f"The Gram matrix was given {len(images)} images and {len(labels)} labels; give one label for each of at least one image."
        )
    if loss == "cross_entropy":
        class_indices(labels)


def _prepare(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: Sequence[str] | None,
    theta: Tensor | None,
    loss: Literal["cross_entropy"] | PerExampleLoss,
    dtype: torch.dtype,
    device: torch.device | str | None,
    chunk: int | None,
) -> tuple[ExampleGradients, list[Layer], int]:
    """The source of gradients, the layers with their forms, and how many examples to take at a time."""
    if dtype not in (torch.float64, torch.float32):
        raise ReplicationError(f"Gradients cannot be taken in {dtype}; choose torch.float64 or torch.float32.")
    function: PerExampleLoss = cross_entropy if loss == "cross_entropy" else one_per_example(loss)
    where = torch.device(device) if device is not None else images.device
    trial = ExampleGradients(model, theta=theta, loss=function, dtype=torch.float64, device=where)
    source = trial if dtype == torch.float64 else ExampleGradients(model, theta=theta, loss=function, dtype=dtype, device=where)
    chosen = trial.layers(layers)
    some, their = trial.prepare(images[:2], labels[:2])
    _refuse_interaction(trial, some, their)
    calls, alone = trial.capture(chosen, some, their), trial.one_by_one(chosen, some, their)
    plan = [_with_form(trial, layer, calls[layer.name], alone[layer.name]) for layer in chosen]
    if chunk is not None:
        return source, plan, int(_positive("chunk", chunk))
    captured = sum(_numbers(inputs) + d[0].numel() for entries in calls.values() for inputs, d in entries)
    return source, plan, max(1, min(len(images), _CHUNK_NUMBERS // max(1, captured)))


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


def _groups(plan: Sequence[Layer], n: int, capacity: float) -> Iterator[list[Layer]]:
    """Consecutive layers whose stored gradients fit together; a layer too large on its own is a group on its own."""
    group: list[Layer] = []
    for layer in plan:
        if group and n * (sum(member.numbers for member in group) + layer.numbers) > capacity:
            yield group
            group = []
        group.append(layer)
    yield group


def _blocks(
    source: ExampleGradients, group: list[Layer], rows: Examples, columns: Examples | None, chunk: int, capacity: float
) -> Iterator[tuple[slice, slice, dict[str, Stored], dict[str, Stored]]]:
    """Every pair of blocks of examples once (of a square only the upper triangle), with both blocks' gradients."""
    numbers, n = sum(layer.numbers for layer in group), len(rows[1]) + (len(columns[1]) if columns is not None else 0)
    size = n if n * numbers <= capacity else max(1, int(capacity / (2 * numbers)))
    starts = range(0, len(rows[1]), size)
    for first in starts:
        across = slice(first, min(first + size, len(rows[1])))
        left = _stored(source, group, rows, across, chunk)
        if columns is None:
            yield across, across, left, left
        against = rows if columns is None else columns
        for second in range(across.stop if columns is None else 0, len(against[1]), size):
            down = slice(second, min(second + size, len(against[1])))
            yield across, down, left, _stored(source, group, against, down, chunk)


def _stored(source: ExampleGradients, group: list[Layer], examples: Examples, block: slice, chunk: int) -> dict[str, Stored]:
    """The gradients of a block of examples by layer, written in place chunk by chunk."""
    images, labels = (tensor[block] for tensor in examples)
    kept: dict[str, Stored] = {}
    done = 0
    for some, their in zip(images.split(chunk), labels.split(chunk), strict=True):
        for name, pieces in source.gradients(group, some, their).items():
            if name not in kept:
                kept[name] = tuple(piece.new_empty(len(labels), *piece.shape[1:]) for piece in pieces)
            for whole, piece in zip(kept[name], pieces, strict=True):
                whole[done : done + len(their)] = piece
        done += len(their)
    return kept


def _add_products(target: Tensor, left: Stored, right: Stored, *, symmetric: bool) -> None:
    """Add the dot products to ``target`` ``[n, m]``, tile by tile; of a symmetric one the tiles from the diagonal to the right."""
    positions = left[0].shape[1] if len(left) == 2 else 1
    tile = max(1, min(_TILE, _TILE_NUMBERS // (positions**2 * target.shape[1])))
    for first in range(0, len(target), tile):
        start = first if symmetric else 0
        upper = tuple(tensor[first : first + tile] for tensor in left)
        target[first : first + tile, start:] += dot_products(upper, tuple(tensor[start:] for tensor in right))


def _numbers(inputs: tuple[Any, ...]) -> int:
    return sum(item[0].numel() for item in inputs if isinstance(item, Tensor) and item.dim())


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ReplicationError(f"The {name} is {value}; give a positive number.")
    return value
