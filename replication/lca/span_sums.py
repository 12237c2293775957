"""Sums over a span of consecutive steps: the base of the exact and of the sampled ledger.

A span is saved as arrays (one measurement job writes one span), and the spans of a trajectory merge into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from replication.errors import ReplicationError


@dataclass
class SpanSums:
    """Arrays of sums over a span of consecutive steps.

    A subclass adds its own arrays as fields. ``PER_NETWORK`` names the lists that all spans share, ``PER_STEP`` the arrays with a row
    per step; all other arrays add up over the spans.

    Attributes:
        names, sizes: of the parameter tensors (or layers) that the sums are of, the same in all spans of a network.
        steps: ``[n_steps]``, the number of each step.

    >>> @dataclass
    ... class Totals(SpanSums):
    ...     PER_NETWORK = ("names", "sizes")
    ...     PER_STEP = ("steps",)
    ...     totals: np.ndarray
    >>> late = Totals(names=["weight"], sizes=[2], steps=np.array([2]), totals=np.array([-1.0, 0.5]))
    >>> early = Totals(names=["weight"], sizes=[2], steps=np.array([0, 1]), totals=np.array([-3.0, 1.0]))
    >>> Totals.merge([late, early]).totals.tolist()
    [-4.0, 1.5]
    """

    PER_NETWORK: ClassVar[tuple[str, ...]] = ()
    PER_STEP: ClassVar[tuple[str, ...]] = ()

    names: list[str]
    sizes: list[int]
    steps: np.ndarray

    @classmethod
    def merge(cls, spans: Sequence[Self]) -> Self:
        """Consecutive spans of one trajectory as one; the order in which they are given does not matter.

        Raises:
            ReplicationError: the spans are of different networks, overlap or leave a gap.
        """
        spans = sorted(spans, key=lambda span: int(span.steps[0]))
        steps = np.concatenate([span.steps for span in spans])
        if any(span.names != spans[0].names or span.sizes != spans[0].sizes for span in spans) or (np.diff(steps) != 1).any():
            raise ReplicationError("The spans do not join: they must be of one network and hold every step once; measure again.")
        merged: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(span, field.name) for span in spans]
            if field.name in cls.PER_NETWORK:
                merged[field.name] = values[0]
            else:
                merged[field.name] = np.concatenate(values) if field.name in cls.PER_STEP else np.sum(values, axis=0)
        return cls(**merged)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for ``numpy.savez``."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The inverse of ``arrays``."""
        read: dict[str, Any] = {name: values.tolist() if name in cls.PER_NETWORK else values for name, values in arrays.items()}
        return cls(**read)
