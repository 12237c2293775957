"""Single steps allocated like the whole path, and white, green and red counted as they are drawn."""

import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp

from replication import lca
from replication.errors import ReplicationError
from replication.measurements import lca_frames
from replication.measurements.lca_frames import COUNTS
from replication.objective import Objective, layout_of
from replication.schema.lca import LcaFramesConfig


def trajectory_of(objective: Objective, generator: torch.Generator, steps: int = 6) -> torch.Tensor:
    moves = 0.1 * torch.randn(steps, objective.n_parameters, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros_like(moves[:1]), moves]).cumsum(0) + objective.parameters()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_are_the_steps_of_the_whole_path(examples, generator, dtype) -> None:
    objective = Objective(small_mlp(), *examples, dtype=dtype)
    trajectory = trajectory_of(objective, generator).numpy()
    frames = lca_frames.allocate_frames(objective, trajectory, [0, 3, 5])
    ledger = lca.along(objective, trajectory)
    table = ledger.tables()["layers"]
    for index, step in enumerate([0, 3, 5]):
        whole = table[table["step"] == step].set_index("tensor")
        for slot in objective.layout:
            assert frames.change[index, slot.slice].sum() == pytest.approx(whole.loc[slot.name, "lca"], abs=1e-6)
            assert frames.shuffled[index, slot.slice].sum() == pytest.approx(whole.loc[slot.name, "lca_shuffled"], abs=1e-6)
    steps = ledger.tables()["steps"].set_index("step").loc[[0, 3, 5]]
    np.testing.assert_allclose(frames.losses, steps["loss_start"], rtol=1e-5)
    np.testing.assert_allclose(frames.losses + frames.change.sum(1) + frames.errors, steps["loss_end"], rtol=1e-5)


def test_steps_are_spread_over_the_logarithm() -> None:
    steps = lca_frames.spread_steps(880, 24)
    assert (steps[0], steps[-1]) == (0, 879)
    assert steps == sorted(set(steps))
    assert 18 <= len(steps) <= 24
    assert lca_frames.spread_steps(3, 24) == [0, 1, 2]


def test_white_is_below_a_share_of_the_scale_and_nothing_else() -> None:
    white = lca_frames.WHITE
    change = np.array([[0.0, -white / 2, white / 2, -1.0, -2 * white, 3.0, np.nan, np.inf]])
    counts = dict(zip(COUNTS, lca_frames.count_colours(change, 1.0)[0], strict=True))
    assert counts == {"parameters": 8, "helping": 2, "hurting": 1, "white": 3, "exactly_zero": 1, "non_finite": 2}
    by_frame = lca_frames.count_colours(np.repeat(change, 2, axis=0), np.array([[1.0], [100.0]]))
    assert by_frame[:, COUNTS.index("white")].tolist() == [3, 6]


def test_without_any_movement_all_is_white() -> None:
    change = np.zeros((2, 5))
    assert lca_frames.colour_scale(change) == 0
    assert (lca_frames.count_colours(change, 0.0)[:, COUNTS.index("white")] == 5).all()


def test_the_colour_scale_leaves_out_what_is_not_finite() -> None:
    change = np.append(np.linspace(-1, 0, 101), [np.nan, -np.inf])
    assert lca_frames.colour_scale(change) == pytest.approx(lca_frames.SCALE_PERCENTILE / 100)
    assert np.isnan(lca_frames.colour_scale(np.array([np.nan])))


def test_mistakes_are_one_sentence(examples, generator) -> None:
    objective = Objective(small_mlp(), *examples)
    trajectory = trajectory_of(objective, generator)
    for steps in ([], [6], [-1]):
        with pytest.raises(ReplicationError, match=r"allowed: at least one within range\(0, 6\)"):
            lca_frames.allocate_frames(objective, trajectory, steps)
    assert [slot.name for slot in lca_frames.kernels(objective.layout)] == ["1.weight", "3.weight", "5.weight"]
    convolutions = [slot for slot in layout_of(small_batch_norm_net()) if slot.layer != "4"]
    with pytest.raises(ReplicationError, match="no linear layer to show"):
        lca_frames.kernels(convolutions)


class Run:
    """What the measurement needs of a training."""

    def __init__(self, objective: Objective, trajectory: torch.Tensor) -> None:
        self._objective, self.trajectory = objective, trajectory.numpy()
        self.config = type("Config", (), {"steps": len(trajectory) - 1})

    def objective(self) -> Objective:
        return self._objective


@pytest.mark.parametrize("seed", [0, 1])
def test_tables_hold_everything_that_is_drawn_and_pixels_of_the_first_seeds_only(examples, generator, seed: int) -> None:
    objective = Objective(small_mlp(), *examples)
    run = Run(objective, trajectory_of(objective, generator))
    config = LcaFramesConfig(instrument="lca_frames", run="a", frames=3, units=2)
    arrays = lca_frames.measure(config, [run], seed=seed, part=0, progress=lambda *_: None)
    tables = lca_frames.tables(config, [arrays])
    assert tables["shares"].groupby("layer", sort=False)["parameters"].first().to_dict() == {"1": 112, "3": 35, "5": 15}
    parts = tables["shares"][["helping", "hurting", "white", "non_finite"]]
    assert (parts.sum(axis=1) == tables["shares"]["parameters"]).all()
    assert ("pixels" in tables) == (seed == 0)
    if seed == 0:
        frames = lca_frames.allocate_frames(objective, run.trajectory, tables["frames"]["step"].tolist())
        last = tables["pixels"].query("layer == '5'")["lca"].to_numpy().reshape(3, 15)
        np.testing.assert_allclose(last, frames.change[:, objective.layout[4].slice], rtol=1e-3)
        assert tables["pixels"].query("layer == '1'")["unit"].unique().tolist() == [0, 1]
