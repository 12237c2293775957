"""Small pieces that several families share."""

from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.errors import ReplicationError


def halved(image_size: int, times: int, *, ceil: bool = False) -> int:
    """Side of an image after ``times`` halvings, rounded down or up.

    Raises:
        ReplicationError: the image is smaller than ``2 ** times`` pixels.
    """
    if image_size < 2**times:
        raise ReplicationError(f"Images of {image_size} x {image_size} pixels are too small; this model halves them {times} times.")
    for _ in range(times):
        image_size = -(-image_size // 2) if ceil else image_size // 2
    return image_size


def blocks_per_stage(depth: int) -> int:
    """Two-layer blocks in each of the three stages of a residual network for CIFAR with ``depth`` weight layers.

    Raises:
        ReplicationError: ``depth`` is not 6 n + 2.
    """
    if depth < 8 or depth % 6 != 2:
        raise ReplicationError(f"A residual network of depth {depth} cannot be built; choose 8, 14, 20, ... (6 n + 2).")
    return (depth - 2) // 6


def numbered(name: str, modules: Iterable[nn.Module]) -> nn.Sequential:
    """Modules in sequence, called ``name`` and their number from 1."""
    return nn.Sequential(OrderedDict((f"{name}{number}", module) for number, module in enumerate(modules, start=1)))


class SamePad(nn.Module):
    """Zeros around an image so that an unpadded convolution gives ceil(size / stride) pixels, as TensorFlow's "same" does.

    What cannot be shared evenly goes to the bottom and right, so a 3x3 kernel with stride 2 sees an even-sized image padded
    there only, whereas PyTorch's ``padding=1`` shifts it by a pixel (docs/papers/lca.md). A module of its own, so that
    the convolution after it is an ordinary one for whoever reads its input.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        """``[n, channels, height, width]``, padded."""
        (top, bottom), (left, right) = (self._pads(size) for size in images.shape[-2:])
        return F.pad(images, (left, right, top, bottom))

    def _pads(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"kernel={self.kernel}, stride={self.stride}"


class SpatialMean(nn.Module):
    """Global average pooling, ``[n, channels, height, width]`` to ``[n, channels]``."""

    def forward(self, maps: Tensor) -> Tensor:
        """The mean over height and width."""
        return maps.mean((2, 3))


class UnitSphere(nn.Module):
    """Each example divided by its Euclidean norm ``[n, ...]``; an example of zeros stays what it is.

    The stiffness paper's inputs have norm 1 (docs/papers/stiffness.md). A module without parameters and not a way of
    preparing data, so that what a black pixel is stays the same for all examples.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The same shape, every example of norm 1."""
        norms = images.flatten(1).norm(dim=1).clamp_min(torch.finfo(images.dtype).tiny)
        return images / norms.view(-1, *(1,) * (images.dim() - 1))
