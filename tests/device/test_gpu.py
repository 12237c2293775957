"""`python -m pytest -n 0 -m gpu`: a real GPU against the CPU. Skipped without one; under two minutes with one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from device_numbers import MEASURED, examples, network, trained

from replication import machine, models
from replication.objective import Objective

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")]

FAMILIES = sorted({models.entry_of(name).family: name for name in models.names()}.values())


@pytest.fixture(autouse=True)
def _exact_products() -> None:
    machine.prepare()  # no TF32 in measurements


@pytest.mark.parametrize("name", MEASURED)
def test_an_instrument_on_the_gpu_gives_the_numbers_of_the_cpu(name: str) -> None:
    images, labels = examples()
    expected = MEASURED[name](network(), images, labels)
    found = MEASURED[name](network().cuda(), images.cuda(), labels.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_networks_has_the_loss_and_gradient_of_the_cpu(name: str) -> None:
    """In float64, where nothing hides behind rounding."""
    entry = models.entry_of(name)
    channels, height, width = entry.image
    model = models.build(name, classes=entry.classes, channels=channels, seed=0).eval()
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, height, width, generator=draws)
    labels = torch.arange(2) % entry.classes
    values, gradients = [], []
    for device in ("cpu", "cuda"):
        objective = Objective(model.to(device), images.to(device), labels.to(device), dtype=torch.float64)
        value, gradient = objective.value_and_gradient(objective.parameters())
        values.append(value)
        gradients.append(gradient.cpu().numpy())
    assert values[1] == pytest.approx(values[0], rel=1e-8)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5, atol=1e-9 * np.abs(gradients[0]).max())


def test_a_training_on_the_gpu_can_be_continued_and_stays_near_the_one_on_the_cpu(tmp_path: Path) -> None:
    trained(tmp_path / "cpu", "cpu", 6)
    assert not trained(tmp_path / "gpu", "cuda", 6, stop_after_s=0).finished
    assert trained(tmp_path / "gpu", "cuda", 6).resumed_at == 1
    ours, theirs = (np.load(tmp_path / name / "trajectory.npy") for name in ("gpu", "cpu"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
