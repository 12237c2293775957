"""SVCCA (Raghu et al. 2017, arXiv 1706.05806) and PWCCA (Morcos et al. 2018, arXiv 1806.05759): how similar two layers are.

A layer is the span of its neurons over the examples. Activations are ``[n_examples, n_neurons]``; ``spatial_mean``, ``folded`` and
``flattened`` make that of a convolutional layer, and ``fourier_cca`` compares two of them frequency by frequency. These give
quite different numbers: say which was used, and read any of them against ``noise_floor``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.canonical import Cca, Directions, cca, check_pair, correlate, held_out, project
from replication.svcca.factor import Factor, coupling, factorise, singular_value_decomposition
from replication.svcca.fourier import FourierCca, fourier_cca
from replication.svcca.noise import noise_floor
from replication.svcca.views import flattened, folded, spatial_mean

__all__ = [
    "Cca",
    "Directions",
    "FourierCca",
    "Pwcca",
    "cca",
    "flattened",
    "folded",
    "fourier_cca",
    "held_out",
    "linear_cka",
    "noise_floor",
    "project",
    "pwcca",
    "similarity_matrix",
    "spatial_mean",
    "svcca",
]

Criterion = Literal["singular", "variance"]
Measure = Literal["cca", "svcca", "pwcca", "linear_cka"]


@dataclass(frozen=True)
class Pwcca:
    """Projection-weighted CCA: ``similarity`` = sum of weights * coefficients; 1 - similarity is the paper's distance."""

    similarity: float
    weights: Tensor
    coefficients: Tensor


def svcca(x: Tensor, y: Tensor, keep: float = 0.99, criterion: Criterion = "singular", *, dimensions: int | None = None) -> Cca:
    """Canonical correlations of the leading singular directions of two layers (SVCCA, section 2 and appendix A).

    Args:
        x, y: as for ``cca``.
        keep: share that the fewest leading directions have to reach.
        criterion: of what: the sum of singular values (appendix A) or of their squares (the main text's "variance"). The two keep
            quite different numbers of directions.
        dimensions: keep this many instead (or all there are).

    Raises:
        ReplicationError: as for ``cca``; keep outside (0, 1], another criterion, or fewer than one dimension.
    """
    check_pair(x, y)
    _check_truncation(keep, criterion, dimensions)
    return correlate(*(_truncated(factorise(z, name=name), keep, criterion, dimensions) for z, name in ((x, "x"), (y, "y"))))


def pwcca(x: Tensor, y: Tensor, variant: Literal["paper", "official"] = "paper", *, epsilon: float = 0.0) -> Pwcca:
    """Projection-weighted CCA of two layers (PWCCA, section 2.2).

    ``"paper"``: weight_i = sum_j abs(<h_i, z_j>) with h_i the canonical variates of x and z_j its centred neurons, normalised. Not
    symmetric: ``pwcca(y, x)`` weighs by y. Among equal ρ the variates, but not the product of weight and ρ, are arbitrary.

    ``"official"``: what google/svcca computes (its file pwcca.py): u_i in place of u_i Σ^-1/2, means added back by index before the
    QR, neurons not centred, and the layer with fewer neurons gives the weights. For comparison with that code only.

    Raises:
        ReplicationError: as for ``cca``, or another variant.
    """
    if variant not in ("paper", "official"):
        raise ReplicationError(f"The PWCCA variant is '{variant}'; allowed: 'paper' (the default) or 'official'.")
    result = cca(x, y, epsilon=epsilon)
    if variant == "official" and result.factors[0].kept.sum() > result.factors[1].kept.sum():
        return pwcca(y, x, variant, epsilon=epsilon)
    if not len(result.coefficients):
        return Pwcca(0.0, result.coefficients, result.coefficients)
    weights = _projection_weights(result.factors[0], result.rotations[0]) if variant == "paper" else _official_weights(result, x)
    return Pwcca((weights * result.coefficients).sum().item(), weights, result.coefficients)


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019), 0 for a constant layer.

    norm(Z_x^T Z_y)² / (norm(Z_x^T Z_x) norm(Z_y^T Z_y)) with Frobenius norms and Z the centred activations.

    Raises:
        ReplicationError: as for ``cca``.
    """
    check_pair(x, y)
    return _linear_cka(factorise(x, name="x"), factorise(y, name="y"))


def similarity_matrix(
    layers_a: Mapping[str, Tensor],
    layers_b: Mapping[str, Tensor] | None = None,
    *,
    measure: Measure = "svcca",
    keep: float = 0.99,
    criterion: Criterion = "singular",
) -> pd.DataFrame:
    """Similarity of every layer of a with every layer of b; each layer is factorised once.

    Args:
        layers_a, layers_b: activations ``[n_examples, n_neurons]`` by layer name, all on the same examples; b is a by default.
        measure: ``"cca"`` and ``"svcca"`` (mean ρ), ``"pwcca"`` (the paper's, weighted by the layer of a), ``"linear_cka"``.
        keep, criterion: as for ``svcca``.

    Returns:
        One row per pair, in the order given: layer_a, layer_b, similarity, dimensions_a, dimensions_b (ranks, or what SVCCA kept),
        noise_floor (what independent layers would give on average; of mean ρ for PWCCA too). Shared tensors are factorised once, and
        a pair that occurs in both orders is computed once where the measure is symmetric.

    Raises:
        ReplicationError: as for ``svcca``, no layers, or another measure.
    """
    if measure not in ("cca", "svcca", "pwcca", "linear_cka"):
        raise ReplicationError(f"The measure is '{measure}'; allowed: cca, svcca, pwcca, linear_cka.")
    _check_truncation(keep, criterion, None)
    layers_b = layers_a if layers_b is None else layers_b
    if not layers_a or not layers_b:
        raise ReplicationError("The similarity matrix was given no layers; give activations by layer name, at least one.")
    factors: dict[int, Factor] = {}
    for name, x in (*layers_a.items(), *layers_b.items()):
        check_pair(next(iter(layers_a.values())), x)
        if id(x) not in factors:
            factor = factorise(x, name=f"layer '{name}'")
            factors[id(x)] = _truncated(factor, keep, criterion, None) if measure == "svcca" else factor
    done: dict[tuple[int, int], tuple[float, float]] = {}
    rows = []
    for name_a, x in layers_a.items():
        for name_b, y in layers_b.items():
            pair = (id(x), id(y))
            if measure != "pwcca" and pair[::-1] in done:
                done[pair] = done[pair[::-1]]
            elif pair not in done:
                done[pair] = _compare(factors[id(x)], factors[id(y)], measure)
            ranks = (factors[id(x)].rank, factors[id(y)].rank)
            rows.append((name_a, name_b, done[pair][0], *ranks, done[pair][1]))
    return pd.DataFrame(rows, columns=["layer_a", "layer_b", "similarity", "dimensions_a", "dimensions_b", "noise_floor"])


def _compare(x: Factor, y: Factor, measure: Measure) -> tuple[float, float]:
    """Similarity and noise floor of one pair."""
    n = len(x.data)
    if measure == "linear_cka":
        return _linear_cka(x, y), _linear_cka_floor(x, y)
    result = correlate(x, y)
    if measure == "pwcca" and len(result.coefficients):
        weights = _projection_weights(x, result.rotations[0])
        return (weights * result.coefficients).sum().item(), noise_floor(n, x.rank, y.rank)
    return result.similarity, result.noise_floor


def _truncated(factor: Factor, keep: float, criterion: Criterion, dimensions: int | None) -> Factor:
    """The factor of the leading singular directions."""
    if not factor.rank:
        return factor
    u, s, _ = singular_value_decomposition(factor.coordinates)
    shares = (s if criterion == "singular" else s.square()).cumsum(0)
    k = int((shares < keep * shares[-1]).sum()) + 1 if dimensions is None else dimensions
    return factor.rotated(u[:, : min(k, factor.rank)])


def _projection_weights(factor: Factor, rotation: Tensor) -> Tensor:
    """The paper's weights: variates are already orthonormal, so <h_i, z_j> stands in the loadings."""
    sums = (rotation.mH @ factor.coordinates).abs().sum(1)
    return sums / sums.sum()


def _official_weights(result: Cca, x: Tensor) -> Tensor:
    """The official code's weights, which depend on the signs of the singular vectors through the means that it adds to them.

    So its decomposition is repeated: numpy's, of Σ_xx^-1/2 Σ_xy Σ_yy^-1/2 with symmetric roots.
    """
    factor = result.factors[0]
    mean, x = factor.mean[factor.kept], x.to(factor.weights.dtype)[:, factor.kept]
    decompositions = [singular_value_decomposition(f.coordinates[:, f.kept]) for f in result.factors]
    roots = [vh.mH @ u.mH for u, _, vh in decompositions]
    matrix = roots[0] @ result.coupling @ roots[1].mH
    u = torch.from_numpy(np.linalg.svd(matrix.cpu().numpy())[0]).to(x.device)[:, : len(result.coefficients)]
    mixed = (x - mean) @ u + mean[: u.shape[1]]
    sums = (torch.linalg.qr(mixed)[0].mH @ x).abs().sum(1)
    return sums / sums.sum()


def _linear_cka(x: Factor, y: Factor) -> float:
    if not x.rank or not y.rank:
        return 0.0
    kernel_x, kernel_y = (f.coordinates @ f.coordinates.mH for f in (x, y))
    product = coupling(x, y)
    aligned = ((kernel_x @ product @ kernel_y) * product.conj()).sum().real
    return min(1.0, (aligned / (torch.linalg.matrix_norm(kernel_x) * torch.linalg.matrix_norm(kernel_y))).item())


def _linear_cka_floor(x: Factor, y: Factor) -> float:
    """Mean of linear CKA over all ways to pair the examples of x with those of y, exact."""
    if not x.rank or not y.rank:
        return 0.0
    kernels = [f.coordinates @ f.coordinates.mH for f in (x, y)]
    shares = [(k.diagonal().real.sum() / torch.linalg.matrix_norm(k)).item() for k in kernels]
    return math.prod(shares) / (len(x.data) - 1)


def _check_truncation(keep: float, criterion: str, dimensions: int | None) -> None:
    if criterion not in ("singular", "variance"):
        raise ReplicationError(
            f"The criterion is '{criterion}'; allowed: 'singular' (sum of singular values) or 'variance' (of their squares)."
        )
    if not 0 < keep <= 1 or (dimensions is not None and dimensions < 1):
        raise ReplicationError(f"keep is {keep} and dimensions {dimensions}; allowed: a share above 0 up to 1, and None or 1 and more.")
