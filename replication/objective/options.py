"""Checks of the arguments that users give: one sentence for a mistake."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError

_ARITHMETIC = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_options(batch_norm: Any, chunk: Any, dtype: Any, weight_decay: Any, metric: Any) -> None:
    """Check the options of ``Objective``.

    Raises:
        ReplicationError: a value that is not allowed.

    Example:
        >>> check_options("running", None, torch.float32, 0.0, "accuracy")
    """
    if batch_norm not in ("running", "batch"):
        raise ReplicationError(f"batch_norm is {batch_norm!r}; choose 'running' or 'batch'.")
    if dtype not in _ARITHMETIC:
        raise ReplicationError(f"The dtype is {dtype!r}; choose a floating-point type such as torch.float64 or torch.float32.")
    if chunk is not None:
        check_count("chunk", chunk)
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, int | float) or not 0 <= weight_decay < math.inf:
        raise ReplicationError(f"weight_decay is {weight_decay!r}; give a finite number that is not negative.")
    if metric is not None and metric not in ("auto", "accuracy") and not callable(metric):
        raise ReplicationError(f"The metric is {metric!r}; choose 'auto', 'accuracy', None, or a function with one number per example.")


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number that is not below ``least``.

    Raises:
        ReplicationError: it is something else.

    Example:
        >>> check_count("chunk", 8)
        8
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool | Tensor)
    if not whole or value < least:
        raise ReplicationError(f"The {name} is {value!r}; allowed: {least} or more, a whole number.")
    return int(value)


def some_points(thetas: Tensor) -> Tensor:
    """The points ``[n_points, n_parameters]``.

    Raises:
        ReplicationError: there is none.

    Example:
        >>> some_points(torch.zeros(1, 3)).shape
        torch.Size([1, 3])
    """
    if not len(thetas):
        raise ReplicationError("There are 0 points; give one or more parameter vectors [n_points, n_parameters].")
    return thetas


def checked_indices(examples: Any, n: int) -> Tensor:
    """Indices of examples ``[m]`` as int64, from a tensor, an array or a list.

    Args:
        n: how many examples there are.

    Raises:
        ReplicationError: no index, one outside of the examples, or something that is no whole number.

    Example:
        >>> checked_indices([0, 2], 3)
        tensor([0, 2])
    """
    indices = examples if isinstance(examples, Tensor) else torch.as_tensor(np.asarray(examples))
    whole = indices.dim() == 1 and len(indices) > 0 and not indices.is_floating_point() and indices.dtype != torch.bool
    if not whole or int(indices.min()) < -n or int(indices.max()) >= n:
        shown = indices[:5].tolist() if indices.dim() else indices.item()
        raise ReplicationError(
            f"The indices of examples are {shown} (at most five shown); give whole numbers from 0 to {n - 1}, at least one."
        )
    return indices.long()
