"""All dot products of per-example gradients, layer by layer, without the gradient matrix of the whole network.

K_ij = g_i . g_j with g_i the gradient of example i's loss (Fort et al. 2019, arXiv 1901.09491, equations 1 to 5). K is the sum
of the layers' K, and a layer's comes from the cheapest form of its gradients that is right (``layer_forms``, ``trial``). Layers
whose gradients fit into the memory allowed share one pass over the examples; a layer too large for it goes through pairs of blocks
of examples. What comes out is checked against plain autograd (``proof``), and layers that fail are computed in a plainer way.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.example_sets import ExampleSet, examples_of
from replication.objective.inputs import Tree, take, tensors_of
from replication.objective.losses import Loss
from replication.objective.plain import computing
from replication.stiffness.example_gradients import Chosen, Layer, Stored
from replication.stiffness.layer_forms import UnfitFormError, dot_products, squared_lengths
from replication.stiffness.plan import Plan, agrees, positive
from replication.stiffness.proof import checked_gradients, refuse_wrong_layers
from replication.stiffness.trial import Options, plan_of

TOTAL = "total"
_TILE = 128  # rows of K at a time: of a square K only what lies right of the diagonal is computed
_TILE_NUMBERS = 2**24  # products of positions at a time


@computing(graph=True)
def gram(
    model: nn.Module,
    inputs: Any,
    labels: Tree = None,
    layers: Sequence[str] | None = None,
    *,
    columns: Any = None,
    parameters: Chosen = "all",
    theta: Tensor | None = None,
    loss: Loss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
    memory: float = 2**30,
    per_layer: bool = True,
    fast: bool = True,
) -> dict[str, Tensor]:
    """The Gram matrices of per-example gradients, by layer and in total (Fort et al. 2019, equations 1 to 5).

    The gradients are those of plain autograd, one example at a time. Faster ways are used where they agree with it on examples drawn
    over the whole set (of a finished matrix 16, drawn by a fixed seed); the logger ``replication.stiffness`` says at level INFO where
    they do not. ``dtype`` is that of the network and of the products: late in training float32 gives many pairs the wrong sign. The loss
    is always computed in float64.

    Args:
        model: in evaluation mode; copied, never changed.
        inputs: tensors or numpy arrays ``[n, ...]``, also in a tuple or dict; or, without labels, a ``Dataset`` or ``DataLoader``, which
            is read again for every block of examples.
        labels: ``[n]``, class indices (or whatever ``loss`` takes).
        layers: names of modules that have parameters of their own, as in ``objective.layout``; all by default.
        columns: further examples for the columns: ``(inputs [m, ...], labels [m])``, a ``Dataset`` or a ``DataLoader``; the same examples
            by default.
        parameters: "all" parameters, whether they require gradients or not, the "trainable" ones that do, or names of parameters.
        theta: parameters instead of the model's own ``[n_parameters]``, in the order of ``named_parameters()``.
        loss: as in ``Objective``: a name, a loss module, or a function of outputs and labels that returns one loss per example ``[n]``.
            An example with several labels (pixels, tokens) has the sum of their losses; signs and cosines do not depend on that.
        device: where to compute; default: where the inputs are.
        chunk: examples in a forward and backward pass; changes nothing but rounding.
        memory: bytes for stored gradients, beside one chunk's activations and the results; at least two examples of the largest layer.
        per_layer: False keeps the total only.
        fast: False takes every gradient by plain autograd, one example at a time.

    Returns:
        float64 ``[n, n]`` or ``[n, m]`` for each layer by name, and under ``"total"`` the sum of the layers asked for.

    Raises:
        ReplicationError: examples interact or chance takes part, an unknown layer or parameter, complex parameters, no examples, unequal
            numbers of inputs and labels, a vector of the wrong length, a loss that is not one per example, sizes that are not
            positive, or a layer named "total".

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
    options = Options(
        layers=layers, parameters=parameters, theta=theta, loss=loss, dtype=_checked(dtype), device=device, chunk=chunk, fast=fast
    )
    rows = examples_of(inputs, labels, device, dtype)
    across = None if columns is None else _columns(columns, tensors_of(rows.labels)[0].device, dtype)
    capacity = positive("memory", memory) / dtype.itemsize
    plan = plan_of(model, rows, across, options)
    if per_layer and TOTAL in plan.layers:
        raise ReplicationError(f"A layer is named '{TOTAL}', as the sum over layers is in the result; rename it, or give per_layer=False.")
    n = rows.n if across is None else rows.n + across.n
    grams: dict[str, Tensor] = {}
    pending = list(plan.layers)
    while pending:
        group = _first_group([plan.layers[name] for name in pending], n, capacity)
        try:
            matrices = _matrices(plan, group, rows, across, capacity, per_layer)
            refuse_wrong_layers(plan, group, matrices, rows, across)
        except UnfitFormError as error:
            plan.demote(error.layers, error.reason)
            continue
        pending = pending[len(group) :]
        if TOTAL in matrices and TOTAL in grams:
            grams[TOTAL] += matrices[TOTAL]
        else:
            grams |= matrices
    plan.log()
    return grams | {TOTAL: _sum(grams)} if per_layer else grams


@computing(graph=True)
def squared_norms(
    model: nn.Module,
    inputs: Any,
    labels: Tree = None,
    layers: Sequence[str] | None = None,
    *,
    parameters: Chosen = "all",
    theta: Tensor | None = None,
    loss: Loss = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
    fast: bool = True,
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
    options = Options(
        layers=layers, parameters=parameters, theta=theta, loss=loss, dtype=_checked(dtype), device=device, chunk=chunk, fast=fast
    )
    examples = examples_of(inputs, labels, device, dtype)
    plan = plan_of(model, examples, None, options)
    while True:
        try:
            norms = _norms(plan, examples)
            break
        except UnfitFormError as error:
            plan.demote(error.layers, error.reason)
    plan.log()
    return norms | {TOTAL: _sum(norms)}


def _sum(by_layer: dict[str, Tensor]) -> Tensor:
    total, *others = by_layer.values()
    total = total.clone()
    for values in others:
        total += values
    return total


def _norms(plan: Plan, examples: ExampleSet) -> dict[str, Tensor]:
    """Squared norms by layer.

    Raises:
        UnfitFormError: a form that does not hold, also where the norms of examples drawn disagree with plain autograd.
    """
    group = list(plan.layers.values())
    pieces: dict[str, list[Tensor]] = {name: [] for name in plan.layers}
    for piece in plan.pieces(group, 0, examples.n):
        for name, stored in checked_gradients(plan, group, *_select(examples, piece)).items():
            pieces[name].append(squared_lengths(stored).double())
    norms = {name: torch.cat(parts) for name, parts in pieces.items()}
    for layer in group:
        expected = plan.alone.products[layer.name].diag()
        if layer.form != "loop" and not agrees(norms[layer.name][plan.alone.rows], expected, expected, plan.source.dtype):
            raise UnfitFormError([layer.name], "its norms disagree with plain autograd")
    return norms


def _checked(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float64, torch.float32):
        raise ReplicationError(f"Gradients cannot be taken in {dtype}; choose torch.float64 or torch.float32.")
    return dtype


def _columns(columns: Any, device: torch.device | str, dtype: torch.dtype) -> ExampleSet:
    if isinstance(columns, tuple) and len(columns) == 2:
        return examples_of(*columns, device, dtype)
    return examples_of(columns, None, device, dtype)


def _select(examples: ExampleSet, block: slice) -> tuple[Tree, Tree]:
    if examples.in_memory:
        return take(examples.inputs, block), take(examples.labels, block)
    return examples.select(torch.arange(block.start, block.stop))


def _first_group(layers: Sequence[Layer], n: int, capacity: float) -> list[Layer]:
    """The first layers whose stored gradients fit together; a layer too large on its own is a group on its own."""
    group = [layers[0]]
    for layer in layers[1:]:
        if n * (sum(member.numbers for member in group) + layer.numbers) > capacity:
            break
        group.append(layer)
    return group


def _matrices(
    plan: Plan, group: Sequence[Layer], rows: ExampleSet, columns: ExampleSet | None, capacity: float, per_layer: bool
) -> dict[str, Tensor]:
    """The matrices of a group of layers, or their sum under ``"total"``."""
    shape = (rows.n, rows.n if columns is None else columns.n)
    names = [layer.name for layer in group] if per_layer else [TOTAL]
    matrices = {name: torch.zeros(shape, dtype=torch.float64, device=plan.source.device) for name in names}
    for i, j, left, right in _blocks(plan, group, rows, columns, capacity):
        for layer in group:
            target = matrices[layer.name if per_layer else TOTAL][i, j]
            _add_products(target, left[layer.name], right[layer.name], symmetric=left is right)
    if columns is None:
        for matrix in matrices.values():
            matrix.copy_(matrix.triu() + matrix.triu(1).T)
    return matrices


def _blocks(
    plan: Plan, group: Sequence[Layer], rows: ExampleSet, columns: ExampleSet | None, capacity: float
) -> Iterator[tuple[slice, slice, dict[str, Stored], dict[str, Stored]]]:
    """Every pair of blocks of examples once (of a square only the upper triangle), with both blocks' gradients."""
    numbers, n = sum(layer.numbers for layer in group), rows.n + (columns.n if columns is not None else 0)
    size = n if n * numbers <= capacity else max(1, int(capacity / (2 * numbers)))
    for first in range(0, rows.n, size):
        i = slice(first, min(first + size, rows.n))
        left = _stored(plan, group, rows, i)
        if columns is None:
            yield i, i, left, left
        against = rows if columns is None else columns
        for second in range(i.stop if columns is None else 0, against.n, size):
            j = slice(second, min(second + size, against.n))
            yield i, j, left, _stored(plan, group, against, j)


def _stored(plan: Plan, group: Sequence[Layer], examples: ExampleSet, block: slice) -> dict[str, Stored]:
    """The gradients of a block of examples by layer, written in place chunk by chunk."""
    kept: dict[str, Stored] = {}
    for piece in plan.pieces(group, block.start, block.stop):
        place = slice(piece.start - block.start, piece.stop - block.start)
        for name, parts in checked_gradients(plan, group, *_select(examples, piece)).items():
            if name not in kept:
                kept[name] = tuple(part.new_empty(block.stop - block.start, *part.shape[1:]) for part in parts)
            for whole, part in zip(kept[name], parts, strict=True):
                whole[place] = part
    return kept


def _add_products(target: Tensor, left: Stored, right: Stored, *, symmetric: bool) -> None:
    """Add the dot products to ``target`` ``[n, m]``, tile by tile; of a symmetric one the tiles from the diagonal to the right."""
    positions = left[0].shape[1] if len(left) == 2 else 1
    tile = max(1, min(_TILE, _TILE_NUMBERS // (positions**2 * target.shape[1])))
    for first in range(0, len(target), tile):
        start = first if symmetric else 0
        upper = tuple(tensor[first : first + tile] for tensor in left)
        target[first : first + tile, start:] += dot_products(upper, tuple(tensor[start:] for tensor in right))
