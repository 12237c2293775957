"""The landscape paper's VGG for CIFAR."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from replication.models.initialisation import he_normal_
from replication.models.parts import halved


def vgg9(
    *,
    classes: int = 10,
    channels: int = 3,
    image_size: int = 32,
    width: int = 64,
    stages: Sequence[int] = (2, 2, 3),
    uniform_scale: bool = True,
) -> nn.Sequential:
    """VGG-9: stages of 2, 2 and 3 convolutions with 64, 128 and 256 filters, two dense layers (docs/papers/landscape.md).

    2,789,706 parameters. 3x3 convolutions with biases, batch norm and ReLU, 2x2 max pooling (rounding up) after each stage,
    4096-256 with batch norm and ReLU, 256-10. Input ``[n, channels, 32, 32]``. The paper trains on batch statistics and plots
    with the running ones. ``width`` is that of the first stage, each further one has twice as many filters; ``stages`` counts
    their convolutions, so that (1, 1, 1) is VGG-5.

    ``uniform_scale``: the scale of the dense layer's batch norm starts uniform in [0, 1]. The paper's initialisation leaves
    that layer out, and so PyTorch of 2018 drew it; today's PyTorch starts it at 1.
    """
    layers: list[tuple[str, nn.Module]] = []
    number, width_in, filters = 0, channels, width
    for stage, convolutions in enumerate(stages, start=1):
        filters = width * 2 ** (stage - 1)
        for _ in range(convolutions):
            number += 1
            layers += [(f"conv{number}", nn.Conv2d(width_in, filters, 3, padding=1))]
            layers += [(f"bn{number}", nn.BatchNorm2d(filters)), (f"relu{number}", nn.ReLU())]
            width_in = filters
        layers += [(f"pool{stage}", nn.MaxPool2d(2, ceil_mode=True))]
    scale = nn.BatchNorm1d(filters)
    pixels = halved(image_size, len(stages), ceil=True) ** 2
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(filters * pixels, filters)), ("bn_fc1", scale), ("relu_fc1", nn.ReLU())]
    model = nn.Sequential(OrderedDict([*layers, ("fc2", nn.Linear(filters, classes))]))
    he_normal_(model)
    if uniform_scale:
        nn.init.uniform_(scale.weight)
    return model
