"""channels_last, the memory format in which convolutions are fast, and the one kind of convolution that it breaks."""

import functools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Model = TypeVar("Model", bound=nn.Module)
_BLOCK = 16  # channels in one block of oneDNN's widest kernels (AVX-512); AVX2 has 8


def in_channels_last(tensor: Tensor) -> Tensor:
    """The tensor in channels_last where it has four axes, else unchanged. LeNet's gradient is 1.4 times as fast in this format.

    Example:
        >>> in_channels_last(torch.zeros(2, 3, 4, 5)).stride()
        (60, 1, 15, 3)
    """
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def prepare(model: Model) -> Model:
    """Put the kernels of ``model`` into channels_last, in place, and return it; ``avoid_overflow`` is part of it.

    Example:
        >>> prepare(nn.Conv2d(3, 4, 3)).weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    avoid_overflow(model)
    if any(parameter.dim() == 4 for parameter in model.parameters()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def avoid_overflow(model: Model) -> Model:
    """Make strided 1x1 convolutions with few input channels safe, in place, and return the model. Its function stays the same.

    In channels_last oneDNN (issue 6035, still in PyTorch 2.13) writes past its workspace in the weight gradient of a strided 1x1
    convolution with fewer input channels than one block. Narrow residual networks have such convolutions in their shortcuts. The
    result is a corrupted heap, or wrong numbers. These layers first skip pixels and then run with stride 1. Only modules that are
    exactly ``nn.Conv2d`` are changed; calls of ``functional.conv2d`` are not.

    Example:
        >>> layer = avoid_overflow(nn.Conv2d(3, 4, 1, stride=2))
        >>> layer(torch.zeros(1, 3, 5, 5)).shape
        torch.Size([1, 4, 3, 3])
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and "_conv_forward" not in vars(module) and _overflows(module):
            # not a subclass: other code looks for nn.Conv2d itself; not bound to the module, which may be copied
            skipping: Any = functools.partial(_skip_pixels, stride=module.stride, groups=module.groups)
            module._conv_forward = skipping  # type: ignore[method-assign]
    return model


def _overflows(module: nn.Conv2d) -> bool:
    pointwise = module.kernel_size == (1, 1) and module.padding in ((0, 0), "valid")
    return pointwise and module.stride != (1, 1) and module.in_channels // module.groups < _BLOCK


def _skip_pixels(maps: Tensor, weight: Tensor, bias: Tensor | None, *, stride: tuple[int, ...], groups: int) -> Tensor:
    return functional.conv2d(maps[..., :: stride[0], :: stride[1]], weight, bias, groups=groups)
