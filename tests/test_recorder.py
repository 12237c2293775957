"""A trajectory recorded in a user's own loop: the weights it passed, in memory and on disk alike, and what allocation makes of them."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn

from replication import lca
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.recorder import Recorder

Examples = tuple[Tensor, Tensor]


def train(model: nn.Module, examples: Examples, recorder: Recorder, steps: int = 5) -> list[Tensor]:
    """Plain SGD in training mode; the parameter vectors it passed."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    path = [nn.utils.parameters_to_vector(model.parameters()).detach().clone()]
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(examples[0]), examples[1]).backward()
        optimizer.step()
        recorder.step()
        path.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
    return path


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_are_the_weights_that_were_passed(on_disk: bool, examples: Examples, tmp_path: Path) -> None:
    model = small_batch_norm_net()
    with Recorder(model, folder=tmp_path / "new" if on_disk else None) as recorder:
        path = train(model, examples, recorder)
    assert recorder.kept == list(range(6))
    assert recorder.trajectory.dtype == np.float32
    np.testing.assert_array_equal(recorder.trajectory, torch.stack(path))
    np.testing.assert_allclose(recorder.buffers[-1], Objective(model, *examples).buffers())
    assert recorder.buffers.shape == (6, 8)
    if on_disk:
        assert isinstance(recorder.trajectory, np.memmap)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["buffers.npy", "trajectory.npy"]
        np.testing.assert_array_equal(np.load(tmp_path / "new" / "trajectory.npy"), recorder.trajectory)


def test_allocation_along_a_recorded_trajectory_adds_up(examples: Examples) -> None:
    model = small_mlp()
    objective = Objective(model, *examples)
    with Recorder(model) as recorder:
        train(model, examples, recorder)
    steps = lca.along(objective, recorder.trajectory).tables()["steps"]
    fell = Objective(model, *examples).value(Objective(model, *examples).parameters()) - objective.value(objective.parameters())
    assert steps["lca"].sum() + steps["error"].sum() == pytest.approx(fell, abs=1e-6)


@pytest.mark.parametrize(("every", "kept"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5])])
def test_the_first_and_the_last_weights_are_always_kept(every: int, kept: list[int], examples: Examples, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        model = small_mlp()
        with Recorder(model, every=every, folder=folder) as recorder:
            path = train(model, examples, recorder)
        assert recorder.kept == kept
        np.testing.assert_array_equal(recorder.trajectory, torch.stack(path)[kept])
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.npy"], "no batch norm, no buffers"
    assert recorder.buffers.size == 0


def test_weights_of_another_type_are_rounded_once() -> None:
    model = small_mlp().to(torch.bfloat16)
    with Recorder(model) as recorder:
        recorder.step()
    np.testing.assert_array_equal(recorder.trajectory[1], nn.utils.parameters_to_vector(model.parameters()).float().detach())


def test_after_an_exception_there_is_no_half_written_file(tmp_path: Path) -> None:
    model = small_mlp()
    with Recorder(model, folder=tmp_path) as recorder:
        recorder.step()
    with contextlib.suppress(FloatingPointError), Recorder(model, folder=tmp_path) as recorder:
        recorder.step()
        raise FloatingPointError("diverged")
    assert not list(tmp_path.iterdir()), "nor that of the training before, which it was to replace"


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(ReplicationError, match="every=0; give 1"):
        Recorder(small_mlp(), every=0)
    recorder = Recorder(small_mlp())
    with pytest.raises(ReplicationError, match="outside of the recorder's block"):
        recorder.step()
    with pytest.raises(ReplicationError, match="trajectory is there when its block has ended"):
        _ = recorder.trajectory
