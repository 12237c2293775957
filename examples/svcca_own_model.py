"""What does training change, and where? Layers of a torchvision ResNet-18 before and after a few steps, compared by SVCCA.

Modules have the names of ``model.named_modules()``. Maps are averaged over space here, which is one of several views.
"""

import copy
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from replication import activations, plots, svcca
from replication.data.sources import import_torchvision

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")

torch.manual_seed(0)
images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = (images.float() / 16).view(-1, 1, 8, 8).repeat(1, 3, 1, 1)
images = nn.functional.interpolate(images[:320], size=32, mode="bilinear")
train, train_labels, held_out = images[:96], labels[:96], images[96:]

model = import_torchvision().models.resnet18(num_classes=10)
before = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(9):
    batch = slice(32 * (step % 3), 32 * (step % 3) + 32)
    loss = nn.functional.cross_entropy(model(train[batch]), train_labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def neurons(output: torch.Tensor) -> torch.Tensor:
    """[n, channels]: a map's mean over space."""
    return svcca.spatial_mean(output) if output.dim() == 4 else output


layers = ["bn1", "layer1", "layer2", "fc"]  # 64 to 128 neurons: examples have to be several times as many
first, last = (activations.layer_outputs(network, held_out, layers, view=neurons) for network in (before, model))
matrix = svcca.similarity_matrix(first, last, measure="svcca")
table = matrix.query("layer_a == layer_b")

print("Similarity of each layer to itself before training, and what independent layers of its size would have:")
print(table[["layer_a", "similarity", "noise_floor"]].round(2).to_string(index=False))
print(f"Training changed {table.loc[table['similarity'].idxmin(), 'layer_a']} most.")

ax = plots.similarity(matrix)
ax.set(title="ResNet-18 before and after nine steps", xlabel="layer after training", ylabel="layer before training")
ax.figure.savefig(PICTURE)
print(f"The picture of the similarities is {PICTURE}.")
