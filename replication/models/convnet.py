"""Plain convolutional networks of the SVCCA, PWCCA and stiffness papers."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from replication.models.initialisation import glorot_uniform_
from replication.models.parts import SamePad, SpatialMean, UnitSphere, halved

_EPSILON = 1e-3  # of batch norm: TensorFlow's default
_PWCCA_MULTIPLES = (1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8)
_PWCCA_STRIDES = (1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1)

Layers = list[tuple[str, nn.Module]]


def svcca_convnet(
    *, classes: int = 10, channels: int = 3, image_size: int = 32, width: int = 64, hidden: Sequence[int] = (512, 256)
) -> nn.Sequential:
    """SVCCA's convnet: c1 c2 bn1 p1 c3 c4 c5 bn2 p2 fc1 bn3 fc2 bn4 logits (docs/papers/svcca.md).

    Published are these rows, 4096 values after p2, 512 in fc1, 256 in fc2. Ours: 3x3 kernels and 64 filters throughout, ReLU at
    once after each convolution and dense layer, hence before batch norm; Glorot-uniform kernels and zero biases, TensorFlow's
    defaults. 2,382,858 parameters (not published). Input ``[n, channels, 32, 32]``; random translations in training. The modules
    have the rows' names; the row c1 is the output of ``c1_relu``, likewise for all with a ReLU. In training batch statistics, in
    evaluation the running ones.
    """
    layers = _convolution("c1", channels, width) + _convolution("c2", width, width)
    layers += [("bn1", nn.BatchNorm2d(width, eps=_EPSILON)), ("p1", nn.MaxPool2d(2))]
    for name in ("c3", "c4", "c5"):
        layers += _convolution(name, width, width)
    layers += [("bn2", nn.BatchNorm2d(width, eps=_EPSILON)), ("p2", nn.MaxPool2d(2)), ("flatten", nn.Flatten())]
    width_in = width * halved(image_size, 2) ** 2
    for number, units in enumerate(hidden, start=1):
        layers += [(f"fc{number}", nn.Linear(width_in, units)), (f"fc{number}_relu", nn.ReLU())]
        layers += [(f"bn{number + 2}", nn.BatchNorm1d(units, eps=_EPSILON))]
        width_in = units
    return _initialised([*layers, ("logits", nn.Linear(width_in, classes))])


def pwcca_convnet(*, classes: int = 10, channels: int = 3, image_size: int = 32, width: int = 64) -> nn.Sequential:
    """PWCCA's net of eleven 3x3 convolutions with batch norm and ReLU (docs/papers/svcca.md).

    Filters 1 1 2 2 2 4 4 4 8 8 8 times ``width``, stride 2 at the third, sixth and ninth; the paper's widths are 64 times 0.25
    to 7. Pooling and head are not published: mean over space and a linear classifier. 7,790,794 parameters at width 64 (not
    published). Input ``[n, channels, 32, 32]``; no biases but the classifier's, TensorFlow's padding and default initialisation
    (Glorot-uniform). In training batch statistics, in evaluation the running ones.
    """
    halved(image_size, 3)  # only a check: the weights do not depend on it
    layers: Layers = []
    width_in = channels
    for number, (multiple, stride) in enumerate(zip(_PWCCA_MULTIPLES, _PWCCA_STRIDES, strict=True), start=1):
        filters = multiple * width
        layers += [(f"pad{number}", SamePad(3, stride))] if stride > 1 else []
        layers += [(f"conv{number}", nn.Conv2d(width_in, filters, 3, stride, padding=1 if stride == 1 else 0, bias=False))]
        layers += [(f"bn{number}", nn.BatchNorm2d(filters, eps=_EPSILON)), (f"relu{number}", nn.ReLU())]
        width_in = filters
    return _initialised([*layers, ("mean", SpatialMean()), ("logits", nn.Linear(width_in, classes))])


def stiffness_cnn(
    *, classes: int = 10, channels: int = 3, image_size: int = 32, width: int = 16, unit_sphere: bool = False
) -> nn.Sequential:
    """Stiffness' CNN: 3x3 convolutions with 16, 32 and 32 filters, ReLU and 2x2 max pooling after each, one dense layer.

    19,466 parameters with padded convolutions (docs/papers/stiffness.md). Input ``[n, channels, 32, 32]``; Keras'
    initialisation: Glorot-uniform kernels, zero biases. No batch norm. ``unit_sphere`` scales every input to norm 1 first, as
    later versions of the paper do.
    """
    layers: Layers = [("sphere", UnitSphere())] if unit_sphere else []
    for number, (width_in, filters) in enumerate([(channels, width), (width, 2 * width), (2 * width, 2 * width)], start=1):
        layers += [*_convolution(f"conv{number}", width_in, filters), (f"pool{number}", nn.MaxPool2d(2))]
    pixels = halved(image_size, 3) ** 2
    return _initialised([*layers, ("flatten", nn.Flatten()), ("fc", nn.Linear(2 * width * pixels, classes))])


def stiffness_cnn_v1(
    *, classes: int = 10, channels: int = 3, image_size: int = 32, widths: Sequence[int] = (32, 64, 128, 256)
) -> nn.Sequential:
    """The CNN of version 1 of the stiffness paper (section 3.1): four 3x3 convolutions with ReLU and 2x2 max pooling, one dense layer.

    398,666 parameters on CIFAR-10 with padded convolutions; without padding the last map would have no pixels left. Input
    ``[n, channels, 32, 32]``; Keras' initialisation: Glorot-uniform kernels, zero biases. No batch norm.
    """
    layers: Layers = []
    for number, (width_in, filters) in enumerate(itertools.pairwise([channels, *widths]), start=1):
        layers += [*_convolution(f"conv{number}", width_in, filters), (f"pool{number}", nn.MaxPool2d(2))]
    pixels = halved(image_size, len(widths)) ** 2
    return _initialised([*layers, ("flatten", nn.Flatten()), ("fc", nn.Linear(widths[-1] * pixels, classes))])


def _convolution(name: str, width_in: int, width: int) -> Layers:
    return [(name, nn.Conv2d(width_in, width, 3, padding=1)), (f"{name}_relu", nn.ReLU())]


def _initialised(layers: Layers) -> nn.Sequential:
    model = nn.Sequential(OrderedDict(layers))
    glorot_uniform_(model)
    return model
