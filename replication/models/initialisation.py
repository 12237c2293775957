"""Initialisations as the papers' codes have them, where they differ from PyTorch's defaults."""

from torch import nn

_TRUNCATION = 2.0
_TRUNCATED_STD = 0.8796256610342398  # standard deviation of a unit normal cut at two


def he_truncated_(module: nn.Module) -> None:
    """He-normal as tf.keras draws it: truncated at two standard deviations, rescaled to sqrt(2 / fan_in); biases 0.

    PyTorch's ``kaiming_normal_`` is not truncated and its default biases are not zero (LCA specification, 2.2, trap 6).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            std = (2.0 / fan_in) ** 0.5 / _TRUNCATED_STD
            nn.init.trunc_normal_(layer.weight, std=std, a=-_TRUNCATION * std, b=_TRUNCATION * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
