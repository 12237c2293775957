"""How large a model is: parameters, and multiply-accumulates of a forward pass."""

from typing import Any

import torch
from torch import Tensor, nn

from replication.models import build, entry_of


def on_meta(name: str, **overrides: Any) -> nn.Module:
    """A model as published, or reduced by ``overrides``, in evaluation mode and without memory for its weights.

    >>> on_meta("mnist_fc").fc1.weight.shape
    torch.Size([100, 784])
    """
    entry = entry_of(name)
    with torch.device("meta"):
        return build(name, classes=entry.classes, channels=entry.image[0], seed=0, **overrides).eval()


def n_parameters(model: nn.Module) -> int:
    """Trainable numbers, those of batch norm included.

    >>> n_parameters(on_meta("mnist_fc"))
    84060
    """
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_accumulates(model: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-accumulates of one image's forward pass, by layer in the order in which the layers run.

    Args:
        model: any network of convolutions, linear and LSTM layers; other layers count as free.
        image: channels, height and width.

    >>> multiply_accumulates(on_meta("mnist_fc"), (1, 28, 28))
    {'fc1': 78400, 'fc2': 5000, 'fc3': 500}
    """
    counts: dict[str, int] = {}

    def listener(name: str) -> Any:
        def count(layer: nn.Module, _inputs: object, output: Any) -> None:
            counts[name] = _of_layer(layer, output)

        return count

    counted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.LSTM)]
    handles = [layer.register_forward_hook(listener(name)) for name, layer in counted]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *image, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _of_layer(layer: nn.Module, output: Any) -> int:
    if isinstance(layer, nn.LSTM):
        weights = sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
        return int(output[0].shape[1] * weights)  # at every character
    assert isinstance(layer.weight, Tensor)
    return int(output[0].numel() * layer.weight[0].numel())
