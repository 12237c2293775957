"""How sharp is the point that training reached? Extreme eigenvalues, trace and spectral density of the Hessian, with your own loss.

A regression: any function of outputs and targets goes that returns one loss per example.
"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

from replication import curvature
from replication.objective import Objective

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
    print(f"{name}: loss {objective.value(objective.parameters()):.3f}, eigenvalues from {ends.smallest:.3f} to {ends.largest:.3f}", end="")
    print(f" (+/- {ends.largest_error:.1e}), trace {trace.value:.2f} +/- {trace.standard_error:.2f}")
density = curvature.spectral_density(trained, probes=3, products=30)["nodes"]
negative = density.loc[density["eigenvalue"] < 0, "weight"].sum() / density["weight"].sum()
print(f"{100 * negative:.0f} % of the spectrum is below zero.")
