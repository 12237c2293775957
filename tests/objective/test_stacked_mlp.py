import pytest
import torch
from conftest import small_mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from replication.models.mlp import fully_connected
from replication.objective import Objective
from replication.objective.stacked_mlp import StackedMlp


@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    n_points=st.integers(1, 4),
    n_examples=st.integers(1, 12),
    chunk=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_equals_autograd_for_any_widths(widths: list[int], n_points: int, n_examples: int, chunk: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n_examples, widths[0], generator=generator)
    labels = torch.randint(0, widths[-1], (n_examples,), generator=generator)
    objective = Objective(fully_connected(widths), images, labels, chunk=chunk, dtype=torch.float64)
    points = torch.randn(n_points, objective.n_parameters, generator=generator, dtype=torch.float64)
    assert objective.paths.gradient == "stacked"
    values, gradients = objective.values_and_gradients(points)
    plain = Objective(fully_connected(widths), images, labels, chunk=chunk, dtype=torch.float64, fast=False)
    expected_values, expected_gradients = plain.values_and_gradients(points)
    torch.testing.assert_close(values, expected_values, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-12, atol=1e-13)


def test_images_are_left_as_they_were(examples: tuple[Tensor, Tensor]) -> None:
    objective = Objective(small_mlp(), *examples)
    before = objective.inputs.clone()
    objective.gradient(objective.parameters())
    assert torch.equal(objective.inputs, before)


tied = nn.Linear(4, 4)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 2),
        nn.Sequential(nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Flatten(), tied, nn.ReLU(), tied),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)),
    ],
    ids=["no container", "no flatten", "tanh", "no bias", "no activation", "ends in ReLU", "tied weights", "flatten inside"],
)
def test_any_other_network_takes_the_general_path(model: nn.Module) -> None:
    assert StackedMlp.of(model) is None
