"""The pictures of docs/plots.md: ``replication.plots`` on a small network trained on scikit-learn's digits.

Run: python docs/images/plots.py [folder]. Takes about a minute; the same numbers every time on the same machine.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication import curvature, landscape, lca, plots, stiffness, svcca
from replication.activations import layer_outputs
from replication.objective import Objective

HERE = Path(__file__).parent / "plots"
SIZES = {"fc1": (64, 32), "fc2": (32, 24), "fc3": (24, 16), "out": (16, 10)}


def trained() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A network, its images and labels, and its weights after every step ``[61, n_parameters]``."""
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array[:400]) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    layers = [{name: nn.Linear(*sizes), f"relu_{name}": nn.ReLU()} for name, sizes in SIZES.items()]
    model = nn.Sequential(OrderedDict(list({name: layer for pair in layers for name, layer in pair.items()}.items())[:-1]))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    path = [nn.utils.parameters_to_vector(model.parameters()).detach()]
    for _ in range(60):
        batch = torch.randint(0, len(images), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        path.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
    return model, images, labels, torch.stack(path)


def draw(folder: Path) -> None:
    """Every plot once, as ``<name>.png`` in the folder."""
    model, images, labels, path = trained()
    objective = Objective(model, images, labels)
    keep(folder, "layers", plots.layers(lca.along(objective, path).tables()))
    activations = layer_outputs(model, images, list(SIZES))
    keep(folder, "similarity", plots.similarity(svcca.similarity_matrix(activations, measure="linear_cka")))
    gram = stiffness.gram(model, images[:150], labels[:150], per_layer=False)[stiffness.TOTAL]
    keep(folder, "stiffness", plots.stiffness(stiffness.class_matrix(gram, labels[:150], "cosine")))
    x, y = (landscape.random_direction(model, landscape.axis_generator(seed=0, axis=axis)) for axis in (0, 1))
    ax = plots.line(landscape.line(objective, x, np.linspace(-1, 1, 21)), label="x")
    plots.line(landscape.line(objective, y, np.linspace(-1, 1, 21)), ax=ax, label="y", color="tab:orange")
    ax.legend()
    keep(folder, "line", ax)
    table = landscape.surface(objective, x, y, np.linspace(-1, 1, 15), np.linspace(-1, 1, 15))
    keep(folder, "surface_3d", plots.surface_3d(table))
    plane = landscape.trajectory_plane(path)
    low, high = plane.coordinates.min(0).values, plane.coordinates.max(0).values
    alphas, betas = (np.linspace(a - 0.3 * (b - a), b + 0.3 * (b - a), 17) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    around = landscape.surface(objective, plane.direction_x, plane.direction_y, alphas, betas)
    ax = plots.surface(around, path=plane.coordinates)
    ax.set(xlabel="first principal component", ylabel="second principal component")
    keep(folder, "surface", ax)
    keep(folder, "spectrum", plots.spectrum(curvature.spectral_density(objective, probes=3, products=30)))


def keep(folder: Path, name: str, ax: plt.Axes) -> None:
    """Save the figure of these axes."""
    folder.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(ax.figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
