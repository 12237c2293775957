"""The pictures of docs/plots.md and docs/own_model.md, drawn by the code that these pages show.

Run: python docs/images/plots.py [folder]  (or make pictures). Takes less than a minute; the same numbers every time on the same machine.
"""

import contextlib
import re
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

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
from replication.recorder import Recorder

PAGES = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "plots"
DRAWN = re.compile(r"```python\n([^`]*)```\n\n!\[[^]]*\]\(images/plots/(\w+)\.png\)")  # code, and the picture that stands below it


def network() -> nn.Sequential:
    """Four layers for 8 x 8 digits."""
    torch.manual_seed(0)
    layers: list[tuple[str, nn.Module]] = []
    for name, n_inputs, n_outputs in (("fc1", 64, 32), ("fc2", 32, 24), ("fc3", 24, 16), ("out", 16, 10)):
        layers += [(name, nn.Linear(n_inputs, n_outputs)), (f"relu_{name}", nn.ReLU())]
    return nn.Sequential(OrderedDict(layers[:-1]))


def digits(n: int) -> tuple[Tensor, Tensor]:
    """Images ``[n, 64]`` from 0 to 1 and labels ``[n]``."""
    images, labels = (torch.as_tensor(array[:n]) for array in load_digits(return_X_y=True))
    return images.float() / 16, labels


def names_of_plots() -> dict[str, Any]:
    """What the code of docs/plots.md starts from: a trained network, its examples, and its weights after every step."""
    model, (images, labels) = network(), digits(400)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    recorder = Recorder(model, optimizer)
    for _ in range(60):
        batch = torch.randint(0, len(images), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    library = {"curvature": curvature, "landscape": landscape, "lca": lca, "plots": plots, "stiffness": stiffness, "svcca": svcca}
    own = {"model": model, "images": images, "labels": labels, "trajectory": torch.as_tensor(recorder.trajectory)}
    return library | own | {"np": np, "layer_outputs": layer_outputs, "objective": Objective(model, images, labels)}


def names_of_own_model() -> dict[str, Any]:
    """What the first code of docs/own_model.md starts from: a network before its training."""
    model, (inputs, labels) = network(), digits(1797)
    return {"model": model, "optimizer": torch.optim.Adam(model.parameters(), 0.01), "inputs": inputs, "labels": labels}


def draw(folder: Path) -> None:
    """Every picture once, as ``<name>.png`` in the folder."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for page, names in (("plots.md", names_of_plots()), ("own_model.md", names_of_own_model())):
        for code, picture in DRAWN.findall((PAGES / page).read_text(encoding="utf-8")):
            with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):  # the code may save pictures too
                exec(compile(code, f"{page}, {picture}", "exec"), names)  # noqa: S102 - our own file
            plt.gcf().savefig(folder / f"{picture}.png", dpi=110, metadata={"Software": None})
            plt.close("all")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)
