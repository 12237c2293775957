"""Where random numbers come from: one convention, and which generator follows it.

A run, a measurement and a figure each have a seed, a small whole number. Two uses of randomness under one seed must not share a
stream, so every use has words of its own: ``derived_seed(seed, "order", epoch)`` is a function of the seed and the words alone,
never of what was drawn before. A training that was killed can therefore continue with the same numbers.

- ``generator``: a PyTorch generator on the CPU, whatever the device of the tensors, so that every device draws the same.
- ``numpy_stream``: numpy's ``RandomState``, for what a data set is made of (splits, subsets, permuted labels). numpy keeps its stream
  unchanged from version to version, and published splits are given as its seeds.

Some measurements give a plain ``torch.Generator().manual_seed(seed)``, without words, to a library function: one use for each seed.
"""

import hashlib

import numpy as np
import torch

from replication.errors import ReplicationError


def derived_seed(seed: int, *words: str | int) -> int:
    """A seed below 2**63 for one use of randomness: the same for the same seed and words, unrelated for others.

    >>> derived_seed(0, "order", 1)
    4489457307835839548
    >>> derived_seed(0, "order", 1) == derived_seed(0, "order", 2)
    False
    """
    text = "/".join(str(part) for part in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, *words: str | int) -> torch.Generator:
    """A generator on the CPU that starts at ``derived_seed(seed, *words)``.

    >>> torch.rand(2, generator=generator(0, "order", 1)).tolist() == torch.rand(2, generator=generator(0, "order", 1)).tolist()
    True
    """
    return torch.Generator().manual_seed(derived_seed(seed, *words))


def numpy_stream(seed: int) -> np.random.RandomState:
    """numpy's legacy generator for a seed from 0 to 2**32 - 1.

    Raises:
        ReplicationError: the seed is out of range.

    >>> numpy_stream(0).permutation(5).tolist()
    [2, 0, 1, 3, 4]
    """
    if not 0 <= seed < 2**32:
        raise ReplicationError(f"seed is {seed}; allowed are 0 to {2**32 - 1}: change it.")
    return np.random.RandomState(seed)
