"""A Gram matrix that was computed in a faster way is checked against plain autograd before it is given out.

Two checks: the products of a few examples drawn over the whole set, whose gradients were taken one by one; and for more of them
the identity ``w' K w = |sum_i w_i g_i|^2`` with random weights w, whose right side is one plain backward pass. If K were wrong for
any of these examples, the identity would hold only for weights of probability zero. Gradients that are all zero prove nothing, so a
layer without any among the examples drawn is checked on the whole set. A chunk of examples whose forward pass builds a graph of
another shape than those checked so far, since some example takes another branch, is checked by the same identity on its own.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import Tree
from replication.stiffness.example_gradients import Layer, Stored
from replication.stiffness.layer_forms import UnfitFormError, dot_products
from replication.stiffness.plan import Plan, agrees

_WEIGHTED = 16  # examples of the second check
_REASON = "their products disagree with plain autograd"


def refuse_wrong_layers(
    plan: Plan, group: Sequence[Layer], matrices: Mapping[str, Tensor], rows: ExampleSet, columns: ExampleSet | None
) -> None:
    """Raise an error where products disagree with plain autograd; the loop itself is not checked.

    Args:
        matrices: ``[n, m]`` by layer, or one matrix of the whole group under another name.

    Raises:
        UnfitFormError: with the layers that disagree.
    """
    members = {name: [layer for layer in group if layer.name == name] or list(group) for name in matrices}
    members = {name: layers for name, layers in members.items() if any(layer.form != "loop" for layer in layers)}
    _refuse(members, [name for name in members if not _agrees_alone(plan, members[name], matrices[name])])
    if not members:
        return
    drawn = torch.randperm(rows.n, generator=_generator())[:_WEIGHTED]
    drawn_columns = None if columns is None else torch.randperm(columns.n, generator=_generator())[:_WEIGHTED]
    blank = _refuse_wrong_sums(plan, members, matrices, (rows, drawn), None if columns is None else (columns, drawn_columns))
    if blank and (len(drawn) < rows.n or (columns is not None and columns.n > _WEIGHTED)):
        whole = (rows, torch.arange(rows.n)), None if columns is None else (columns, torch.arange(columns.n))
        _refuse_wrong_sums(plan, {name: members[name] for name in blank}, matrices, *whole)


def checked_gradients(plan: Plan, group: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
    """``Plan.timed_gradients`` of a chunk, compared with plain autograd where its graph has a shape that was not compared before.

    Raises:
        UnfitFormError: a form that does not hold for these examples.
    """
    stored = plan.timed_gradients(group, inputs, labels)
    if plan.forms is None:
        return stored
    graph = plan.forms.graph
    new = [layer for layer in group if layer.form not in ("loop", "vmap") and (layer.name, graph) not in plan.graphs]
    if new:
        chunk = ExampleSet(inputs, labels)
        products = {layer.name: dot_products(stored[layer.name], stored[layer.name]) for layer in new}
        _refuse_wrong_sums(plan, {layer.name: [layer] for layer in new}, products, (chunk, torch.arange(chunk.n)), None)
        plan.graphs |= {(layer.name, graph) for layer in new}
    return stored


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _refuse(members: Mapping[str, Sequence[Layer]], names: Sequence[str]) -> None:
    if names:
        raise UnfitFormError({layer.name for name in names for layer in members[name] if layer.form != "loop"}, _REASON)


def _agrees_alone(plan: Plan, layers: Sequence[Layer], matrix: Tensor) -> bool:
    alone, k = plan.alone, len(plan.alone.rows)
    products = torch.stack([alone.products[layer.name] for layer in layers]).sum(0)
    norms = products.diag().sqrt()
    if alone.columns is None:
        return agrees(matrix[alone.rows][:, alone.rows], products, norms.outer(norms), plan.source.dtype)
    return agrees(matrix[alone.rows][:, alone.columns], products[:k, k:], norms[:k].outer(norms[k:]), plan.source.dtype)


def _refuse_wrong_sums(
    plan: Plan, members: Mapping[str, Sequence[Layer]], matrices: Mapping[str, Tensor], *sides: tuple[ExampleSet, Tensor | None] | None
) -> list[str]:
    """Compare weighted sums of products with products of weighted sums of gradients.

    Returns:
        the matrices for which all gradients of one side are zero though the layers take part.
    """
    (rows, i), columns = sides[0], sides[1]  # type: ignore[misc]
    j = i if columns is None else columns[1]
    finite = torch.stack([matrices[name][i][:, j].isfinite() for name in members]).all(0).cpu()
    i, j = i[finite.any(1)], j[finite.any(0)]  # type: ignore[index]
    if not len(i) or not len(j):
        return []
    w, left = _weighted_sum(plan, members, rows, i, seed=2)
    v, right = (w, left) if columns is None else _weighted_sum(plan, members, columns[0], j, seed=3)
    wrong, blank = [], []
    for name, layers in members.items():
        block = matrices[name][i][:, j]
        expected = torch.stack([(left[layer.name].double() * right[layer.name].double()).sum() for layer in layers]).sum()
        if not agrees(w @ block @ v, expected, w.abs() @ block.abs() @ v.abs(), plan.source.dtype):
            wrong.append(name)
        takes_part = any(layer.form not in ("unused", "loop") for layer in layers)
        if takes_part and not all(any(bool(side[layer.name].any()) for layer in layers) for side in (left, right)):
            blank.append(name)
    _refuse(members, wrong)
    return blank


def _weighted_sum(
    plan: Plan, members: Mapping[str, Sequence[Layer]], examples: ExampleSet, drawn: Tensor, *, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Random weights of the examples drawn, and the weighted sum of their gradients by layer."""
    layers = [layer for each in members.values() for layer in each]
    weights = torch.randn(len(drawn), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(plan.source.device)
    sums: dict[str, Tensor] = {}
    for indices, chunk in zip(drawn.split(plan.chunk), weights.split(plan.chunk), strict=True):
        pieces, _ = plan.source.weighted_sum(layers, *examples.select(indices), chunk)
        sums = {name: piece + sums[name] if name in sums else piece for name, piece in pieces.items()}
    return weights, sums
