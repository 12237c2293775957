"""Every instrument and a training on a pretended accelerator: nothing is mixed with the CPU, and the numbers are the CPU's."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from device_numbers import MEASURED, examples, network, trained
from tagged_device import accelerator
from torch import Tensor

from replication.objective import Objective

DEVICE = "pretended"


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
