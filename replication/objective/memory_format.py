"""The memory layout in which convolutions are fast, and the one shape of convolution that must not meet it."""

import functools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Model = TypeVar("Model", bound=nn.Module)
_BLOCK = 16  # channels that oneDNN's widest kernels (AVX-512) take at a time; AVX2 takes 8


def in_channels_last(tensor: Tensor) -> Tensor:
    """A kernel, or images, of four axes with channels innermost (LeNet's gradient: 1.4 times as fast); any other tensor as it is."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def prepare(model: Model) -> Model:
    """Put the kernels of ``model`` into channels_last, in place, and return it; the function it computes stays the same.

    In this layout oneDNN (issue 6035, still in PyTorch 2.13) writes past its workspace in the weights' gradient of a strided 1x1
    convolution of fewer input channels than a block, as narrow residual networks have in their shortcuts: a corrupted heap, or
    wrong numbers. Such ``nn.Conv2d`` skip pixels first and then run with stride 1. Calls of ``functional.conv2d`` are not seen.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _overflows(module):
            # not a subclass: other modules look for nn.Conv2d itself; nor bound to the module, which may be copied
            skipping: Any = functools.partial(_skip_pixels, stride=module.stride, groups=module.groups)
            module._conv_forward = skipping  # type: ignore[method-assign]
    if any(parameter.dim() == 4 for parameter in model.parameters()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _overflows(module: nn.Conv2d) -> bool:
    pointwise = module.kernel_size == (1, 1) and module.padding in ((0, 0), "valid")
    return pointwise and module.stride != (1, 1) and module.in_channels // module.groups < _BLOCK


def _skip_pixels(maps: Tensor, weight: Tensor, bias: Tensor | None, *, stride: tuple[int, ...], groups: int) -> Tensor:
    return functional.conv2d(maps[..., :: stride[0], :: stride[1]], weight, bias, groups=groups)
