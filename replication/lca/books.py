"""What the books of exact and of sampled loss change allocation share: they are arrays, and spans of a trajectory join."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from replication.errors import ReplicationError


@dataclass
class Books:
    """Arrays of sums over a span of consecutive steps.

    Attributes:
        names, sizes: of the sums' parameters, the same in all spans of a network.
        steps: ``[n_steps]``, the number of each step.
    """

    PER_NETWORK: ClassVar[tuple[str, ...]] = ()  # lists that all spans share
    PER_STEP: ClassVar[tuple[str, ...]] = ()  # arrays with a row per step; all others add up

    names: list[str]
    sizes: list[int]
    steps: np.ndarray

    @classmethod
    def merge(cls, spans: Sequence[Self]) -> Self:
        """The books of consecutive spans of one trajectory as one.

        Raises:
            ReplicationError: the spans are of different networks or leave a gap.
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
