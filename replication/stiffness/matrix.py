"""Stiffness: does a step on one example lower the loss of another? (Fort et al. 2019, arXiv 1901.09491)

The stiffness of two examples is the sign or the cosine of the dot product of their loss gradients: a step -e g_1 changes the
loss of example 2 by -e g_1 . g_2 to first order. Everything here is read off Gram matrices of per-example gradients
(``gradient_gram``); what depends on the distance of inputs is in ``distance``, groups of classes in ``groups``.

With cross-entropy and features that are not negative the last layer's share of a product within a class is never negative,
so the within-class sign is nearly always +1: look at cosines and at single layers beside it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from replication.errors import ReplicationError
from replication.stiffness.gradient_gram import TOTAL
from replication.stiffness.pairs import Kind, Norms, Pairs, pairs_of


@dataclass(frozen=True)
class ClassMatrix:
    """C(a, b): mean stiffness of pairs with the first example from class a and the second from class b.

    Attributes:
        classes: the labels that occur, in order ``[n_classes]``.
        mean: float64 ``[n_classes, n_classes]``; nan where there is no pair or one is not finite.
        pairs: pairs that the mean is taken over, ordered (i, j) and (j, i) both counted.
        zero_products: of these, pairs whose product is exactly zero though neither gradient is.
        zero_gradients: pairs left out because a gradient is zero, which has no direction.
        non_finite: pairs with an infinite or undefined product or norm.
    """

    classes: Tensor
    mean: Tensor
    pairs: Tensor
    zero_products: Tensor
    zero_gradients: Tensor
    non_finite: Tensor

    def within(self, *, weighting: Literal["class", "pair"] = "class") -> float:
        """Mean of the diagonal, with equal weight for every class or for every pair; classes without pairs are left out."""
        return self._average(torch.eye(len(self.classes), dtype=torch.bool, device=self.mean.device), weighting)

    def between(self, *, weighting: Literal["class", "pair"] = "class") -> float:
        """Mean off the diagonal: 1 / (Nc (Nc - 1)) sum over a != b of C(a, b), or with equal weight for every pair."""
        return self._average(~torch.eye(len(self.classes), dtype=torch.bool, device=self.mean.device), weighting)

    def statistics(self) -> dict[str, float]:
        """Diagonal mean; mean, standard deviation, minimum and maximum off the diagonal; largest asymmetry."""
        off = self.mean[~torch.eye(len(self.mean), dtype=torch.bool, device=self.mean.device)]
        asymmetry = (self.mean - self.mean.T).abs().max().item()
        if not len(off):
            return {
                "diag_mean": self.within(),
                **dict.fromkeys(("off_mean", "off_std", "off_min", "off_max"), math.nan),
                "max_asym": asymmetry,
            }
        spread = {"off_std": off.std(correction=0).item(), "off_min": off.min().item(), "off_max": off.max().item()}
        return {"diag_mean": self.mean.diag().mean().item(), "off_mean": off.mean().item(), **spread, "max_asym": asymmetry}

    def table(self) -> pd.DataFrame:
        """One row per cell: ``class_1``, ``class_2``, ``stiffness`` and the counts."""
        first, second = torch.cartesian_prod(self.classes, self.classes).T
        columns = {"class_1": first, "class_2": second, "stiffness": self.mean, "pairs": self.pairs, "zero_products": self.zero_products}
        columns |= {"zero_gradients": self.zero_gradients, "non_finite": self.non_finite}
        return pd.DataFrame({name: column.flatten().cpu().numpy() for name, column in columns.items()})

    def _average(self, cells: Tensor, weighting: Literal["class", "pair"]) -> float:
        used = cells & (self.pairs + self.non_finite > 0)
        weights = used.double() if weighting == "class" else (self.pairs * used).double()
        return (torch.where(used, self.mean * weights, 0.0).sum() / weights.sum()).item()


def class_matrix(
    gram: Tensor,
    labels: Tensor,
    kind: Kind = "sign",
    *,
    include_self: bool = False,
    column_labels: Tensor | None = None,
    squared_norms: Norms | None = None,
) -> ClassMatrix:
    """C(a, b) = E[S(X1, X2)] over X1 in class a and X2 in class b (version 1, equations 5 and 6; later versions for cosines).

    Args:
        gram: ``[n, n]`` of one set of examples, or ``[n, m]`` of two (training by validation), then with the two arguments below.
        labels: class indices of the rows ``[n]``.
        kind: ``"sign"`` or ``"cosine"``.
        include_self: count each example with itself, as equation 6 of version 1 has it; later versions leave these pairs out.
        column_labels: class indices of the columns ``[m]``, for two sets.
        squared_norms: squared norms of the rows' and the columns' gradients ``([n], [m])``, for two sets.

    Raises:
        ReplicationError: shapes that do not fit, an unknown kind, or two sets without their labels and norms.

    Example:
        >>> import torch
        >>> from replication.stiffness import class_matrix
        >>> gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
        >>> class_matrix(gradients @ gradients.T, torch.tensor([0, 0, 1])).mean
        tensor([[ 1., -1.],
                [-1., nan]], dtype=torch.float64)
    """
    pairs = pairs_of(gram, labels, kind, include_self=include_self, column_labels=column_labels, squared_norms=squared_norms)
    classes = torch.cat([pairs.labels, pairs.column_labels]).unique()
    rows, columns = (F.one_hot(torch.searchsorted(classes, side), len(classes)).double() for side in (pairs.labels, pairs.column_labels))

    def cells(values: Tensor) -> Tensor:
        return rows.T @ values.double() @ columns

    counted, infinite = cells(pairs.used), cells(pairs.non_finite)
    mean = cells(torch.where(pairs.used, pairs.stiffness, 0.0)) / counted
    mean[infinite > 0] = math.nan
    zero_products, zero_gradients = cells(pairs.used & (pairs.stiffness == 0)), cells(pairs.zero_gradient)
    return ClassMatrix(classes, mean, counted.long(), zero_products.long(), zero_gradients.long(), infinite.long())


def bootstrap(pairs: Pairs, *, generator: torch.Generator, resamples: int = 500) -> pd.DataFrame:
    """Within- and between-class stiffness of resampled examples, drawn with replacement within each class.

    Examples are drawn and not pairs: pairs that share an example are correlated. An example drawn twice is no pair with
    itself.

    Returns:
        columns ``within`` and ``between`` (class averages), one row per resample; nan where pairs are not finite.

    Example:
        >>> import torch
        >>> from replication.stiffness import bootstrap, pairs_of
        >>> gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
        >>> pairs = pairs_of(gradients @ gradients.T, torch.tensor([0, 0, 1]), "sign")
        >>> sample = bootstrap(pairs, generator=torch.Generator().manual_seed(0), resamples=100)
        >>> sample["between"].unique().tolist()
        [-1.0]
    """
    classes = torch.cat([pairs.labels, pairs.column_labels]).unique()
    rows, columns = (F.one_hot(torch.searchsorted(classes, side), len(classes)).double() for side in (pairs.labels, pairs.column_labels))
    values, used = torch.where(pairs.used, pairs.stiffness, 0.0), pairs.used.double()
    diagonal = torch.eye(len(classes), dtype=torch.bool, device=values.device)
    spoilt = bool(pairs.non_finite.any())
    estimates = []
    for weights, column_weights in pairs.resampled(generator, resamples):
        left, right = rows * weights[:, None], columns * column_weights[:, None]
        counted = left.T @ used @ right
        mean = left.T @ values @ right / counted
        estimates.append([math.nan if spoilt else mean[cells & (counted > 0)].mean().item() for cells in (diagonal, ~diagonal)])
    return pd.DataFrame(estimates, columns=["within", "between"])


def coherence(gram: Tensor) -> float:
    """m-coherence sum(K) / tr(K) (arXiv 2008.01217): 1 for orthogonal gradients, n for equal ones, below 1 for opposed ones.

    Args:
        gram: ``[n, n]``, as for all functions below.

    >>> import torch
    >>> coherence(torch.eye(4)), coherence(torch.ones(4, 4))
    (1.0, 4.0)
    """
    return (gram.sum() / gram.trace()).item()


def diversity(gram: Tensor) -> float:
    """Gradient diversity tr(K) / sum(K), the inverse of ``coherence``.

    >>> import torch
    >>> diversity(torch.ones(4, 4))
    0.25
    """
    return (gram.trace() / gram.sum()).item()


def confusion(gram: Tensor) -> float:
    """Gradient confusion -min over i != j of K_ij (arXiv 1904.06963); nan for a single example or where a product is nan.

    >>> import torch
    >>> confusion(torch.tensor([[1.0, -0.5], [-0.5, 2.0]]))
    0.5
    """
    off = gram[~torch.eye(len(gram), dtype=torch.bool, device=gram.device)]
    return -off.min().item() if len(off) else math.nan


def noise_scale(gram: Tensor) -> float:
    """Simple noise scale tr(S) / |g|^2 (McCandlish et al. 2018) in examples, with unbiased estimates of both.

    |g|^2 is the mean of K off the diagonal and tr(S) the mean of the diagonal less that; negative where the estimate of |g|^2 is.

    >>> import torch
    >>> noise_scale(torch.tensor([[3.0, 1.0], [1.0, 3.0]]))
    2.0
    """
    n = len(gram)
    squared_mean = (gram.sum() - gram.trace()) / (n * (n - 1)) if n > 1 else gram.new_tensor(math.nan)
    return (gram.trace() / n / squared_mean - 1).item()


def table(grams: Mapping[str, Tensor], labels: Tensor, *, include_self: bool = False) -> pd.DataFrame:
    """All numbers computed from square Gram matrices, one row per layer.

    Columns: ``layer``; ``within_sign``, ``within_cosine``, ``between_sign``, ``between_cosine`` (class averages); ``pairs`` (with a
    stiffness), ``zero_products``, ``zero_gradients``, ``non_finite`` (pairs); ``mean_norm`` of the gradients; ``trace_share`` of the
    total, where there is a total (hidden layers near 0: only the last layer learns, and it looks like strong class structure);
    ``coherence``, ``diversity``, ``confusion``, ``noise_scale``.

    Raises:
        ReplicationError: a matrix that is not square or does not fit the labels.

    Example:
        >>> import torch
        >>> from replication.stiffness import table
        >>> gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
        >>> table({"total": gradients @ gradients.T}, torch.tensor([0, 0, 1]))[["layer", "within_sign", "between_sign"]]
           layer  within_sign  between_sign
        0  total          1.0          -1.0
    """
    return pd.DataFrame(_rows(grams, labels, include_self))


def _rows(grams: Mapping[str, Tensor], labels: Tensor, include_self: bool) -> Iterator[dict[str, float | str]]:
    whole = grams[TOTAL].trace().item() if TOTAL in grams else math.nan
    for layer, matrix in grams.items():
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ReplicationError(f"The Gram matrix of '{layer}' has shape {tuple(matrix.shape)}; a table needs square ones, of one set.")
        signs, cosines = (class_matrix(matrix, labels, kind, include_self=include_self) for kind in ("sign", "cosine"))
        counts = ("pairs", "zero_products", "zero_gradients", "non_finite")
        yield {
            "layer": layer,
            "within_sign": signs.within(),
            "within_cosine": cosines.within(),
            "between_sign": signs.between(),
            "between_cosine": cosines.between(),
            **{name: int(getattr(signs, name).sum()) for name in counts},
            "mean_norm": matrix.diag().sqrt().mean().item(),
            "trace_share": matrix.trace().item() / whole if whole else math.nan,
            "coherence": coherence(matrix),
            "diversity": diversity(matrix),
            "confusion": confusion(matrix),
            "noise_scale": noise_scale(matrix),
        }
