"""Which layers of your network lower the loss? Loss change allocation along a training loop of your own, on a table of features.

What is needed: the weights after every step (the recorder keeps them) and the loss on a fixed set of examples (the objective).
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from replication import lca, plots
from replication.objective import Objective
from replication.recorder import Recorder

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")

torch.manual_seed(0)
features, labels = (torch.as_tensor(array) for array in load_breast_cancer(return_X_y=True))
features = ((features - features.mean(0)) / features.std(0)).float()
model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
objective = Objective(model, features, labels)  # mean cross-entropy over all examples; the model is copied

optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
with Recorder(model) as recorder:
    for _ in range(60):
        batch = torch.randperm(len(labels))[:64]
        loss = nn.functional.cross_entropy(model(features[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step()

tables = lca.along(objective, recorder).tables()
steps, layers = tables["steps"], tables["layers"]
by_layer = layers.groupby("layer")["lca"].sum()
change = steps["loss_end"].iloc[-1] - steps["loss_start"].iloc[0]
share = steps["helping"].sum() / (steps["helping"] + steps["hurting"]).sum()

print("Loss change allocated to each layer (negative lowered the loss):")
print(by_layer.to_string())
print(f"They sum to {by_layer.sum():.4f}, and the loss changed by {change:.4f}.")
print(f"Layer {by_layer.idxmin()} lowered the loss most; {100 * share:.1f} % of the moving parameters helped in a step.")

ax = plots.layers(tables)
ax.set_title("Three layers of an MLP learn")
ax.figure.savefig(PICTURE)
print(f"The picture of the layers is {PICTURE}.")
