"""All dot products of per-example gradients, layer by layer, without the gradient matrix of the whole network.

K_ij = g_i . g_j with g_i the gradient of example i's loss (Fort et al. 2019, arXiv 1901.09491, equations 1 to 5). K is the sum
of the layers' K, and a layer's comes from the cheapest form of its gradients (``example_gradients``). Layers whose gradients
fit into the memory allowed share one pass over the examples; a layer too large for it goes through pairs of blocks of examples.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.losses import class_indices
from replication.stiffness.example_gradients import Layer, Stored, dot_products, squared_lengths
from replication.stiffness.plan import Loss, Options, Plan, plan_of, positive

TOTAL = "total"
Examples = tuple[Tensor, Tensor]
_TILE = 128  # rows of K at a time: of a square K only what lies right of the diagonal is computed
_TILE_NUMBERS = 2**24  # products of positions at a time


def gram(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: Sequence[str] | None = None,
    *,
    columns: Examples | None = None,
    theta: Tensor | None = None,
    loss: Loss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
    memory: float = 2**30,
    per_layer: bool = True,
) -> dict[str, Tensor]:
    """The Gram matrices of per-example gradients, by layer and in total (Fort et al. 2019, equations 1 to 5).

    All parameters take part, whether they require gradients or not. ``dtype`` is that of the network and of the products: late in
    training float32 gives many pairs the wrong sign. The softmax and its derivative are always float64.

    Args:
        model: in evaluation mode; copied, never changed.
        images: ``[n, ...]``.
        labels: ``[n]``, class indices (or whatever ``loss`` takes).
        layers: names of modules that have parameters of their own, as in ``objective.layout``; all by default.
        columns: further examples ``(images [m, ...], labels [m])`` for the columns; the same examples by default.
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

    Example:
        Two equal images with different labels: the gradients are opposed, and their cosine is -1.

        >>> import torch
        >>> from replication.stiffness import gram
        >>> model = torch.nn.Linear(3, 2)
        >>> _ = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
        >>> gram(model, torch.ones(2, 3), torch.tensor([0, 1]))["total"]
        tensor([[ 2., -2.],
                [-2.,  2.]], dtype=torch.float64)
    """
    _check_examples(images, labels, loss)
    plan = plan_of(model, images, labels, Options(layers=layers, theta=theta, loss=loss, dtype=dtype, device=device, chunk=chunk))
    down = plan.source.prepare(images, labels)
    across = down if columns is None else plan.source.prepare(*columns)
    _check_examples(*(columns or down), loss)
    shape = (len(down[1]), len(across[1]))
    total = torch.zeros(shape, dtype=torch.float64, device=down[0].device)
    grams = {layer.name: torch.zeros_like(total) if per_layer else total for layer in plan.layers}
    capacity = positive("memory", memory) / dtype.itemsize
    for group in _groups(plan.layers, max(shape) if columns is None else sum(shape), capacity):
        for i, j, left, right in _blocks(plan, group, down, None if columns is None else across, capacity):
            for layer in group:
                _add_products(grams[layer.name][i, j], left[layer.name], right[layer.name], symmetric=left is right)
    for matrix in grams.values() if per_layer else [total]:
        if columns is None:
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
    loss: Loss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Squared norms of the per-example gradients, the diagonal of ``gram``, at the cost of one pass.

    A rectangular Gram matrix needs them for its cosines and to tell zero gradients from orthogonal ones. Arguments and errors
    are those of ``gram``.

    Returns:
        float64 ``[n]`` for each layer by name and under ``"total"``.

    Example:
        >>> import torch
        >>> from replication.stiffness import squared_norms
        >>> model = torch.nn.Linear(3, 2)
        >>> _ = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
        >>> squared_norms(model, torch.ones(2, 3), torch.tensor([0, 1]))["total"]
        tensor([2., 2.], dtype=torch.float64)
    """
    _check_examples(images, labels, loss)
    plan = plan_of(model, images, labels, Options(layers=layers, theta=theta, loss=loss, dtype=dtype, device=device, chunk=chunk))
    chunks = zip(*(tensor.split(plan.chunk) for tensor in plan.source.prepare(images, labels)), strict=True)
    pieces: dict[str, list[Tensor]] = {layer.name: [] for layer in plan.layers}
    for chunk_images, chunk_labels in chunks:
        for name, stored in plan.source.gradients(plan.layers, chunk_images, chunk_labels).items():
            pieces[name].append(squared_lengths(stored).double())
    norms = {name: torch.cat(parts) for name, parts in pieces.items()}
    return norms | {TOTAL: torch.stack(list(norms.values())).sum(0)}


def _check_examples(images: Tensor, labels: Tensor, loss: Loss) -> None:
    if len(images) == 0 or len(images) != len(labels):
        raise ReplicationError(
            f"The Gram matrix was given {len(images)} images and {len(labels)} labels; give one label for each of at least one image."
        )
    if loss == "cross_entropy":
        class_indices(labels)


def _groups(layers: Sequence[Layer], n: int, capacity: float) -> Iterator[list[Layer]]:
    """Consecutive layers whose stored gradients fit together; a layer too large on its own is a group on its own."""
    group: list[Layer] = []
    for layer in layers:
        if group and n * (sum(member.numbers for member in group) + layer.numbers) > capacity:
            yield group
            group = []
        group.append(layer)
    yield group


def _blocks(
    plan: Plan, group: list[Layer], rows: Examples, columns: Examples | None, capacity: float
) -> Iterator[tuple[slice, slice, dict[str, Stored], dict[str, Stored]]]:
    """Every pair of blocks of examples once (of a square only the upper triangle), with both blocks' gradients."""
    numbers, n = sum(layer.numbers for layer in group), len(rows[1]) + (len(columns[1]) if columns is not None else 0)
    size = n if n * numbers <= capacity else max(1, int(capacity / (2 * numbers)))
    for first in range(0, len(rows[1]), size):
        i = slice(first, min(first + size, len(rows[1])))
        left = _stored(plan, group, rows, i)
        if columns is None:
            yield i, i, left, left
        against = rows if columns is None else columns
        for second in range(i.stop if columns is None else 0, len(against[1]), size):
            j = slice(second, min(second + size, len(against[1])))
            yield i, j, left, _stored(plan, group, against, j)


def _stored(plan: Plan, group: list[Layer], examples: Examples, block: slice) -> dict[str, Stored]:
    """The gradients of a block of examples by layer, written in place chunk by chunk."""
    images, labels = (tensor[block] for tensor in examples)
    kept: dict[str, Stored] = {}
    done = 0
    for chunk_images, chunk_labels in zip(images.split(plan.chunk), labels.split(plan.chunk), strict=True):
        end = done + len(chunk_labels)
        for name, pieces in plan.source.gradients(group, chunk_images, chunk_labels).items():
            if name not in kept:
                kept[name] = tuple(piece.new_empty(len(labels), *piece.shape[1:]) for piece in pieces)
            for whole, piece in zip(kept[name], pieces, strict=True):
                whole[done:end] = piece
        done = end
    return kept


def _add_products(target: Tensor, left: Stored, right: Stored, *, symmetric: bool) -> None:
    """Add the dot products to ``target`` ``[n, m]``, tile by tile; of a symmetric one the tiles from the diagonal to the right."""
    positions = left[0].shape[1] if len(left) == 2 else 1
    tile = max(1, min(_TILE, _TILE_NUMBERS // (positions**2 * target.shape[1])))
    for first in range(0, len(target), tile):
        start = first if symmetric else 0
        upper = tuple(tensor[first : first + tile] for tensor in left)
        target[first : first + tile, start:] += dot_products(upper, tuple(tensor[start:] for tensor in right))
