"""Which examples each step sees, and after which steps weights are kept and the network is evaluated."""

import functools

import numpy as np
import torch
from torch import Tensor

from replication.schema.runs import RunConfig
from replication.seeds import generator


def steps_per_epoch(config: RunConfig, n_examples: int) -> int:
    """Mini-batches in an epoch.

    Example:
        >>> steps_per_epoch(RunConfig.model_construct(batch_size=16, last_batch="keep"), 100)
        7
    """
    whole, rest = divmod(n_examples, config.batch_size)
    return whole + (1 if rest and config.last_batch == "keep" else 0)


def batch_indices(step: int, n_examples: int, config: RunConfig, seed: int) -> Tensor:
    """Examples of the mini-batch of ``step``, int64 ``[batch_size]``: a new permutation each epoch.

    Example:
        >>> config = RunConfig.model_construct(batch_size=4)
        >>> batches = [batch_indices(step, 8, config, seed=0) for step in (0, 1)]
        >>> torch.cat(batches).sort().values
        tensor([0, 1, 2, 3, 4, 5, 6, 7])
    """
    epoch, position = divmod(step, steps_per_epoch(config, n_examples))
    return _epoch_order(n_examples, epoch, seed)[position * config.batch_size : (position + 1) * config.batch_size]


@functools.lru_cache(maxsize=1)
def _epoch_order(n_examples: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(n_examples, generator=generator(seed, "order", epoch))


def kept_steps(config: RunConfig, n_examples: int) -> list[int]:
    """After how many steps the weights are kept; the initial weights are those of step 0, the final ones always come last.

    Example:
        >>> kept_steps(RunConfig.model_construct(batch_size=50, steps=5, keep="every_epoch"), 100)
        [0, 2, 4, 5]
    """
    if config.keep == "every_step":
        return list(range(config.steps + 1))
    if config.keep == "every_epoch":
        return sorted({*range(0, config.steps, steps_per_epoch(config, n_examples)), config.steps})
    return sorted({*config.keep, config.steps})


def evaluated_steps(config: RunConfig) -> set[int]:
    """After which steps the validation and test sets are evaluated: ``config.evaluations`` of them, evenly spread.

    Example:
        >>> sorted(evaluated_steps(RunConfig.model_construct(steps=100, evaluations=4)))
        [25, 50, 75, 100]
    """
    return set(np.linspace(0, config.steps, config.evaluations + 1).round().astype(int)[1:].tolist())
