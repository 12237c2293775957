"""The landscape paper's DenseNet for CIFAR."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from replication.models.initialisation import he_normal_
from replication.models.parts import SpatialMean, halved, numbered


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1 to four times ``growth``; batch norm, ReLU, 3x3 to ``growth``; put before its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, growth + channels, height, width]``."""
        hidden = self.conv1(self.bn1(maps).relu())
        return torch.cat([self.conv2(self.bn2(hidden).relu()), maps], dim=1)


class DenseNet(nn.Sequential):
    """DenseNet-121 in its CIFAR form, 6,956,298 parameters (docs/papers/landscape.md).

    3x3 convolution to twice ``growth`` channels; four dense blocks of 6, 12, 24 and 16 layers, between them batch norm, ReLU,
    1x1 to half the channels and 2x2 mean pooling; batch norm, ReLU, mean over space, classifier. Convolutions without biases.
    Input ``[n, channels, 32, 32]``. The paper trains on batch statistics and plots with the running ones.
    """

    def __init__(
        self, *, classes: int = 10, channels: int = 3, image_size: int = 32, growth: int = 32, blocks: Sequence[int] = (6, 12, 24, 16)
    ) -> None:
        halved(image_size, len(blocks) - 1)  # only a check: the weights do not depend on it
        width = 2 * growth
        layers: list[tuple[str, nn.Module]] = [("conv", nn.Conv2d(channels, width, 3, padding=1, bias=False))]
        for number, count in enumerate(blocks, start=1):
            dense = (DenseLayer(width + index * growth, growth) for index in range(count))
            layers += [(f"block{number}", numbered("layer", dense))]
            width += count * growth
            if number < len(blocks):
                layers += [(f"transition{number}", _transition(width))]
                width //= 2
        layers += [("bn", nn.BatchNorm2d(width)), ("relu", nn.ReLU()), ("mean", SpatialMean()), ("fc", nn.Linear(width, classes))]
        super().__init__(OrderedDict(layers))
        he_normal_(self)


def _transition(width: int) -> nn.Sequential:
    parts = [("bn", nn.BatchNorm2d(width)), ("relu", nn.ReLU()), ("conv", nn.Conv2d(width, width // 2, 1, bias=False))]
    return nn.Sequential(OrderedDict([*parts, ("pool", nn.AvgPool2d(2))]))


densenet121 = DenseNet
