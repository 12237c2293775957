"""Checks of the arguments that users give: one sentence for a mistake."""

import math
from typing import Any

import torch

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
        raise ReplicationError(f"The dtype is {dtype}; choose a floating-point type such as torch.float64 or torch.float32.")
    if chunk is not None:
        check_count("chunk", chunk)
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, int | float) or not 0 <= weight_decay < math.inf:
        raise ReplicationError(f"weight_decay is {weight_decay!r}; give a finite number that is not negative.")
    if metric is not None and metric != "accuracy" and not callable(metric):
        raise ReplicationError(f"The metric is {metric!r}; choose 'accuracy', None, or a function that returns one number per example.")


def check_count(name: str, value: Any) -> int:
    """A whole number of at least one.

    Raises:
        ReplicationError: it is something else.

    Example:
        >>> check_count("chunk", 8)
        8
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool | torch.Tensor)
    if not whole or value < 1:
        raise ReplicationError(f"The {name} is {value!r}; give a whole number of at least 1.")
    return int(value)
