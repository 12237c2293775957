"""The cost of a network's forward pass, in multiply-accumulates."""

from typing import Any

import torch
from torch import Tensor, nn


def multiply_accumulates(model: nn.Module, image: Tensor) -> dict[str, int]:
    """Multiply-accumulates of one example's forward pass by convolution, linear or LSTM layer, in the order in which they run.

    Args:
        model: its hooks are as before afterwards.
        image: one example, ``[1, ...]`` on the model's device.

    >>> multiply_accumulates(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.zeros(1, 4))
    {'0': 12, '2': 6}
    """
    costs: dict[str, int] = {}

    def listen(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_layer: nn.Module, _inputs: object, output: Any) -> None:
            if isinstance(layer, nn.LSTM):
                weights = sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
                cost = output[0].shape[1] * weights  # at every character
            else:
                assert isinstance(layer.weight, Tensor)
                cost = output[0].numel() * layer.weight[0].numel()
            costs[name] = costs.get(name, 0) + cost

        return layer.register_forward_hook(hook)

    handles = [listen(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.LSTM)]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return costs
