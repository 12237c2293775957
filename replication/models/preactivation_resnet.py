"""SVCCA's residual network for CIFAR: batch norm and ReLU before each convolution."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from replication.models.initialisation import he_fan_out_
from replication.models.parts import SamePad, SpatialMean, blocks_per_stage, halved, numbered

_EPSILON = 1e-3  # of batch norm: TensorFlow's default


class PreactivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3, batch norm, ReLU, 3x3, plus a shortcut without parameters.

    The shortcut takes means of 2x2 pixels where the block has stride 2 and fills new channels with zeros, half of them on either
    side. With ``activated`` it starts after the first ReLU instead of before the batch norm.
    """

    def __init__(self, width_in: int, width: int, stride: int, *, activated: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in, eps=_EPSILON)
        self.pad = SamePad(3, stride)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=_EPSILON)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.activated = activated
        self.before = (width - width_in) // 2
        self.after = width - width_in - self.before

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, width, height / stride, width / stride]``."""
        active = self.bn1(maps).relu()
        hidden = self.conv1(self.pad(active))
        hidden = self.conv2(self.bn2(hidden).relu())
        shortcut = self.pool(active if self.activated else maps)
        if self.before or self.after:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.before, self.after))
        return hidden + shortcut


class PreactivationResNet(nn.Sequential):
    """SVCCA's ResNet-32: 15 blocks with 16, 32 and 64 channels (docs/papers/svcca.md); 464,154 parameters (not published).

    Input ``[n, channels, 32, 32]``. The paper's figures have 3 stages of ten convolutions without a projection among them, and a
    batch norm before the classifier; the rest is as in the ResNet of TensorFlow's models repository of the time: the first block
    activates before its shortcut, no biases but the classifier's, TensorFlow's padding. Rows of figure 4: ``conv``; per block
    ``conv1``, ``conv2`` and its output; ``bn``; ``logits``. In training batch statistics, in evaluation the running ones.

    Args:
        depth: 6 n + 2 for n blocks in each stage.
        width: channels of the first stage; the later ones have 2 and 4 times as many.
    """

    def __init__(self, *, classes: int = 10, channels: int = 3, image_size: int = 32, depth: int = 32, width: int = 16) -> None:
        halved(image_size, 2)  # only a check: the weights do not depend on it
        layers: list[tuple[str, nn.Module]] = [("conv", nn.Conv2d(channels, width, 3, padding=1, bias=False))]
        for stage, (width_in, filters) in enumerate([(width, width), (width, 2 * width), (2 * width, 4 * width)], start=1):
            blocks = [PreactivationBlock(width_in, filters, 1 if stage == 1 else 2, activated=stage == 1)]
            blocks += [PreactivationBlock(filters, filters, 1) for _ in range(blocks_per_stage(depth) - 1)]
            layers += [(f"stage{stage}", numbered("block", blocks))]
        layers += [("bn", nn.BatchNorm2d(4 * width, eps=_EPSILON)), ("relu", nn.ReLU())]
        super().__init__(OrderedDict([*layers, ("mean", SpatialMean()), ("logits", nn.Linear(4 * width, classes))]))
        he_fan_out_(self)


svcca_resnet32 = PreactivationResNet
