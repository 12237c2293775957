"""The closed-form network of the official numbers, written out anew: two convolutions with batch norm and a classifier."""

import math

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """383 parameters, 354 of them in tensors with two axes or more; functional calls, so that tracing has something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(images)))
        return self.fc(torch.relu(self.bn2(self.conv2(hidden))).mean((2, 3)))


# frequency, phase, amplitude and offset of the sine that fills each tensor
_SINES = {
    "conv1.weight": (0.37, 1.0, 0.30, 0),
    "conv1.bias": (1.1, 0.2, 0.05, 0),
    "bn1.weight": (0.9, 0.3, 0.2, 1),
    "bn1.bias": (1.3, 0.5, 0.1, 0),
    "bn1.running_mean": (0.8, 0.1, 0.2, 0),
    "bn1.running_var": (0.6, 0.7, 0.3, 1),
    "conv2.weight": (0.53, 2.0, 0.25, 0),
    "bn2.weight": (0.7, 1.3, 0.2, 1),
    "bn2.bias": (1.7, 0.9, 0.1, 0),
    "bn2.running_mean": (0.4, 0.6, 0.2, 0),
    "bn2.running_var": (0.5, 0.2, 0.3, 1),
    "fc.weight": (0.71, 0.4, 0.60, 0),
    "fc.bias": (0.5, 1.9, 0.1, 0),
}


def sine(shape: torch.Size, frequency: float, phase: float, amplitude: float, offset: float) -> Tensor:
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (offset + amplitude * torch.sin(frequency * index + phase)).reshape(shape)


def tiny(shift: float = 0.0, zero_filter: bool = True) -> Tiny:
    """In evaluation mode; ``shift`` moves every phase; filter 3 of the second convolution is zero unless told."""
    model = Tiny()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in _SINES:
                frequency, phase, amplitude, offset = _SINES[name]
                tensor.copy_(sine(tensor.shape, frequency, phase + shift, amplitude, offset))
        if zero_filter:
            model.conv2.weight[3] = 0
    return model.eval()


def tiny_examples() -> tuple[Tensor, Tensor]:
    """32 images ``[32, 3, 8, 8]`` and labels of five classes."""
    images = sine(torch.Size([32, 3, 8, 8]), 0.123, 0.4, 1.0, 0).float()
    return images, torch.tensor([(i * 7 + i // 5) % 5 for i in range(32)])


def flat(tensors: list[list[float]]) -> Tensor:
    return torch.cat([torch.tensor(values, dtype=torch.float64) for values in tensors])
