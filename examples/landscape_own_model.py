"""How does the loss look around your network? Filter-normalised surface of a torchvision ResNet-18, and its numbers.

Here the network is untrained and the grid coarse, so that it takes seconds; ``done=table`` and ``limit=`` continue a long surface.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from replication import landscape
from replication.data.sources import import_torchvision
from replication.objective import Objective

torch.manual_seed(0)
images, labels = (torch.as_tensor(array[:64]) for array in load_digits(return_X_y=True))
images = (images.float() / 16).view(-1, 1, 8, 8).repeat(1, 3, 1, 1)
images = nn.functional.interpolate(images, size=16, mode="bilinear")

model = import_torchvision().models.resnet18(num_classes=10)
with torch.no_grad():
    for _ in range(20):
        model(images)  # running statistics of batch norm, on which evaluation rests

objective = Objective(model, images, labels)
x, y = (landscape.random_direction(model, landscape.axis_generator(seed=0, axis=axis)) for axis in (0, 1))
coordinates = np.linspace(-1, 1, 5)
table = landscape.surface(objective, x, y, coordinates, coordinates)
losses, alphas, betas = landscape.as_grid(table, "loss")

print(f"Loss at the centre {losses[2, 2]:.3f}; on the grid (rows beta, columns alpha):")
print(np.round(losses, 2))
print(landscape.measures(table).round(3).to_string(index=False))
