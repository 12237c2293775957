"""Centred kernel alignment (CKA) of two layers: linear and Gaussian kernels, debiased, and streamed in mini-batches."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from replication.errors import ReplicationError
from replication.svcca.kernels import Kernel, linear_kernel, rbf_kernel
from replication.svcca.matrices import check_pair, warn_constant

_FEWEST = 4  # examples of an unbiased estimate


def linear_cka(x: Any, y: Any, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414, section 3) in [0, 1]; 0 for a constant layer.

    tr(K L) / (norm(K) norm(L)) with K = Z_x Z_x^T and L = Z_y Z_y^T of the centred activations Z, or norm(Z_x^T Z_y)² over the same.
    All sums are float64. A wide layer costs one n x n matrix.

    Args:
        x, y: ``[n_examples, n_neurons]`` on the same examples, in the same order. The numbers of neurons may differ.
        debiased: with the unbiased estimates of Song et al. (2012) in numerator and denominator, so that independent layers have 0 on
            average whatever their width; the result is in [-1, 1]. It takes four examples.

    Raises:
        ReplicationError: as for ``cca``; fewer than four examples where debiased.

    >>> import torch
    >>> x, y = torch.randn(2, 30, 200, generator=torch.Generator().manual_seed(0)).unbind()  # independent, and wide
    >>> [round(value, 2) for value in (linear_cka(x, y), linear_cka(x, y, debiased=True), linear_cka(x, 3 * x + 7, debiased=True))]
    [0.88, 0.01, 1.0]
    """
    check_pair(x, y)
    kernels = linear_kernel(x, "x"), linear_kernel(y, "y")
    for kernel, name in zip(kernels, ("x", "y"), strict=True):
        if not kernel.size:
            warn_constant(name)
    return alignment(*kernels, debiased=debiased)


def rbf_cka(x: Any, y: Any, *, bandwidth: float = 1.0, debiased: bool = False) -> float:
    """CKA with Gaussian kernels exp(-d² / (2 σ²)) (Kornblith et al. 2019, section 3), in [0, 1]; 0 for a constant layer.

    Args:
        x, y, debiased: as for ``linear_cka``.
        bandwidth: σ as a share of the layer's median distance over all n² pairs. The paper reports 0.2, 0.4 and 0.8; with a large one
            the result tends to ``linear_cka``.

    Raises:
        ReplicationError: as for ``linear_cka``; a bandwidth that is not above 0; more than half of the distances are 0; more than
            20,000 examples.

    >>> import torch
    >>> x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> round(rbf_cka(x, x**3, bandwidth=1000) - linear_cka(x, x**3), 5)
    0.0
    """
    check_pair(x, y)
    kernels = rbf_kernel(x, "x", bandwidth=bandwidth), rbf_kernel(y, "y", bandwidth=bandwidth)
    for kernel, name in zip(kernels, ("x", "y"), strict=True):
        if not kernel.size:
            warn_constant(name)
    return alignment(*kernels, debiased=debiased)


def minibatch_cka(
    batches_a: Iterable[Mapping[str, Any]], batches_b: Iterable[Mapping[str, Any]] | None = None, *, bandwidth: float | None = None
) -> pd.DataFrame:
    """CKA of all pairs of layers from mini-batches, without all examples in memory (Nguyen et al. 2021, arXiv 2010.15327, section 3).

    The unbiased estimates of HSIC are averaged over the batches, weighted by their examples, before the ratio is taken. So the result
    does not depend on the batch size, apart from noise, and tends to the debiased CKA of all examples.

    Args:
        batches_a, batches_b: activations ``[n_examples, n_neurons]`` by layer name, batch by batch, as ``activations.layer_batches``
            yields them; both in the same order of examples. b is a by default.
        bandwidth: Gaussian kernels as in ``rbf_cka``, each batch with its own median; linear ones by default.

    Returns:
        One row per pair, in the order of the layers: layer_a, layer_b, similarity in [-1, 1] (0 for a constant layer), examples.

    Raises:
        ReplicationError: no batches, batches of fewer than four examples, other layers or numbers of batches, or as for ``linear_cka``.

    >>> import torch
    >>> x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    >>> batches = ({"low": part, "high": part.relu()} for part in x.split(50))
    >>> minibatch_cka(batches).round(2)
      layer_a layer_b  similarity  examples
    0     low     low        1.00       400
    1     low    high        0.74       400
    2    high     low        0.74       400
    3    high    high        1.00       400
    """
    totals = _Totals()

    def kernels(batch: Mapping[str, Any]) -> dict[str, Kernel]:
        if bandwidth is None:
            return {name: linear_kernel(x, f"layer '{name}'") for name, x in batch.items()}
        return {name: rbf_kernel(x, f"layer '{name}'", bandwidth=bandwidth) for name, x in batch.items()}

    if batches_b is None:
        for batch in batches_a:
            own = kernels(batch)
            totals.add(own, own)
    else:
        try:
            for a, b in zip(batches_a, batches_b, strict=True):
                totals.add(kernels(a), kernels(b))
        except ValueError as error:
            raise ReplicationError("One side has more batches than the other; give both on the same examples, in equal batches.") from error
    return totals.table()


def alignment(x: Kernel, y: Kernel, *, debiased: bool = False) -> float:
    """CKA of two kernels."""
    if not x.trace or not y.trace:
        return 0.0
    if not debiased:
        return clipped(x.dot(y) / (x.norm * y.norm))
    check_unbiased(x.n)
    return _ratio(x.debiased_dot(y), x.debiased_dot(x), y.debiased_dot(y))


def alignment_floor(x: Kernel, y: Kernel) -> float:
    """Mean of CKA over all ways to pair the examples of x with those of y, exact; the mean of debiased CKA is 0."""
    return x.trace * y.trace / (x.norm * y.norm * (x.n - 1)) if x.trace and y.trace else 0.0


def check_unbiased(n: int) -> None:
    """Raises ReplicationError where there are too few examples for an unbiased estimate."""
    if n < _FEWEST:
        raise ReplicationError(f"Debiased CKA was asked for {n} examples; allowed: {_FEWEST} or more (in every batch).")


def clipped(similarity: float) -> float:
    """Rounding takes similarities of 1 slightly beyond; nan stays nan."""
    return 1.0 if similarity > 1 else -1.0 if similarity < -1 else similarity


def _ratio(xy: float, xx: float, yy: float) -> float:
    """A debiased alignment; 0 where nothing is left of a layer, which has one direction of one example then."""
    return clipped(xy / math.sqrt(xx * yy)) if xx > 0 and yy > 0 else 0.0


class _Totals:
    """Sums over batches of unbiased HSIC times examples: of all pairs, and of every layer with itself.

    The fourth power of a layer's size may lie outside of float64. So each layer has a unit, the power of two above its largest batch, and
    its sums are in this unit; the similarities do not depend on it.
    """

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], float] = {}
        self.own: tuple[dict[str, float], dict[str, float]] = ({}, {})
        self.exponents: tuple[dict[str, int], dict[str, int]] = ({}, {})  # of the units
        self.examples = 0

    def add(self, a: dict[str, Kernel], b: dict[str, Kernel]) -> None:
        """One batch of both sides."""
        lengths = {kernel.n for kernel in (*a.values(), *b.values())}
        if len(lengths) != 1:
            raise ReplicationError(f"A batch has layers of {sorted(lengths)} examples; give at least one layer, all on the same examples.")
        if self.examples and (a.keys() != self.own[0].keys() or b.keys() != self.own[1].keys()):
            raise ReplicationError(f"A batch has the layers {[*a]} and {[*b]}, the first had {[*self.own[0]]} and {[*self.own[1]]}.")
        n = lengths.pop()
        check_unbiased(n)
        self.examples += n
        sizes_a, sizes_b = (self._sizes(side, kernels) for side, kernels in enumerate((a, b)))
        for kernels, own, sizes in zip((a, b), self.own, (sizes_a, sizes_b), strict=True):
            for name, x in kernels.items():
                own[name] = own.get(name, 0.0) + x.debiased_dot(x) * sizes[name] ** 4 / (n - 3)
        for name_a, x in a.items():
            for name_b, y in b.items():
                product = x.debiased_dot(y) * (sizes_a[name_a] * sizes_b[name_b]) ** 2 / (n - 3)
                self.pairs[name_a, name_b] = self.pairs.get((name_a, name_b), 0.0) + product

    def _sizes(self, side: int, kernels: dict[str, Kernel]) -> dict[str, float]:
        """The sizes of a batch's layers in their units, which grow first where the batch is larger than all before."""
        exponents, own = self.exponents[side], self.own[side]
        for name, kernel in kernels.items():
            exponent = math.frexp(kernel.size)[1]
            growth = exponent - exponents.get(name, exponent)
            if not kernel.size or (name in exponents and growth <= 0):
                continue
            exponents[name] = exponent
            own[name] = math.ldexp(own.get(name, 0.0), -4 * growth)
            for pair in self.pairs:
                if pair[side] == name:
                    self.pairs[pair] = math.ldexp(self.pairs[pair], -2 * growth)
        return {name: math.ldexp(kernel.size, -exponents.get(name, 0)) for name, kernel in kernels.items()}

    def table(self) -> pd.DataFrame:
        """CKA of all pairs."""
        if not self.examples:
            raise ReplicationError("Mini-batch CKA was given no batches; give at least one, and an iterator only once.")
        for name in {name for own in self.own for name, total in own.items() if not total}:
            warn_constant(f"layer '{name}'")
        rows = [
            (name_a, name_b, _ratio(total, self.own[0][name_a], self.own[1][name_b]), self.examples)
            for (name_a, name_b), total in self.pairs.items()
        ]
        return pd.DataFrame(rows, columns=["layer_a", "layer_b", "similarity", "examples"])
