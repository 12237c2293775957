"""Does a step on one example help another? Gradient cosines within and between classes of a table of features, by layer.

The control is the same with the labels given to other examples. Other losses: ``stiffness.gram(..., loss=one_per_example)``.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_wine
from torch import nn

from replication import plots, stiffness

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")

torch.manual_seed(0)
features, labels = (torch.as_tensor(array) for array in load_wine(return_X_y=True))
features = ((features - features.mean(0)) / features.std(0)).float()
model = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 3))

optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(15):
    loss = nn.functional.cross_entropy(model(features), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

grams = stiffness.gram(model.eval(), features, labels)  # {layer: [n, n], "total": [n, n]}; the model is copied
table = stiffness.table(grams, labels)
matrix = stiffness.class_matrix(grams["total"], labels, kind="cosine")
permuted = stiffness.class_matrix(grams["total"], labels[torch.randperm(len(labels))], kind="cosine")

print(table[["layer", "within_cosine", "between_cosine", "trace_share"]].round(3).to_string(index=False))
print(f"A step on one example helps its own class (mean cosine {matrix.within():.3f}) more than others ({matrix.between():.3f}).")
print(f"With permuted labels both are equal: {permuted.within():.3f} and {permuted.between():.3f}.")

ax = plots.stiffness(matrix)
ax.set_title("Mean gradient cosine, three kinds of wine")
ax.figure.savefig(PICTURE)
print(f"The picture of the classes is {PICTURE}.")
