"""Activations as every measure takes them: a finite matrix ``[n_examples, n_neurons]`` and the precision it was stored in."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError

_VIEWS = "svcca.spatial_mean, svcca.folded or svcca.flattened make one of a convolutional layer"
_BLOCK = 1024  # examples that are summed in their own type before float64 takes over; products: twice the neurons if more, for speed


@dataclass(frozen=True)
class Activations:
    """The activations of one layer.

    Attributes:
        values: ``[n_examples, n_neurons]`` in float32 or float64, or complex; half precision is widened without loss.
        eps: the relative spacing of numbers in the type of the input. What the input rounded away is no information about the layer.
    """

    values: Tensor
    eps: float

    @property
    def arithmetic(self) -> float:
        """The relative spacing of numbers in the type of ``values``."""
        return torch.finfo(self.values.dtype).eps


def constant_level(eps: float, arithmetic: float) -> float:
    """Deviation of a neuron, relative to its mean, up to which rounding of the input and of the mean explains it.

    Rounding to nearest has a deviation of up to 0.3 eps.

    Args:
        eps: the relative spacing of numbers in the type of the input.
        arithmetic: that in the type of the sums.
    """
    return 8 * arithmetic + (2 * eps if eps > arithmetic else 0.0)


def as_activations(x: Any, name: str) -> Activations:
    """The activations of a layer, checked in all but their values.

    Args:
        x: tensor or array ``[n_examples, n_neurons]``, real or complex; whole numbers and truth values count as float64.
        name: the name of the layer in messages.

    Raises:
        ReplicationError: no such matrix, fewer than two examples, or no neurons.

    >>> as_activations(torch.tensor([[0], [3]]), "x").values
    tensor([[0.],
            [3.]], dtype=torch.float64)
    """
    x = as_floating(x, name)
    if x.dim() != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise ReplicationError(
            f"{name} has shape {tuple(x.shape)}; allowed: [n_examples, n_neurons] with two examples and one neuron or more ({_VIEWS})."
        )
    eps = torch.finfo(x.dtype).eps
    return Activations(values=x if eps <= torch.finfo(torch.float32).eps else x.float(), eps=eps)


def as_floating(x: Any, name: str) -> Tensor:
    """A tensor or array of numbers as a floating-point tensor without gradient.

    >>> as_floating(np.array([1, 2]), "x")
    tensor([1., 2.], dtype=torch.float64)
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "biufc":
        x = torch.from_numpy(np.ascontiguousarray(x.astype(x.dtype.newbyteorder("="))))
    if not isinstance(x, Tensor):
        kind = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise ReplicationError(f"{name} is {kind}; give activations as a tensor or array of numbers [n_examples, n_neurons].")
    x = x.detach()
    return x if x.is_floating_point() or x.is_complex() else x.double()


def check_pair(x: Any, y: Any) -> None:
    """Raises ReplicationError where two layers have different examples or devices."""
    if len(getattr(x, "shape", ())) == 0 or len(getattr(y, "shape", ())) == 0:
        return  # as_activations names the layer that is no matrix
    if x.shape[0] != y.shape[0]:
        raise ReplicationError(
            f"The layers have shapes {tuple(x.shape)} and {tuple(y.shape)}; give both on the same examples, in the same order."
        )
    devices = [z.device if isinstance(z, Tensor) else torch.device("cpu") for z in (x, y)]
    if devices[0] != devices[1]:
        raise ReplicationError(f"The layers lie on {devices[0]} and {devices[1]}; move them to one device.")


def finite_mean(x: Tensor, name: str) -> Tensor:
    """The mean of every neuron, float64 ``[n_neurons]``.

    Raises:
        ReplicationError: non-finite values, or a sum that overflows.
    """
    # blocks in their own type first: eight times as fast as a float64 mean of float32
    mean = torch.stack([block.sum(0) for block in x.split(_BLOCK)]).to(wide(x.dtype)).sum(0) / len(x)
    if not mean.isfinite().all():
        mean = x.mean(0, dtype=wide(x.dtype))  # the sum of a block may overflow its type
    if not mean.isfinite().all():
        raise not_finite(x, name)
    return mean


def not_finite(x: Tensor, name: str) -> ReplicationError:
    """The error about activations whose sums are not finite."""
    bad = int((~x.isfinite()).sum())
    what = f"{bad} non-finite values among {x.numel()}" if bad else f"values whose sum overflows {x.dtype}"
    return ReplicationError(f"{name} has {what}; similarities need finite activations: leave diverged examples out, or scale down.")


def cross_product(a: Tensor, b: Tensor, *, block: int = _BLOCK) -> Tensor:
    """A^H B over the examples ``[..., n_examples, p]``, ``[..., n_examples, q]``, summed in float64."""
    total_type = wide(torch.promote_types(a.dtype, b.dtype))
    if a.dtype != b.dtype or a.dtype == total_type:
        return a.to(total_type).mH @ b.to(total_type)
    chunk = max(block, 2 * min(a.shape[-1], b.shape[-1]))
    whole = a.shape[-2] // chunk * chunk
    total = a[..., whole:, :].mH.to(total_type) @ b[..., whole:, :].to(total_type)
    if whole:
        left, right = (z[..., :whole, :].unflatten(-2, (-1, chunk)) for z in (a, b))
        total = total + (left.mH @ right).sum(-3, dtype=total_type)
    return total


def warn_constant(name: str) -> None:
    """Warn that a layer has nothing to compare."""
    warnings.warn(f"{name} is constant over the examples: it has no directions, and its similarity is 0.", UserWarning, stacklevel=4)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of sums: float64, or complex128."""
    return torch.complex128 if dtype.is_complex else torch.float64
