"""Fully connected networks."""

import itertools
from collections import OrderedDict

from torch import nn

from replication.models.initialisation import he_truncated_


def mnist_fc(*, classes: int = 10, channels: int = 1) -> nn.Module:
    """LCA's MNIST-FC: 784-100-50-10 with ReLU, 84,060 parameters (LCA specification, section 2.2).

    Input ``[n, channels, 28, 28]``.
    """
    return fully_connected([channels * 28 * 28, 100, 50, classes])


def fully_connected(widths: list[int]) -> nn.Module:
    """Linear layers with ReLU between them, He-initialised as LCA does; ``widths`` from input to output."""
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for number, (width_in, width_out) in enumerate(itertools.pairwise(widths), start=1):
        layers += [(f"fc{number}", nn.Linear(width_in, width_out)), (f"relu{number}", nn.ReLU())]
    model = nn.Sequential(OrderedDict(layers[:-1]))
    he_truncated_(model)
    return model
