"""The path of a training: its rows, its steps, and the permutation that the control of a step uses."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.objective import Objective


def check_steps(trajectory: Any, steps: range | None) -> range:
    """The steps to allocate, by default all of them.

    Args:
        trajectory: weights after 0, 1, ..., T steps, anything with a length of T + 1.
        steps: consecutive steps; step t leads from row t to row t + 1.

    Raises:
        ReplicationError: they are not consecutive steps of the trajectory, or there is none.

    >>> check_steps(np.zeros((4, 2)), None)
    range(0, 3)
    """
    steps = range(len(trajectory) - 1) if steps is None else steps
    if len(steps) == 0 or steps.step != 1 or steps.start < 0 or steps.stop > len(trajectory) - 1:
        raise ReplicationError(f"The steps are {steps}; allowed: consecutive ones within range(0, {len(trajectory) - 1}).")
    return steps


def row(trajectory: Any, step: int, objective: Objective) -> Tensor:
    """The weights after ``step`` steps, float64 ``[n_parameters]`` on the objective's device.

    Args:
        trajectory: ``[T + 1, n_parameters]``: an array, a memory map or a tensor.

    Raises:
        ReplicationError: the row is not as long as the objective's parameter vector.

    >>> objective = Objective(torch.nn.Linear(1, 1), torch.ones(2, 1), torch.zeros(2, dtype=torch.long))
    >>> row(np.arange(6).reshape(3, 2), 1, objective)
    tensor([2., 3.], dtype=torch.float64)
    """
    weights = torch.as_tensor(np.array(trajectory[step]) if not isinstance(trajectory, Tensor) else trajectory[step])
    if weights.shape != (objective.n_parameters,):
        raise ReplicationError(
            f"Row {step} of the trajectory has shape {tuple(weights.shape)}; the objective's parameters have ({objective.n_parameters},)."
        )
    return weights.to(objective.device).double()


def permutation_of(step: int, objective: Objective) -> Tensor:
    """The permutation of the parameters ``[n_parameters]`` that the shuffled control of a step uses.

    It is fixed by the step's number, so that the control does not depend on how the steps are cut into spans.

    >>> objective = Objective(torch.nn.Linear(2, 1), torch.ones(2, 2), torch.zeros(2, dtype=torch.long))
    >>> sorted(permutation_of(7, objective).tolist())
    [0, 1, 2]
    """
    generator = torch.Generator().manual_seed(step)
    return torch.randperm(objective.n_parameters, generator=generator).to(objective.device)
