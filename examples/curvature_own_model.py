"""How sharp is the point that training reached? Extreme eigenvalues, trace and spectral density of the Hessian, with your own loss.

A regression. The loss may be any function of outputs and targets that returns one loss per example.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from torch import nn

from replication import curvature, plots
from replication.objective import Objective

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")

torch.manual_seed(0)
features, targets = (torch.as_tensor(array).float() for array in load_diabetes(return_X_y=True, scaled=True))
features, targets = features / features.std(0), (targets - targets.mean()) / targets.std()
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One loss per example [n]."""
    return (outputs[:, 0] - targets).square()


untrained = Objective(model, features, targets, loss=squared_error)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(150):
    loss = squared_error(model(features), targets).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
trained = Objective(model, features, targets, loss=squared_error)

for name, objective in (("untrained", untrained), ("trained", trained)):
    ends = curvature.extremes(objective)
    trace = curvature.trace(objective, probes=20)
    print(f"{name}: the loss is {objective.value(objective.parameters()):.3f};", end=" ")
    print(f"eigenvalues from {ends.smallest:.3f} to {ends.largest:.3f} (+/- {ends.largest_error:.1e});", end=" ")
    print(f"their sum is {trace.value:.2f} +/- {trace.standard_error:.2f}.")
density = curvature.spectral_density(trained, probes=3, products=30)
nodes = density["nodes"]
negative = nodes.loc[nodes["eigenvalue"] < 0, "weight"].sum() / nodes["weight"].sum()
print(f"After training, {100 * negative:.0f} % of the spectrum is below zero.")

ax = plots.spectrum(density)
ax.set_title("Hessian of a regression after training")
ax.figure.savefig(PICTURE)
print(f"The picture of the spectrum is {PICTURE}.")
