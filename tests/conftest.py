"""Small networks and data shared by the tests, one thread per process, hypothesis without time limits."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from replication import machine
from replication.objective import Objective

machine.prepare(threads=1)
settings.register_profile("quiet", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("quiet")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    """What a test leaves open would be counted by the next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def examples(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sixty small images ``[60, 1, 4, 4]`` and labels of three classes, all present."""
    labels = torch.arange(60) % 3
    return torch.randn(60, 1, 4, 4, generator=generator) + labels[:, None, None, None], labels


def small_mlp(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    """16-7-5-3, drawn from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 7), activation(), nn.Linear(7, 5), activation(), nn.Linear(5, 3))


def small_batch_norm_net(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    """A convolution with batch norm, so that examples of a chunk interact in batch mode."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), activation(), nn.Flatten(), nn.Linear(64, 3))
        model(torch.randn(32, 1, 4, 4))  # running statistics that differ from the initial ones
    return model


def polynomial_objective(coefficients: Tensor, degree: int) -> Objective:
    """L(theta) = mean over two examples of sum_i c_{e,i} (theta_i^degree + theta_i theta_{i+1}), exact for tests of quadrature."""

    class Parameters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(coefficients.shape[1]))

        def forward(self, rows: Tensor) -> Tensor:
            return rows * (self.theta**degree + self.theta * self.theta.roll(1))

    return Objective(Parameters(), coefficients, torch.zeros(len(coefficients)), loss=lambda out, _: out.sum(1), dtype=torch.float64)


@pytest.fixture
def search_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty search folder, no other one in sight, and no network."""
    (tmp_path / "work").mkdir()
    (tmp_path / "named").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "named"))
    monkeypatch.setenv("REPLICATION_OFFLINE", "1")
    return tmp_path / "named"
