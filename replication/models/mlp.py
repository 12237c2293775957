"""Fully connected networks."""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from replication.models.initialisation import glorot_uniform_, he_truncated_
from replication.models.parts import UnitSphere


def mnist_fc(*, classes: int = 10, channels: int = 1, image_size: int = 28, hidden: Sequence[int] = (100, 50)) -> nn.Sequential:
    """LCA's MNIST-FC: 784-100-50-10 with ReLU, 84,060 parameters (docs/papers/lca.md).

    Input ``[n, channels, 28, 28]``. ``hidden`` are the widths of the hidden layers.
    """
    return fully_connected([channels * image_size**2, *hidden, classes])


def stiffness_fc(
    *, classes: int = 10, channels: int = 1, image_size: int = 28, hidden: Sequence[int] = (500, 300, 100), unit_sphere: bool = False
) -> nn.Sequential:
    """Stiffness' FC: 784-500-300-100-10 with ReLU, 573,910 parameters (docs/papers/stiffness.md).

    Input ``[n, channels, 28, 28]``. Keras' initialisation: Glorot-uniform kernels, zero biases. ``unit_sphere`` scales every
    input to norm 1 first, as later versions of the paper do.
    """
    network = fully_connected([channels * image_size**2, *hidden, classes], glorot_uniform_)
    return nn.Sequential(OrderedDict([("sphere", UnitSphere()), *network.named_children()])) if unit_sphere else network


def stiffness_fc_v1(
    *, classes: int = 10, channels: int = 1, image_size: int = 28, hidden: Sequence[int] = (400, 200, 200, 200, 200, 200)
) -> nn.Sequential:
    """The FC of version 1 of the stiffness paper (section 3.1): 784-400-200-200-200-200-200-10 with ReLU, 557,010 parameters.

    Input ``[n, channels, 28, 28]``. Keras' initialisation: Glorot-uniform kernels, zero biases.
    """
    return fully_connected([channels * image_size**2, *hidden, classes], glorot_uniform_)


def svcca_toy(*, classes: int = 4, channels: int = 1, image_size: int = 1, hidden: Sequence[int] = (200,) * 4) -> nn.Sequential:
    """SVCCA's toy regression net: 1-200-200-200-200-4 (docs/papers/svcca.md); 121,804 parameters (not published).

    Input ``[n, 1]`` or ``[n, 1, 1, 1]``. Activation and initialisation are not published: ReLU, and PyTorch's own
    initialisation, because zero biases on a one-dimensional input would put the kink of every first-layer unit at 0.
    """
    return fully_connected([channels * image_size**2, *hidden, classes], None)


def fully_connected(widths: Sequence[int], initialise: Callable[[nn.Module], None] | None = he_truncated_) -> nn.Sequential:
    """Linear layers with ReLU between them, initialised as LCA does unless told; ``widths`` from input to output."""
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for number, (width_in, width_out) in enumerate(itertools.pairwise(widths), start=1):
        layers += [(f"fc{number}", nn.Linear(width_in, width_out)), (f"relu{number}", nn.ReLU())]
    model = nn.Sequential(OrderedDict(layers[:-1]))
    if initialise is not None:
        initialise(model)
    return model
