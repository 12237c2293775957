"""Whether two layers are more similar than layers whose examples are paired at random."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.matrices import check_pair

_TIE = 1e-6  # differences of similarities that may be rounding: they count as equal


@dataclass(frozen=True)
class PermutationTest:
    """The result of a permutation test.

    Attributes:
        observed: the value of the measure with the examples paired as given.
        permuted: its values with the examples of y in random orders, float64 ``[permutations]``.
        p_value: (1 + how many permuted values are at least as extreme as the observed one) / (1 + permutations).
    """

    observed: float
    permuted: Tensor
    p_value: float


def permutation_test(
    measure: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    *,
    permutations: int = 999,
    alternative: Literal["greater", "less"] = "greater",
    generator: torch.Generator | None = None,
) -> PermutationTest:
    """A p-value for any similarity or distance of two layers: how often is it as large when the examples are paired at random?

    The p-value is exact where the examples are exchangeable. Positions of one image are not: permute images, not rows of ``folded``.
    Values within 1e-6 of the observed one count as equal to it, so that a measure which is 1 whatever the data has p = 1.

    Args:
        measure: of two layers, for example ``svcca.linear_cka``; a number, or a result with an attribute ``similarity``.
        x, y: ``[n_examples, ...]`` on the same examples, in the same order.
        permutations: number of random orders; the smallest p-value is 1 / (1 + permutations).
        alternative: ``"greater"`` for similarities, ``"less"`` for distances.
        generator: of the orders, on the CPU; a new one with seed 0 by default.

    Raises:
        ReplicationError: no permutations, another alternative, unequal numbers of examples, fewer than two, or a measure that is not
            finite.

    >>> from replication import svcca
    >>> x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    >>> svcca.permutation_test(svcca.linear_cka, x, x.relu(), permutations=99).p_value
    0.01
    """
    check_pair(x, y)
    if permutations < 1 or alternative not in ("greater", "less"):
        raise ReplicationError(
            f"A test of {permutations} permutations, '{alternative}', was asked for; allowed: 1 or more, 'greater' or 'less'."
        )
    x, y = (torch.from_numpy(z) if isinstance(z, np.ndarray) else z for z in (x, y))
    if not isinstance(y, Tensor) or not y.dim() or len(y) < 2:
        raise ReplicationError("A permutation test takes two tensors or arrays [n_examples, ...] of two examples or more.")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    observed = _value(measure(x, y))
    orders = (torch.randperm(len(y), generator=generator).to(y.device) for _ in range(permutations))
    permuted = torch.tensor([_value(measure(x, y[order])) for order in orders], dtype=torch.float64)
    sign = 1 if alternative == "greater" else -1
    extreme = int((sign * permuted >= sign * observed - _TIE).sum())
    return PermutationTest(observed=observed, permuted=permuted, p_value=(1 + extreme) / (1 + permutations))


def _value(result: Any) -> float:
    value = float(getattr(result, "similarity", result))
    if not math.isfinite(value):
        raise ReplicationError(f"The measure gives {value}; a permutation test needs finite values.")
    return value
