"""A trajectory recorded in a user's own loop: the weights it passed, in memory and on disk alike, whatever happens to the training."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, prune

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.recorder import RecordedPath, Recorder

Examples = tuple[Tensor, Tensor]


def train(model: nn.Module, examples: Examples, recorder: Recorder, steps: int = 5) -> list[Tensor]:
    """Plain SGD in training mode; the parameter vectors it passed."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    path = [parameters_to_vector(model.parameters()).detach().clone()]
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(examples[0]), examples[1]).backward()
        optimizer.step()
        recorder.step()
        path.append(parameters_to_vector(model.parameters()).detach().clone())
    return path


def nudge(model: nn.Module) -> None:
    """Change every parameter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_are_the_weights_that_were_passed(on_disk: bool, examples: Examples, tmp_path: Path) -> None:
    model = small_batch_norm_net()
    folder = tmp_path / "new" if on_disk else None
    with Recorder(model, folder=folder) as recorder:
        path = train(model, examples, recorder)
    assert recorder.kept == list(range(6))
    assert recorder.trajectory.dtype == np.float32
    np.testing.assert_array_equal(recorder.trajectory, torch.stack(path))
    np.testing.assert_allclose(recorder.buffers[-1], Objective(model, *examples).buffers())
    assert recorder.buffers.shape == (6, 8)
    if folder is not None:
        assert isinstance(recorder.trajectory, np.memmap)
        np.testing.assert_array_equal(np.load(folder / "trajectory.npy"), recorder.trajectory)
        read = RecordedPath.read(folder)
        np.testing.assert_array_equal(read.trajectory, recorder.trajectory)
        np.testing.assert_array_equal(read.buffers, recorder.buffers)
        assert read.specification == recorder.path.specification


def test_names_shapes_and_types_are_kept_and_every_tensor_is_found_by_its_name(examples: Examples, tmp_path: Path) -> None:
    model = small_batch_norm_net()
    with Recorder(model, folder=tmp_path) as recorder:
        train(model, examples, recorder, steps=2)
    description = json.loads((tmp_path / "recording.json").read_text())
    assert description["parameters"][0] == {"name": "0.weight", "shape": [4, 1, 3, 3], "dtype": "float32"}
    assert [buffer["name"] for buffer in description["buffers"]] == ["1.running_mean", "1.running_var"]
    tensors = RecordedPath.read(tmp_path).tensors(2)
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("every", "kept"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5])])
def test_the_first_and_the_last_weights_are_always_kept(every: int, kept: list[int], examples: Examples, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        model = small_mlp()
        with Recorder(model, every=every, folder=folder) as recorder:
            path = train(model, examples, recorder)
        assert recorder.kept == kept
        np.testing.assert_array_equal(recorder.trajectory, torch.stack(path)[kept])
    assert recorder.buffers.shape == (len(kept), 0)


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_interrupt_leaves_what_was_recorded(on_disk: bool, tmp_path: Path) -> None:
    model = small_mlp()
    recorder = Recorder(model, folder=tmp_path if on_disk else None)
    with contextlib.suppress(KeyboardInterrupt), recorder:
        for step in range(10):
            nudge(model)
            recorder.step()
            if step == 6:
                nudge(model)  # a step that was not finished
                raise KeyboardInterrupt
    assert recorder.kept == list(range(8))
    assert (np.diff(recorder.trajectory, axis=0).round(5) == 1).all()
    if on_disk:
        assert len(RecordedPath.read(tmp_path)) == 8


KILLED = """
import sys, torch
from replication.recorder import Recorder
model = torch.nn.BatchNorm1d(400)
with Recorder(model, folder=sys.argv[1]) as recorder:
    for step in range(1, 100_000):
        torch.nn.init.constant_(model.weight, step)
        model.running_mean.fill_(step)
        recorder.step()
        if step == 20:
            print("go", flush=True)
"""


def test_a_killed_training_leaves_complete_rows_that_can_be_continued(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    path = RecordedPath.read(tmp_path)
    assert len(path) > 20
    assert path.steps.tolist() == list(range(len(path)))
    assert (path.trajectory[1:, :400] == path.steps[1:, None]).all()
    assert (path.moving["running_mean"] == path.steps[:, None]).all()
    model = nn.BatchNorm1d(400)
    nn.init.constant_(model.weight, 15)  # a checkpoint before the end
    with Recorder(model, folder=tmp_path, append=True) as recorder:
        model.running_mean.fill_(-1)
        recorder.step()
    again = RecordedPath.read(tmp_path)
    assert again.steps.tolist() == recorder.kept == list(range(17))
    assert again.trajectory[:, 0].tolist() == [1, *range(1, 16), 15]
    assert again.moving["running_mean"][:, 0].tolist() == [*range(16), -1]


def test_a_second_recording_neither_overwrites_the_first_nor_is_mixed_with_it(tmp_path: Path) -> None:
    model = small_mlp()
    with Recorder(model, folder=tmp_path) as recorder:
        nudge(model)
        recorder.step()
    before = recorder.trajectory.copy()
    with pytest.raises(ReplicationError, match="already holds a recording of 2 rows; give append=True"), Recorder(model, folder=tmp_path):
        pass
    with pytest.raises(ReplicationError, match="other parameters or buffers"), Recorder(nn.Linear(2, 2), folder=tmp_path, append=True):
        pass
    nudge(model)
    with pytest.raises(ReplicationError, match="in none of the 2 rows"), Recorder(model, folder=tmp_path, append=True):
        pass
    np.testing.assert_array_equal(RecordedPath.read(tmp_path).trajectory, before)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "trajectory.npy", before)
    with (
        pytest.raises(ReplicationError, match=r"already holds a trajectory\.npy that is no recording"),
        Recorder(model, folder=tmp_path / "other"),
    ):
        pass


def test_a_continued_recording_goes_on_where_it_ended(examples: Examples, tmp_path: Path) -> None:
    model = small_batch_norm_net()
    for _ in range(2):
        with Recorder(model, folder=tmp_path, append=True) as recorder:
            train(model, examples, recorder, steps=3)
    assert recorder.kept == list(range(7))
    whole = RecordedPath.read(tmp_path)
    assert (np.abs(np.diff(whole.trajectory, axis=0)).sum(1) > 0).all()
    assert whole.buffers.shape == (7, 8)


def test_parameters_that_come_go_or_change_their_shape_end_the_recording_with_one_sentence(tmp_path: Path) -> None:
    for change, says in (
        (lambda model: setattr(model, "head", nn.Linear(2, 2)), "changed by step 2: 'head.weight' is new, 'head.bias' is new; a recording"),
        (lambda model: prune.l1_unstructured(model[0], "weight", 0.5), "'0.weight' is gone, '0.weight_orig' is new"),
        (lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(3, 2))), "'0.weight' has another shape"),
    ):
        model = nn.Sequential(nn.Linear(2, 2))
        with Recorder(model) as recorder:
            recorder.step()
            change(model)
            with pytest.raises(ReplicationError, match=says):
                recorder.step()
        assert recorder.kept == [0, 1]


def test_columns_stay_with_their_names_when_the_model_reorders_its_parameters() -> None:
    model = nn.Linear(2, 2)
    with Recorder(model) as recorder:
        prune.identity(model, "weight")
        prune.remove(model, "weight")
        recorder.step()
    assert [name for name, _ in model.named_parameters()] == ["bias", "weight"]
    np.testing.assert_array_equal(recorder.trajectory[1], recorder.trajectory[0])


def test_only_trainable_parameters_when_asked() -> None:
    model = small_mlp()
    model[1].requires_grad_(False)
    with Recorder(model, only_trainable=True) as recorder:
        recorder.step()
        assert recorder.trajectory.shape == (2, 35 + 5 + 5 * 3 + 3)
        model[1].requires_grad_(True)
        with pytest.raises(ReplicationError, match=r"'1\.weight' is new"):
            recorder.step()
    model = small_mlp()
    model[1].weight.requires_grad_(False)
    with Recorder(model, only_trainable=True) as recorder, torch.no_grad():
        model[1].weight.data.mul_(0.9)  # as the moving average of a teacher
        with pytest.raises(ReplicationError, match=r"'1\.weight' requires no gradient and has changed by step 1.*only_trainable=False"):
            recorder.step()
    with Recorder(small_mlp()) as everything:
        everything.step()
    assert everything.trajectory.shape[1] == 16 * 7 + 7 + 35 + 5 + 15 + 3


@pytest.mark.parametrize("on_disk", [False, True])
def test_buffers_are_kept_from_when_they_change_and_constant_ones_once(on_disk: bool, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("table", torch.randn(50, 20))
    model.register_buffer("late", torch.zeros(2, 2))
    model.register_buffer("counter", torch.tensor(0))
    model.register_buffer("cache", torch.zeros(3), persistent=False)
    with Recorder(model, folder=tmp_path if on_disk else None) as recorder:
        for step in range(4):
            model.late.fill_(max(0, step - 1))
            model.cache = torch.zeros(step)
            recorder.step()
    assert recorder.buffers.shape == (5, 4)
    assert recorder.buffers[:, 0].tolist() == [0, 0, 0, 1, 2]
    assert recorder.path.tensors(4)["late"].tolist() == [[2, 2], [2, 2]]
    torch.testing.assert_close(recorder.path.tensors(4)["table"], model.table)
    if on_disk:
        assert sum(file.stat().st_size for file in tmp_path.glob("buffer-*.npy")) < 1000
        np.testing.assert_array_equal(RecordedPath.read(tmp_path).buffers, recorder.buffers)
    with Recorder(model) as recorder:
        del model.late
        with pytest.raises(ReplicationError, match="Buffer 'late' is gone or has another shape"):
            recorder.step()


def test_types_that_rows_can_hold_are_exact_and_others_refused() -> None:
    half = small_mlp().to(torch.bfloat16)
    with Recorder(half) as recorder:
        recorder.step()
    np.testing.assert_array_equal(recorder.trajectory[1], parameters_to_vector(half.parameters()).float().detach())
    double = small_mlp().double()
    nn.init.constant_(double[1].bias, 0.1)
    with Recorder(double) as recorder:
        recorder.step()
    np.testing.assert_array_equal(recorder.trajectory[1], parameters_to_vector(double.parameters()).detach())
    complex_model = nn.Linear(2, 2, dtype=torch.cfloat)
    with pytest.raises(ReplicationError, match="'weight' has type complex64, and rows are real"), Recorder(complex_model):
        pass
    with pytest.raises(ReplicationError, match="lazy module has no shape yet"), Recorder(nn.LazyLinear(2)):
        pass
    with pytest.raises(ReplicationError, match="no parameters to record"), Recorder(nn.ReLU()):
        pass


def test_wrappers_are_looked_through() -> None:
    model = small_mlp()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        with Recorder(wrapped) as recorder:
            recorder.step()
        assert recorder.path.specification.parameters[0].name == "1.weight"


def test_rows_can_be_read_while_the_training_runs(tmp_path: Path) -> None:
    model = small_mlp()
    with Recorder(model, folder=tmp_path) as recorder:
        recorder.step()
        assert len(recorder.trajectory) == len(RecordedPath.read(tmp_path)) == 2


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReplicationError, match="every=0; give 1"):
        Recorder(small_mlp(), every=0)
    with pytest.raises(ReplicationError, match="append=True and no folder"):
        Recorder(small_mlp(), append=True)
    with pytest.raises(ReplicationError, match="The SGD has no parameter of the model"):
        Recorder(small_mlp(), torch.optim.SGD(small_mlp().parameters()), folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    recorder = Recorder(small_mlp())
    with pytest.raises(ReplicationError, match="outside of the recorder's block"):
        recorder.step()
    with pytest.raises(ReplicationError, match="has no rows yet; they begin with its block"):
        _ = recorder.trajectory
    with recorder:
        recorder.step()
    with pytest.raises(ReplicationError, match="outside of the recorder's block"):
        recorder.step()
    with pytest.raises(ReplicationError, match="has ended; make a new one"), recorder:
        pass
    with pytest.raises(ReplicationError, match=r"holds no recording: recording\.json is missing"):
        RecordedPath.read(tmp_path)
    (tmp_path / "recording.json").write_text("{}")
    with pytest.raises(ReplicationError, match="cannot be read"):
        RecordedPath.read(tmp_path)


@pytest.mark.parametrize("file", ["trajectory.npy", "steps.npy", "buffer-running_mean.npy"])
def test_rows_that_a_file_lacks_at_its_end_are_left_out(tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.BatchNorm1d(4)
    with Recorder(model, folder=tmp_path) as recorder:
        for number in range(1, 6):
            nn.init.constant_(model.weight, number)
            model.running_mean.fill_(number)
            recorder.step()
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:-5])
    with caplog.at_level("INFO"):
        path = RecordedPath.read(tmp_path)
    assert path.steps.tolist() == [0, 1, 2, 3, 4]
    assert path.trajectory[:, 0].tolist() == [1, 1, 2, 3, 4]
    assert path.moving["running_mean"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert file == "steps.npy" or "5 complete rows of 6" in caplog.text
    nn.init.constant_(model.weight, 4)  # a checkpoint of the last complete row
    with Recorder(model, folder=tmp_path, append=True) as recorder:
        nn.init.constant_(model.weight, 5)
        recorder.step()
    assert RecordedPath.read(tmp_path).trajectory[:, 0].tolist() == [1, 1, 2, 3, 4, 5]
