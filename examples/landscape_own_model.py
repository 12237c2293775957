"""How does the loss look around your network? Filter-normalised surface of a torchvision ResNet-18, and its numbers.

Here the network is untrained and the grid coarse, so that it takes seconds; ``done=table`` and ``limit=`` continue a long surface.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from replication import landscape, plots
from replication.data.sources import import_torchvision
from replication.objective import Objective

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")

torch.manual_seed(0)
images, labels = (torch.as_tensor(array[:32]) for array in load_digits(return_X_y=True))
images = (images.float() / 16).view(-1, 1, 8, 8).repeat(1, 3, 1, 1)
images = nn.functional.interpolate(images, size=16, mode="bilinear")

model = import_torchvision().models.resnet18(num_classes=10)
with torch.no_grad():
    for _ in range(20):
        model(images)  # running statistics of batch norm, on which evaluation rests

objective = Objective(model, images, labels)
x, y = (landscape.random_direction(model, landscape.axis_generator(seed=0, axis=axis)) for axis in (0, 1))
coordinates = np.linspace(-0.5, 0.5, 7)
table = landscape.surface(objective, x, y, coordinates, coordinates)
losses, alphas, betas = landscape.as_grid(table, "loss")

edge = np.concatenate([losses[0], losses[-1], losses[:, 0], losses[:, -1]])
print(f"The loss is {losses[3, 3]:.3f} at the network and between {edge.min():.3f} and {edge.max():.3f} on the edge of the plane.")
print("Numbers for what the eye sees on the surface:")
print(landscape.measures(table).round(3).to_string(index=False))

ax = plots.surface(table)
ax.set_title("ResNet-18, untrained")
ax.figure.savefig(PICTURE)
print(f"The picture of the surface is {PICTURE}.")
