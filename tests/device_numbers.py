"""What the tests of devices compute on a device and on the CPU: each instrument as a list of numbers, and a training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from runs import run_config
from torch import Tensor, nn

from replication import activations, curvature, landscape, lca, stiffness, svcca, training
from replication.data import Examples, Experiment
from replication.objective import Objective
from replication.recorder import Recorder


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 3)
        ).eval()


def examples() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(24, 1, 8, 8, generator=draws), torch.arange(24) % 3


def numbers_of_objective(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    objective = Objective(model, images, labels)
    theta = objective.parameters()
    gradient = objective.gradient(theta)
    products = [objective.hessian_vector_product, objective.gauss_newton_vector_product, objective.fisher_vector_product]
    by_class = objective.gradient_by_class(theta)
    return [
        np.array(objective.value(theta)),
        *(each.cpu().numpy() for each in (gradient, by_class, *(p(theta, gradient) for p in products))),
    ]


def numbers_of_lca(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    objective = Objective(model, images, labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with Recorder(model) as recorder:
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step()
    tables = lca.along(objective, recorder).tables()
    return [tables[name].select_dtypes("number").to_numpy() for name in ("steps", "layers")]


def numbers_of_svcca(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    outputs = activations.layer_outputs(model, images, ["0", "4", "5"], view=lambda output: output.flatten(1)[:, :4])
    tables = [
        svcca.similarity_matrix(outputs, outputs, measure="svcca"),
        svcca.similarity_matrix(outputs, outputs, measure="pwcca"),
        svcca.similarity_matrix(outputs, outputs, measure="linear_cka"),
        svcca.similarity_matrix(outputs, outputs, measure="procrustes"),
    ]
    return [table["similarity"].to_numpy() for table in tables]


def numbers_of_stiffness(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    grams = stiffness.gram(model, images, labels)
    return [stiffness.table(grams, labels).select_dtypes("number").to_numpy()]


def numbers_of_landscape(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    objective = Objective(model, images, labels)
    x, y = (landscape.random_direction(model, landscape.axis_generator(seed=0, axis=axis)) for axis in (0, 1))
    table = landscape.surface(objective, x, y, np.linspace(-1, 1, 3), np.linspace(-1, 1, 3))
    return [table.select_dtypes("number").to_numpy(), landscape.measures(table).select_dtypes("number").to_numpy()]


def numbers_of_curvature(model: nn.Module, images: Tensor, labels: Tensor) -> list[np.ndarray]:
    objective = Objective(model, images, labels, dtype=torch.float64)
    ends = curvature.extremes(objective)
    density = curvature.spectral_density(objective, probes=2, products=8)["nodes"]
    trace = curvature.trace(objective, probes=4)
    return [np.array([ends.smallest, ends.largest, trace.value]), density["eigenvalue"].to_numpy()]


MEASURED: dict[str, Callable[[nn.Module, Tensor, Tensor], list[np.ndarray]]] = {
    "objective": numbers_of_objective,
    "lca": numbers_of_lca,
    "svcca": numbers_of_svcca,
    "stiffness": numbers_of_stiffness,
    "landscape": numbers_of_landscape,
    "curvature": numbers_of_curvature,
}


def trained(folder: Path, device: str, steps: int, *, stop_after_s: float = float("inf")) -> training.Trained:
    images, labels = (tensor.to(device) for tensor in examples())
    same = Examples(images, labels)
    data = Experiment(same, same, same, 3, torch.zeros(1, 1, 1, device=device))
    config = run_config(batch_size=8, steps=steps, keep=[0], evaluations=1, augment={"crop": 1, "flip": True})
    return training.train(network().to(device), data, config, seed=0, folder=folder, stop_after_s=stop_after_s)
