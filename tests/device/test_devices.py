"""Every instrument and a training, with model and data on a pretended accelerator: nothing is mixed with the CPU, and numbers are the CPU's."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import run_config
from tagged_device import accelerator
from torch import Tensor, nn

from replication import activations, curvature, landscape, lca, stiffness, svcca, training
from replication.data import Examples, Experiment
from replication.objective import Objective
from replication.recorder import Recorder

DEVICE = "pretended"


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
    measures = ("svcca", "pwcca", "linear_cka", "procrustes")
    return [svcca.similarity_matrix(outputs, outputs, measure=measure)["similarity"].to_numpy() for measure in measures]


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


@pytest.fixture
def waits() -> Iterator[Counter[str]]:
    with accelerator() as places:
        yield places


@pytest.mark.parametrize("name", MEASURED)
def test_an_instrument_on_the_accelerator_gives_the_numbers_of_the_cpu(name: str, waits: Counter[str]) -> None:
    images, labels = examples()
    expected = MEASURED[name](network(), images, labels)
    found = MEASURED[name](network().to(DEVICE), images.to(DEVICE), labels.to(DEVICE))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


PASSES: dict[str, Callable[[Objective, Tensor], object]] = {
    "value": lambda objective, theta: objective.value(theta),
    "evaluate": lambda objective, theta: objective.evaluate(theta),
    "gradient": lambda objective, theta: objective.gradient(theta),
    "product": lambda objective, theta: objective.hessian_vector_product(theta, theta),
}


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("fast", [True, False])
def test_a_pass_over_the_examples_waits_as_often_for_many_chunks_as_for_one(name: str, fast: bool, waits: Counter[str]) -> None:
    images, labels = (tensor.to(DEVICE) for tensor in examples())
    counts = []
    for chunk in (24, 4):
        objective = Objective(network().to(DEVICE), images, labels, chunk=chunk, fast=fast)
        theta = objective.parameters()
        PASSES[name](objective, theta)  # chooses and proves the path
        waits.clear()
        PASSES[name](objective, theta)
        counts.append(dict(waits))
    assert counts[0] == counts[1]


def trained(folder: Path, device: str, steps: int, **options: float) -> training.Trained:
    images, labels = (tensor.to(device) for tensor in examples())
    data = Experiment(*[Examples(images, labels)] * 3, 3, torch.zeros(1, 1, 1, device=device))
    config = run_config(batch_size=8, steps=steps, keep=[0], evaluations=1, augment={"crop": 1, "flip": True})
    return training.train(network().to(device), data, config, seed=0, folder=folder, **options)


def test_a_training_on_the_accelerator_can_be_continued_and_ends_with_the_weights_of_the_cpu(tmp_path: Path, waits: Counter[str]) -> None:
    trained(tmp_path / "cpu", "cpu", 6)
    assert not trained(tmp_path / "device", DEVICE, 6, stop_after_s=0).finished
    assert trained(tmp_path / "device", DEVICE, 6).resumed_at == 1
    ours, theirs = (np.load(tmp_path / name / "trajectory.npy") for name in ("device", "cpu"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_step_of_training_does_not_wait(tmp_path: Path, waits: Counter[str]) -> None:
    counts = []
    for steps in (2, 8):
        waits.clear()
        trained(tmp_path / str(steps), DEVICE, steps)
        counts.append(dict(waits))
    assert counts[0] == counts[1]


def test_a_mixture_of_devices_raises_an_error(waits: Counter[str]) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device=DEVICE) + torch.ones(3)
    with pytest.raises(TypeError, match="numpy"):
        torch.ones(3, device=DEVICE).numpy()
