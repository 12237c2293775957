"""The two-parameter losses: their allocations in closed form, and what lag, coupling and momentum do to them."""

import itertools

import numpy as np
import pytest
import torch

from replication import lca
from replication.measurements import lca_toy
from replication.schema.lca import LcaToyConfig


def allocations(objective, path: torch.Tensor) -> np.ndarray:
    """A ``[n_steps, 2]``."""
    return np.stack([lca.allocate(objective, *pair, max_error=1e-12).change.numpy() for pair in itertools.pairwise(path)])


def test_the_idle_parameter_moves_and_gets_exactly_nothing(generator) -> None:
    path = lca_toy.idle_path(12, generator)
    allocated = allocations(lca_toy.idle(), path)
    assert (path[1:, 1] != path[:-1, 1]).all()
    assert (allocated[:, 1] == 0).all()
    losses = path[:, 0].numpy() ** 2 / 2
    np.testing.assert_allclose(allocated[:, 0], np.diff(losses), atol=1e-14)


def test_one_step_of_the_idle_path_is_plain_gradient_descent() -> None:
    path = lca_toy.descend(lca_toy.idle(), torch.tensor([-2.0, 0.0]), torch.tensor([1, 0]), momenta=(0.0, 0.0))
    size, pull = lca_toy.STEP_SIZE, lca_toy.PULL
    expected = [[-2, 0], [-2 * (1 - size), -size * pull], [-2 * (1 - size) ** 2, 0]]
    np.testing.assert_allclose(path.numpy(), expected, atol=1e-14)


def test_momentum_is_a_heavy_ball_with_the_same_step_size() -> None:
    momentum, steps = 0.75, 5
    path = lca_toy.descend(lca_toy.idle(), torch.tensor([1.0, 0.0]), torch.zeros(steps, dtype=torch.long), momenta=(momentum, 0.0))
    theta, velocity, expected = 1.0, 0.0, [1.0]
    for _ in range(steps):
        velocity = momentum * velocity + theta
        theta -= lca_toy.STEP_SIZE * (1 - momentum) * velocity
        expected.append(theta)
    np.testing.assert_allclose(path[:, 0].numpy(), expected, atol=1e-14)
    assert lca_toy.momentum_of(9) == 0.9
    assert lca_toy.momentum_of(0) == 0


def test_the_oscillation_is_its_quadratic() -> None:
    objective = lca_toy.oscillation(0.5)
    theta = torch.tensor([0.3, -1.2], dtype=torch.float64)
    curvature = torch.tensor([[1, 0.5], [0.5, 1]], dtype=torch.float64)
    torch.testing.assert_close(objective.gradient(theta), curvature @ theta, atol=1e-14, rtol=0)
    constant = objective.value(torch.zeros(2))
    assert objective.value(theta) - constant == pytest.approx((theta @ curvature @ theta / 2).item(), abs=1e-14)


@pytest.mark.parametrize(("delay", "coupling"), [(0, 0.5), (3, 0.5), (5, -0.5)])
def test_the_steady_allocation_is_the_one_far_from_the_start(delay: int, coupling: float) -> None:
    cycles = 10 * lca_toy.PERIOD
    path = lca_toy.oscillation_path(150 + cycles, delay, coupling=coupling)[150:]
    allocated = allocations(lca_toy.oscillation(coupling), path)
    assert allocated[:, 1].mean() == pytest.approx(lca_toy.steady_allocation(delay, coupling), abs=1e-6)
    assert allocated.mean(axis=0).sum() == pytest.approx(0, abs=1e-6), "the two allocations cancel"


def test_who_lags_hurts_who_leads_helps_and_without_coupling_nobody_does() -> None:
    steady = [lca_toy.steady_allocation(delay, 0.5) for delay in (0, lca_toy.MEMORY, 3, 9)]
    assert steady[0] < -1e-3
    assert steady[1] == pytest.approx(0, abs=1e-15)
    assert min(steady[2:]) > 1e-3
    assert all(lca_toy.steady_allocation(delay, 0.0) == 0 for delay in (0, 5))


@pytest.fixture(scope="module")
def tables():
    config = LcaToyConfig(instrument="lca_toy", seeds=1, steps=6, oscillation_steps=16, delays=[0, 2])
    arrays = lca_toy.measure(config, [], seed=0, part=0, progress=lambda *_: None)
    assert all(values.dtype.kind in "if" for values in arrays.values())
    return lca_toy.tables(config, [arrays])


def test_allocations_sum_to_the_loss_change_on_every_path(tables) -> None:
    assert len(tables["path"]) == 7
    for steps in (tables["idle"], tables["oscillation"]):
        sums = steps["lca_theta_1"] + steps["lca_theta_2"]
        np.testing.assert_allclose(sums, steps["loss_end"] - steps["loss_start"], atol=1e-12)
    assert (tables["idle"]["lca_theta_2"] == 0).all()
    assert (tables["idle"]["lca_shuffled_theta_2"] != 0).any()


def test_every_delay_is_there_and_the_last_one_without_coupling_too(tables) -> None:
    cases = tables["oscillation"][["delay", "coupling"]].drop_duplicates().to_numpy().tolist()
    assert cases == [[0, 0.5], [2, 0.5], [2, 0]]
    assert tables["oscillation"].groupby(["delay", "coupling"]).size().tolist() == [16, 16, 16]
