"""SVCCA and PWCCA of one pair of layers.

A layer is the span of its neurons over the examples. Activations are ``[n_examples, n_neurons]``; ``views`` makes them of a
convolutional layer.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.canonical import Cca, cca, correlate
from replication.svcca.factor import Factor, factorise
from replication.svcca.matrices import as_activations, check_pair
from replication.svcca.orthonormal import left_singular, singular_value_decomposition

Criterion = Literal["singular", "variance"]


@dataclass(frozen=True)
class Pwcca:
    """Projection-weighted CCA of two layers.

    Attributes:
        similarity: sum of weights * coefficients; the distance of the PWCCA paper is 1 - similarity.
        weights: float64 ``[c]``, of sum 1.
        coefficients: ρ, float64 ``[c]`` in [0, 1], largest first.
    """

    similarity: float
    weights: Tensor
    coefficients: Tensor


def svcca(x: Tensor, y: Tensor, keep: float = 0.99, criterion: Criterion = "singular", *, dimensions: int | None = None) -> Cca:
    """Canonical correlations of the leading singular directions of two layers (SVCCA, section 2 and appendix A).

    Args:
        x, y: as for ``cca``.
        keep: the share of the criterion that the kept directions must reach; the fewest leading directions that do are kept.
        criterion: ``"singular"``, the sum of singular values (appendix A), or ``"variance"``, the sum of their squares (the main
            text). The two keep quite different numbers of directions.
        dimensions: the number of directions to keep, in place of ``keep``; all where the layer has fewer.

    Raises:
        ReplicationError: as for ``cca``; keep outside (0, 1], an unknown criterion, or fewer than one dimension.

    >>> x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    >>> result = svcca(x, 2 * x + 1, dimensions=3)
    >>> (result.rank_x, round(result.similarity, 4))
    (3, 1.0)
    """
    check_pair(x, y)
    check_truncation(keep, criterion, dimensions)
    a = truncated(factorise(x, name="x"), keep, criterion, dimensions)
    b = truncated(factorise(y, name="y"), keep, criterion, dimensions)
    return correlate(a, b)


def pwcca(x: Tensor, y: Tensor, variant: Literal["paper", "official"] = "paper", *, epsilon: float = 0.0) -> Pwcca:
    """Projection-weighted CCA of two layers (PWCCA, section 2.2).

    ``"paper"``: weight_i = sum_j abs(<h_i, z_j>), normalised, with h_i the canonical variates of x and z_j its centred neurons. It is
    not symmetric: ``pwcca(y, x)`` takes its weights from y. Among equal ρ the variates are arbitrary.

    ``"official"``: what google/svcca computes (its file pwcca.py): u_i in place of u_i Σ^-1/2, the means added back by index before the
    QR decomposition, neurons that are not centred, and weights from the layer with fewer neurons. Use it only to compare with that code.

    Raises:
        ReplicationError: as for ``cca``, or an unknown variant.

    >>> g = torch.Generator().manual_seed(0)
    >>> signal = torch.randn(500, 2, generator=g)
    >>> x, y = (torch.cat([signal, 0.01 * torch.randn(500, 8, generator=g)], 1) for _ in range(2))  # weak noise neurons
    >>> (round(cca(x, y).similarity, 2), round(pwcca(x, y).similarity, 2))
    (0.29, 0.94)
    """
    if variant not in ("paper", "official"):
        raise ReplicationError(f"The PWCCA variant is '{variant}'; allowed: 'paper' (the default) or 'official'.")
    result = cca(x, y, epsilon=epsilon)
    if variant == "official" and result.factors[0].kept.sum() > result.factors[1].kept.sum():
        return pwcca(y, x, variant, epsilon=epsilon)
    if variant == "paper" or not len(result.coefficients):
        return weighted(result)
    return _weighted_by(result, _official_weights(result, x))


def pwcca_distance(x: Tensor, y: Tensor) -> float:
    """1 - PWCCA (the paper's variant), the mean of both orders and so symmetric (PWCCA, figure 3).

    1 - ``pwcca_distance`` is what the package repsim calls PWCCA.

    Raises:
        ReplicationError: as for ``cca``.

    >>> x, y = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0)).unbind()
    >>> pwcca_distance(x, y) == pwcca_distance(y, x)
    True
    """
    check_pair(x, y)
    a, b = factorise(x, name="x"), factorise(y, name="y")
    return 1 - (weighted(correlate(a, b)).similarity + weighted(correlate(b, a)).similarity) / 2


def weighted(result: Cca) -> Pwcca:
    """The paper's PWCCA of an analysis: the variates are already orthonormal, so <h_i, z_j> stands in the loadings."""
    if not len(result.coefficients):
        return Pwcca(similarity=0.0, weights=result.coefficients, coefficients=result.coefficients)
    sums = (result.rotations[0].mH @ result.factors[0].coordinates).abs().sum(1)
    return _weighted_by(result, sums / sums.sum())


def truncated(factor: Factor, keep: float, criterion: Criterion, dimensions: int | None = None) -> Factor:
    """The factor of the leading singular directions that ``svcca`` keeps of a layer."""
    if not factor.rank:
        return factor
    u, s = left_singular(factor.coordinates)
    shares = (s if criterion == "singular" else s.square()).cumsum(0)
    k = int((shares < keep * shares[-1]).sum()) + 1 if dimensions is None else dimensions
    return factor.rotated(u[:, : min(k, factor.rank)])


def check_truncation(keep: float, criterion: str, dimensions: int | None = None) -> None:
    """Raises ReplicationError where ``svcca`` does not know how many directions to keep."""
    if criterion not in ("singular", "variance"):
        raise ReplicationError(
            f"The criterion is '{criterion}'; allowed: 'singular' (sum of singular values) or 'variance' (of their squares)."
        )
    if not 0 < keep <= 1 or (dimensions is not None and dimensions < 1):
        raise ReplicationError(f"keep is {keep} and dimensions {dimensions}; allowed: a share above 0 up to 1, and None or 1 and more.")


def _weighted_by(result: Cca, weights: Tensor) -> Pwcca:
    return Pwcca(similarity=(weights * result.coefficients).sum().item(), weights=weights, coefficients=result.coefficients)


def _official_weights(result: Cca, x: Tensor) -> Tensor:
    """The official code's weights, which depend on the signs of the singular vectors because means are added to them.

    Its decomposition is therefore repeated: numpy's, of Σ_xx^-1/2 Σ_xy Σ_yy^-1/2 with symmetric roots.
    """
    factor = result.factors[0]
    mean, x = factor.mean[factor.kept], as_activations(x, "x").values.to(factor.weights.dtype)[:, factor.kept]
    decompositions = [singular_value_decomposition(f.coordinates[:, f.kept]) for f in result.factors]
    roots = [vh.mH @ u.mH for u, _, vh in decompositions]
    matrix = roots[0] @ result.coupling @ roots[1].mH
    u = torch.from_numpy(np.linalg.svd(matrix.cpu().numpy())[0]).to(x.device)[:, : len(result.coefficients)]
    mixed = (x - mean) @ u + mean[: u.shape[1]]
    sums = (torch.linalg.qr(mixed)[0].mH @ x).abs().sum(1)
    return sums / sums.sum()
