"""LCA's All-CNN."""

from collections import OrderedDict

from torch import nn

from replication.models.initialisation import he_truncated_
from replication.models.parts import SamePad, SpatialMean, halved

_EPSILON = 1e-3  # of batch norm: TensorFlow's default, a hundred times PyTorch's


def allcnn(*, classes: int = 10, channels: int = 3, image_size: int = 32, width: int = 96, dropout: bool = False) -> nn.Sequential:
    """Nine convolutions without dense layer, 1,371,658 parameters (docs/papers/lca.md).

    3x3 with ``width`` filters twice and with stride 2, the same with twice as many filters, then 3x3, 1x1 and 1x1 to the
    classes, mean over space. All have biases, also before batch norm; the strided ones and the last have neither batch norm
    nor ReLU. Input ``[n, channels, 32, 32]``; TensorFlow's padding and truncated He initialisation. The paper uses batch
    statistics everywhere. ``dropout`` switches the two dropout layers after the strided convolutions (0.5) on in training
    mode; the released code never does (docs/papers/lca.md).
    """
    halved(image_size, 2)  # only a check: the weights do not depend on it
    layers: list[tuple[str, nn.Module]] = []
    for stage, (width_in, filters) in enumerate([(channels, width), (width, 2 * width)]):
        number = 3 * stage + 1
        layers += _convolution(number, width_in, filters, 3) + _convolution(number + 1, filters, filters, 3)
        layers += [(f"pad{number + 2}", SamePad(3, 2)), (f"conv{number + 2}", nn.Conv2d(filters, filters, 3, stride=2))]
        layers += [(f"dropout{stage + 1}", nn.Dropout(0.5 if dropout else 0.0))]
    layers += _convolution(7, 2 * width, 2 * width, 3) + _convolution(8, 2 * width, 2 * width, 1)
    layers += [("conv9", nn.Conv2d(2 * width, classes, 1)), ("mean", SpatialMean())]
    model = nn.Sequential(OrderedDict(layers))
    he_truncated_(model)
    return model


def _convolution(number: int, width_in: int, width: int, kernel: int) -> list[tuple[str, nn.Module]]:
    return [
        (f"conv{number}", nn.Conv2d(width_in, width, kernel, padding=kernel // 2)),
        (f"bn{number}", nn.BatchNorm2d(width, eps=_EPSILON)),
        (f"relu{number}", nn.ReLU()),
    ]
