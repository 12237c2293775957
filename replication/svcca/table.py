"""The similarity of every layer of one network with every layer of another, as a table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from replication.errors import ReplicationError
from replication.svcca.canonical import correlate
from replication.svcca.cka import alignment, alignment_floor
from replication.svcca.factor import Factor, factorise
from replication.svcca.kernels import Kernel, linear_kernel, rbf_kernel
from replication.svcca.matrices import warn_constant
from replication.svcca.measures import Criterion, check_truncation, truncated, weighted
from replication.svcca.noise import noise_floor
from replication.svcca.rotations import factor_in_double, rotate

Measure = Literal["cca", "svcca", "pwcca", "linear_cka", "debiased_cka", "rbf_cka", "procrustes"]
_MEASURES = ("cca", "svcca", "pwcca", "linear_cka", "debiased_cka", "rbf_cka", "procrustes")


def similarity_matrix(
    layers_a: Mapping[str, Any],
    layers_b: Mapping[str, Any] | None = None,
    *,
    measure: Measure = "svcca",
    keep: float = 0.99,
    criterion: Criterion = "singular",
    bandwidth: float = 1.0,
) -> pd.DataFrame:
    """Similarity of every layer of a with every layer of b; each layer is read and factorised once.

    Args:
        layers_a, layers_b: activations ``[n_examples, n_neurons]`` by layer name, all on the same examples. b is a by default, and
            then every pair is computed once where the measure is symmetric.
        measure: ``"cca"`` and ``"svcca"`` (mean ρ), ``"pwcca"`` (the paper's, weights from the layer of a), ``"linear_cka"``,
            ``"debiased_cka"``, ``"rbf_cka"``, ``"procrustes"``.
        keep, criterion: as for ``svcca``.
        bandwidth: as for ``rbf_cka``.

    Returns:
        One row per pair, in the order given: layer_a, layer_b, similarity, dimensions_a, dimensions_b, noise_floor. Dimensions are
        ranks, the number of directions that SVCCA kept, or, for CKA, the effective number of directions (sum of variances)² / sum of
        squared variances. The noise floor is the average for independent layers; for PWCCA that of the mean ρ, for Procrustes nan
        (none is known).

    Raises:
        ReplicationError: as for ``svcca`` and ``rbf_cka``, no layers, or an unknown measure.

    >>> import torch
    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> similarity_matrix({"low": x, "high": x[:, :2]}, measure="cca").round(2)
      layer_a layer_b  similarity  dimensions_a  dimensions_b  noise_floor
    0     low     low         1.0             3             3         0.15
    1     low    high         1.0             3             2         0.16
    2    high     low         1.0             2             3         0.16
    3    high    high         1.0             2             2         0.12
    """
    if measure not in _MEASURES:
        raise ReplicationError(f"The measure is '{measure}'; allowed: {', '.join(_MEASURES)}.")
    check_truncation(keep, criterion)
    if not layers_a or (layers_b is not None and not layers_b):
        raise ReplicationError("The similarity matrix was given no layers; give activations by layer name, at least one.")
    method = _method(measure, keep, criterion, bandwidth, partners=len(layers_a if layers_b is None else layers_b))
    prepared_a = _prepared(layers_a, method)
    prepared_b = prepared_a if layers_b is None else _prepared(layers_b, method, beside=next(iter(prepared_a.values())))
    mirrored = layers_b is None and measure != "pwcca"
    pairs: dict[tuple[str, str], tuple[float, float]] = {}
    rows = []
    for name_a, x in prepared_a.items():
        for name_b, y in prepared_b.items():
            known = pairs.get((name_b, name_a)) if mirrored else None
            pairs[name_a, name_b] = known or method.compare(x, y)
            similarity, floor = pairs[name_a, name_b]
            rows.append((name_a, name_b, similarity, method.dimension(x), method.dimension(y), floor))
    return pd.DataFrame(rows, columns=["layer_a", "layer_b", "similarity", "dimensions_a", "dimensions_b", "noise_floor"])


@dataclass(frozen=True)
class _Method:
    """How one measure makes a table: once per layer, and similarity and noise floor once per pair."""

    prepare: Callable[[Any, str], Any]
    compare: Callable[[Any, Any], tuple[float, float]]
    dimension: Callable[[Any], float]


def _method(measure: Measure, keep: float, criterion: Criterion, bandwidth: float, partners: int) -> _Method:
    if measure in ("linear_cka", "debiased_cka", "rbf_cka"):

        def kernel(x: Any, name: str) -> Kernel:
            made = rbf_kernel(x, name, bandwidth=bandwidth) if measure == "rbf_cka" else linear_kernel(x, name, partners=partners)
            if not made.size:
                warn_constant(name)
            return made

        def align(x: Kernel, y: Kernel) -> tuple[float, float]:
            debiased = measure == "debiased_cka"
            return alignment(x, y, debiased=debiased), 0.0 if debiased else alignment_floor(x, y)

        return _Method(prepare=kernel, compare=align, dimension=lambda x: x.dimension)

    def factor(x: Any, name: str) -> Factor:
        if measure == "procrustes":
            return factor_in_double(x, name)
        return truncated(factorise(x, name=name), keep, criterion) if measure == "svcca" else factorise(x, name=name)

    def correlations(x: Factor, y: Factor) -> tuple[float, float]:
        if measure == "procrustes":
            return rotate(x, y).similarity, math.nan
        result = correlate(x, y)
        similarity = weighted(result).similarity if measure == "pwcca" else result.similarity
        return similarity, noise_floor(result.n, x.rank, y.rank)

    return _Method(prepare=factor, compare=correlations, dimension=lambda x: x.rank)


def _prepared(layers: Mapping[str, Any], method: _Method, beside: Factor | Kernel | None = None) -> dict[str, Any]:
    """Every layer prepared; the activations themselves need not stay in memory."""
    prepared: dict[str, Any] = {}
    for name, x in layers.items():
        prepared[name] = method.prepare(x, f"layer '{name}'")
        beside = prepared[name] if beside is None else beside
        if beside.n != prepared[name].n:
            raise ReplicationError(f"Layer '{name}' has {prepared[name].n} examples and another {beside.n}; give all on the same examples.")
    return prepared
