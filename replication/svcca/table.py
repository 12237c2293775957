"""The similarity of every layer of one network with every layer of another, as a table."""

from collections.abc import Mapping
from typing import Literal

import pandas as pd
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.canonical import check_pair, correlate
from replication.svcca.cka import alignment, alignment_floor
from replication.svcca.factor import Factor, factorise
from replication.svcca.measures import Criterion, check_truncation, truncated, weighted
from replication.svcca.noise import noise_floor

Measure = Literal["cca", "svcca", "pwcca", "linear_cka"]
_MEASURES = ("cca", "svcca", "pwcca", "linear_cka")


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
        layers_a, layers_b: activations ``[n_examples, n_neurons]`` by layer name, all on the same examples. b is a by default, and
            then every pair is computed once where the measure is symmetric.
        measure: ``"cca"`` and ``"svcca"`` (mean ρ), ``"pwcca"`` (the paper's, weights from the layer of a), ``"linear_cka"``.
        keep, criterion: as for ``svcca``.

    Returns:
        One row per pair, in the order given: layer_a, layer_b, similarity, dimensions_a, dimensions_b (ranks, or the number of
        directions that SVCCA kept), noise_floor (the average for independent layers; for PWCCA that of the mean ρ).

    Raises:
        ReplicationError: as for ``svcca``, no layers, or an unknown measure.

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

    def factors_of(layers: Mapping[str, Tensor], first: Factor | None = None) -> dict[str, Factor]:
        factors: dict[str, Factor] = {}
        for name, x in layers.items():
            factor = factorise(x, name=f"layer '{name}'")
            first = first or factor
            check_pair(first.data, factor.data)
            factors[name] = truncated(factor, keep, criterion) if measure == "svcca" else factor
        return factors

    factors_a = factors_of(layers_a)
    factors_b = factors_a if layers_b is None else factors_of(layers_b, next(iter(factors_a.values())))
    mirrored = layers_b is None and measure != "pwcca"
    pairs: dict[tuple[str, str], tuple[float, float]] = {}
    rows = []
    for name_a, x in factors_a.items():
        for name_b, y in factors_b.items():
            known = pairs.get((name_b, name_a)) if mirrored else None
            pairs[name_a, name_b] = known or _compare(x, y, measure)
            similarity, floor = pairs[name_a, name_b]
            rows.append((name_a, name_b, similarity, x.rank, y.rank, floor))
    return pd.DataFrame(rows, columns=["layer_a", "layer_b", "similarity", "dimensions_a", "dimensions_b", "noise_floor"])


def _compare(x: Factor, y: Factor, measure: Measure) -> tuple[float, float]:
    """Similarity and noise floor of one pair."""
    if measure == "linear_cka":
        return alignment(x, y), alignment_floor(x, y)
    result = correlate(x, y)
    similarity = weighted(result).similarity if measure == "pwcca" else result.similarity
    return similarity, noise_floor(len(x.data), x.rank, y.rank)
