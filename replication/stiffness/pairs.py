"""The stiffness of every pair of examples, with what cannot be said about a pair counted and never shown as zero."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from replication.errors import ReplicationError

Kind = Literal["sign", "cosine"]
Norms = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pairs:
    """Stiffness of pairs of examples, rows by columns.

    Attributes:
        stiffness: float64 ``[n, m]``: the sign or the cosine; nan where it is not defined.
        used: bool ``[n, m]``: pairs with a stiffness; without an example and itself unless asked for.
        zero_gradient: pairs of which a gradient is zero (and both are finite): no direction, so no stiffness.
        non_finite: pairs whose product or one of whose norms is infinite or nan.
        labels, column_labels: classes of the rows ``[n]`` and of the columns ``[m]``.
        same: rows and columns are the same examples.
    """

    stiffness: Tensor
    used: Tensor
    zero_gradient: Tensor
    non_finite: Tensor
    labels: Tensor
    column_labels: Tensor
    same: bool

    def resampled(self, generator: torch.Generator, resamples: int) -> Iterator[tuple[Tensor, Tensor]]:
        """How often each row's and each column's example is drawn, float64 ``([n], [m])``: with replacement, within each class."""
        for _ in range(resamples):
            weights = _drawn(self.labels, generator)
            yield weights, weights if self.same else _drawn(self.column_labels, generator)


def pairs_of(
    gram: Tensor,
    labels: Tensor,
    kind: Kind,
    *,
    include_self: bool = False,
    column_labels: Tensor | None = None,
    squared_norms: Norms | None = None,
) -> Pairs:
    """Signs or cosines of the products in ``gram``; arguments and errors are those of ``stiffness.class_matrix``.

    A product of exactly zero between gradients that are not zero is a stiffness of 0. torch.sign(nan) is 0, which would show a
    diverged run as the predicted result.

    Example:
        >>> import torch
        >>> from replication.stiffness import pairs_of
        >>> pairs_of(torch.tensor([[4.0, -3.0], [-3.0, 9.0]]), torch.tensor([0, 1]), "cosine").stiffness
        tensor([[    nan, -0.5000],
                [-0.5000,     nan]], dtype=torch.float64)
    """
    if kind not in ("sign", "cosine"):
        raise ReplicationError(f"Stiffness of kind '{kind}' is not known; choose 'sign' or 'cosine'.")
    gram, labels = torch.as_tensor(gram), torch.as_tensor(labels)
    column_labels = None if column_labels is None else torch.as_tensor(column_labels)
    squared_norms = None if squared_norms is None else (torch.as_tensor(squared_norms[0]), torch.as_tensor(squared_norms[1]))
    same = column_labels is None and squared_norms is None
    _check(gram, labels, column_labels, squared_norms, same)
    gram = gram.double()
    norms = tuple(square.to(gram).sqrt() for square in ((gram.diag(),) * 2 if same else squared_norms or ()))
    pairwise = [norms[0][:, None], norms[1][None, :]]
    finite = gram.isfinite() & pairwise[0].isfinite() & pairwise[1].isfinite()
    zero = finite & ((pairwise[0] == 0) | (pairwise[1] == 0))
    wanted = torch.ones_like(finite)
    if same and not include_self:
        wanted.fill_diagonal_(False)
    used = wanted & finite & ~zero
    # one norm after the other: their product may underflow where neither does
    values = gram.sign() if kind == "sign" else gram / pairwise[0] / pairwise[1]
    stiffness = torch.where(used, values, torch.nan)
    rows = labels.to(gram.device)
    return Pairs(
        stiffness, used, wanted & zero, wanted & ~finite, rows, rows if column_labels is None else column_labels.to(gram.device), same
    )


def _check(gram: Tensor, labels: Tensor, column_labels: Tensor | None, squared_norms: Norms | None, same: bool) -> None:
    if (column_labels is None) != (squared_norms is None):
        raise ReplicationError("Two sets of examples need column_labels and squared_norms both; give both, or neither for one set.")
    columns = labels if column_labels is None else column_labels
    if gram.shape != (len(labels), len(columns)):
        raise ReplicationError(
            f"The Gram matrix has shape {tuple(gram.shape)}, and the labels are of {len(labels)} and {len(columns)} examples; "
            "give one label per row and column (column_labels and squared_norms for two sets of examples)."
        )
    if not gram.numel():
        raise ReplicationError(f"The Gram matrix has shape {tuple(gram.shape)} and no entries; give at least one example.")
    if not same and squared_norms is not None and [norms.shape for norms in squared_norms] != [labels.shape, columns.shape]:
        raise ReplicationError(
            f"The squared norms have shapes {[tuple(norms.shape) for norms in squared_norms]}; "
            f"the rows and columns need {[tuple(labels.shape), tuple(columns.shape)]}."
        )


def _drawn(labels: Tensor, generator: torch.Generator) -> Tensor:
    weights = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        chosen = torch.randint(len(members), (len(members),), generator=generator, device=generator.device)
        weights += torch.bincount(members[chosen.to(labels.device)], minlength=len(labels))
    return weights
