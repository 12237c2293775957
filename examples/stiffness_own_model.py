"""Does a step on one example help another? Gradient cosines within and between classes of a table of features, by layer.

The control is the same with the labels given to other examples. Other losses: ``stiffness.gram(..., loss=one_per_example)``.
"""

import torch
from sklearn.datasets import load_wine
from torch import nn

from replication import stiffness

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
print(f"All layers: within classes {matrix.within():.3f}, between {matrix.between():.3f}.")
print(f"With permuted labels: within {permuted.within():.3f}, between {permuted.between():.3f}.")
