"""Initialisations as the papers' codes have them, where they differ from PyTorch's defaults.

PyTorch draws kernels and biases of convolutions and linear layers uniformly within 1 / sqrt(fan_in); every function here
draws the kernels by its own law and sets the biases to zero. Batch norm is left as PyTorch has it: scale 1, shift 0.
"""

from collections.abc import Iterator

from torch import nn

_TRUNCATION = 2.0
_TRUNCATED_STD = 0.8796256610342398  # standard deviation of a unit normal cut at two


def he_truncated_(module: nn.Module) -> None:
    """He-normal as tf.keras draws it: truncated at two standard deviations, rescaled to sqrt(2 / fan_in); biases 0.

    PyTorch's ``kaiming_normal_`` is not truncated and its default biases are not zero (docs/papers/lca.md).
    """
    for layer in _layers(module):
        fan_in = layer.weight[0].numel()
        std = (2.0 / fan_in) ** 0.5 / _TRUNCATED_STD
        nn.init.trunc_normal_(layer.weight, std=std, a=-_TRUNCATION * std, b=_TRUNCATION * std)
        _zero_bias(layer)


def he_normal_(module: nn.Module) -> None:
    """Convolutions N(0, 2 / fan_in), linear layers N(0, 0.001^2), biases 0, as landscape's training script sets them.

    The tiny classifier starts every network at a loss of ln 10 whatever its depth (docs/papers/landscape.md).
    """
    for layer in _layers(module):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        else:
            nn.init.normal_(layer.weight, std=1e-3)
        _zero_bias(layer)


def he_fan_out_(module: nn.Module) -> None:
    """Convolutions N(0, 2 / fan_out), linear layers uniform with standard deviation sqrt(1 / fan_in), biases 0.

    The law of the ResNet in TensorFlow's models repository, which SVCCA's is taken to be (docs/papers/svcca.md).
    """
    for layer in _layers(module):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        else:
            bound = (3.0 / layer.in_features) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
        _zero_bias(layer)


def glorot_uniform_(module: nn.Module) -> None:
    """Kernels uniform within sqrt(6 / (fan_in + fan_out)), biases 0: the default of Keras and of TensorFlow 1.

    Between-class stiffness at the start depends strongly on it (docs/papers/stiffness.md).
    """
    for layer in _layers(module):
        nn.init.xavier_uniform_(layer.weight)
        _zero_bias(layer)


def _layers(module: nn.Module) -> Iterator[nn.Linear | nn.Conv2d]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def _zero_bias(layer: nn.Linear | nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
