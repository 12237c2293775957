"""One path in the forms people keep it in, matched by name, and running statistics that are followed or refused."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from safetensors.torch import save_file
from torch import Tensor, nn

from replication import lca
from replication.errors import ReplicationError
from replication.lca import sampled
from replication.objective import Objective
from replication.recorder import Recorder

Examples = tuple[Tensor, Tensor]


def loss_of(model: nn.Module, examples: Examples) -> Tensor:
    return nn.functional.cross_entropy(model(examples[0]), examples[1])


def evaluated(model: nn.Module, examples: Examples) -> float:
    """The loss in evaluation mode."""
    return loss_of(copy.deepcopy(model).eval().double(), (examples[0].double(), examples[1])).item()


def train(model: nn.Module, examples: Examples, steps: int = 4, *, after: Callable[[], None] = lambda: None, **settings) -> Recorder:
    """Recorded gradient descent."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
    recorder = Recorder(model, optimizer, **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, examples).backward()
        optimizer.step()
        after()
    recorder.close()
    return recorder


def layers(objective: Objective, trajectory, **settings):
    return lca.along(objective, trajectory, **settings).tables()["layers"]


def test_recorder_folder_state_dicts_and_files_are_the_array_s_path(examples: Examples, tmp_path: Path) -> None:
    model = small_mlp()
    objective, states = Objective(model, *examples), [copy.deepcopy(model.state_dict())]
    recorder = train(model, examples, after=lambda: states.append(copy.deepcopy(model.state_dict())), folder=tmp_path / "run")
    files = [tmp_path / f"{number}.pt" for number in range(len(states))]
    for file, state in zip(files, states, strict=True):
        torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}, "epoch": 1}, file)
    save_file(states[1], tmp_path / "1.safetensors")
    expected = layers(objective, recorder.trajectory)
    models = [copy.deepcopy(model) for _ in states]
    for each, state in zip(models, states, strict=True):
        each.load_state_dict(state)
    wrapped = [{f"module._orig_mod.{name}": tensor for name, tensor in state.items()} for state in states]
    shuffled = [dict(reversed(state.items())) for state in states]
    mixed = [states[0], str(tmp_path / "1.safetensors"), *states[2:]]
    for trajectory in (recorder, recorder.path, tmp_path / "run", str(tmp_path / "run"), states, models, files, wrapped, shuffled, mixed):
        assert layers(objective, trajectory).equals(expected)
    subset = sampled.random_subset(60, 20)
    assert (sampled.along(objective, recorder, subset=subset).lca == sampled.along(objective, recorder.trajectory, subset=subset).lca).all()


def test_parameters_that_were_not_trained_have_exactly_zero(examples: Examples) -> None:
    model = small_mlp()
    model[1].requires_grad_(False)
    objective = Objective(model, *examples)
    recorder, whole = train(copy.deepcopy(model), examples, only_trainable=True), train(model, examples)
    assert recorder.trajectory.shape[1] < whole.trajectory.shape[1]
    table = layers(objective, recorder)
    assert table.equals(layers(objective, whole))
    assert (table.loc[table["layer"] == "1", "lca"] == 0).all()


def test_weights_alone_are_refused_where_running_statistics_move(examples: Examples) -> None:
    model = small_batch_norm_net()
    objective, recorder = Objective(model, *examples), train(model, examples)
    for trajectory in (recorder.trajectory, [dict(each.named_parameters()) for each in (model, small_batch_norm_net())]):
        with pytest.raises(ReplicationError, match=r"'1\.running_mean', '1\.running_var'.*recorder itself.*batch_norm='batch'"):
            lca.along(objective, trajectory)
    with pytest.raises(ReplicationError, match="running statistics"):
        sampled.along(objective, recorder.trajectory, subset=sampled.random_subset(60, 20))
    batch = Objective(model, *examples, batch_norm="batch", chunk=20)
    expected = layers(batch, recorder.trajectory)
    assert layers(batch, recorder).equals(expected)
    states = [recorder.path.tensors(row) for row in range(len(recorder.path))]
    assert layers(batch, states).equals(expected)
    assert lca.along(objective, states).tables()["steps"].equals(lca.along(objective, recorder).tables()["steps"])


@pytest.mark.parametrize("in_order", [True, False])
def test_recorded_statistics_give_the_losses_of_evaluation_mode_and_sums_their_change(in_order: bool, examples: Examples) -> None:
    model = small_batch_norm_net(nn.Softplus)
    objective = Objective(small_batch_norm_net(nn.Softplus), *examples, dtype=torch.float64)
    losses = [evaluated(model, examples)]
    recorder = train(model, examples, after=lambda: losses.append(evaluated(model, examples)))
    settings = {} if in_order else {"steps": range(2, 4)}
    steps = lca.along(objective, recorder, max_error=1e-9, **settings).tables()["steps"]
    first = 0 if in_order else 2
    np.testing.assert_allclose(steps["loss_start"], losses[first:-1], rtol=1e-6)
    np.testing.assert_allclose(steps["loss_end"], losses[first + 1 :], rtol=1e-6)
    assert (steps["statistics"].abs() > 1e-5).all()
    summed = steps["lca"] + steps["statistics"] + steps["error"]
    np.testing.assert_allclose(summed, np.diff(losses)[first:], rtol=0, atol=1e-7)
    assert (steps["error"].abs() < 1e-6).all()


def test_each_step_is_allocated_at_the_statistics_of_its_end(examples: Examples) -> None:
    model = small_batch_norm_net(nn.Softplus)
    objective = Objective(copy.deepcopy(model), *examples, dtype=torch.float64)
    recorder = train(model, examples, steps=2)
    table = layers(objective, recorder, max_error=1e-9, by_class=True)
    for step in range(2):
        at_end = copy.deepcopy(model)
        at_end.load_state_dict(recorder.path.tensors(step + 1), strict=False)
        start, end = (torch.as_tensor(row.copy()) for row in recorder.trajectory[step : step + 2])
        expected = lca.allocate(Objective(at_end, *examples, dtype=torch.float64), start, end, max_error=1e-9).change
        of_step = table[table["step"] == step]["lca"]
        np.testing.assert_allclose(of_step, [expected[slot.slice].sum() for slot in objective.layout], rtol=0, atol=1e-12)
    sums = sampled.along(objective, recorder, subset=sampled.random_subset(60, 60, fresh=False), groups=2, intervals=8).lca
    by_tensor = table["lca"].to_numpy().reshape(2, -1)
    np.testing.assert_allclose(sums[:, : by_tensor.shape[1]], by_tensor, rtol=0, atol=1e-5)


def test_arrays_with_their_buffers_are_the_recorder_s_path(examples: Examples) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model.register_buffer("table", torch.ones(7))  # kept once, and not among the recorder's rows of buffers
    objective = Objective(copy.deepcopy(model), *examples)
    recorder = train(model, examples)
    expected = layers(objective, recorder)
    assert recorder.buffers.shape == (5, 8)
    every = np.concatenate([np.ones((5, 7), np.float32), recorder.buffers], axis=1)
    for buffers in (recorder.buffers, torch.tensor(recorder.buffers), every):
        assert layers(objective, recorder.trajectory, buffers=buffers).equals(expected)
    for wrong in (recorder.buffers[1:], recorder.buffers[:, :5], 3.0):
        with pytest.raises(ReplicationError, match="the trajectory has 5 rows and the objective 15 numbers in buffers"):
            lca.along(objective, recorder.trajectory, buffers=wrong)
    with pytest.raises(ReplicationError, match=r"has buffers of its own, .*leave out buffers"):
        lca.along(objective, recorder, buffers=recorder.buffers)


def test_statistics_that_did_not_move_are_one_vector(examples: Examples) -> None:
    model = small_batch_norm_net().eval()  # batch norm is frozen, as in fine-tuning
    objective, recorder = Objective(model, *examples), train(model, examples)
    tables = lca.along(objective, recorder).tables()
    assert (tables["steps"]["statistics"] == 0).all()
    constant = lca.along(objective, recorder.trajectory, buffers=objective.buffers()).tables()
    assert tables["layers"].equals(constant["layers"])


def test_buffers_that_do_not_move_are_no_obstacle(examples: Examples) -> None:
    """A table of positions is used in the forward pass and stays as it is."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(16, 3)
            self.register_buffer("table", torch.linspace(0, 1, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.dense(x.flatten(1) + self.table)

    model = Positions()
    objective, recorder = Objective(model, *examples), train(model, examples)
    assert objective.moving_buffers == ()
    np.testing.assert_allclose(layers(objective, recorder)["lca"], layers(objective, recorder.trajectory)["lca"], rtol=1e-6)


def test_tied_weights_have_two_names_in_a_state_dict_and_one_in_the_vector() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embedding(ids))

    model, examples = Tied(), (torch.arange(6) % 3, torch.arange(6) % 2)
    objective, states = Objective(model, *examples), [copy.deepcopy(model.state_dict())]
    recorder = train(model, examples, after=lambda: states.append(copy.deepcopy(model.state_dict())))
    assert len(states[0]) == 2
    assert layers(objective, states).equals(layers(objective, recorder))


def test_what_does_not_fit_is_named(examples: Examples, tmp_path: Path) -> None:
    model = small_mlp()
    objective, state = Objective(model, *examples), model.state_dict()
    renamed = {f"net{name}": tensor for name, tensor in state.items()}
    without = {name: tensor for name, tensor in state.items() if name != "3.bias"}
    other_shape = state | {"5.weight": torch.zeros(4, 5)}
    other = copy.deepcopy
    for states, says in (
        ([renamed, other(renamed)], r"The path lacks '1\.weight', '1\.bias', '3\.weight' and 3 more and has 'net1\.weight'"),
        ([without, other(without)], r"The path lacks '3\.bias' and has"),
        ([state, other(other_shape)], r"'5\.weight' has shape \(4, 5\) in row 1 of the path; the objective's has \(3, 5\)"),
        ([state, other(without)], r"'3\.bias' is missing in row 1"),
        ([state | {"extra": torch.zeros(1)}, other(state) | {"extra": torch.ones(1)}], "'extra' moves along the path and is no parameter"),
        ([state, model.state_dict()], r"Checkpoints 0 and 1 share their memory.*copy\.deepcopy"),
        ([state], "There are 1 checkpoints; a path needs two"),
        ([{"epoch": 1}, state], "Checkpoint 0 holds no state dict"),
        ([str(tmp_path / "none.pt"), state], r"none\.pt cannot be read"),
    ):
        with pytest.raises(ReplicationError, match=says):
            lca.along(objective, states)
    with pytest.raises(ReplicationError, match="holds no recording"):
        lca.along(objective, tmp_path)
    constant = state | {"extra": torch.ones(1)}
    assert len(lca.along(objective, [constant, other(constant)]).steps) == 1


class Centred(nn.Module):
    """Keeps a running mean by itself: as a buffer that is saved, as one that is not, or as a plain attribute."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        if kind == "attribute":
            self.mean = torch.zeros(6)
        else:
            self.register_buffer("mean", torch.zeros(6), persistent=kind == "buffer")

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * (x.mean(0).detach() + 1)
        return self.layer(x - self.mean)


@pytest.mark.parametrize(("kind", "sentence"), [("attribute", "register_buffer"), ("not saved", "persistent=True"), ("buffer", None)])
def test_running_statistics_of_the_users_own(kind: str, sentence: str | None) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 6), torch.arange(12) % 3
    model = Centred(kind)
    objective, recorder = Objective(model, x, y), train(model, (x, y))
    if sentence is None:
        lca.along(objective, recorder)
    else:
        with pytest.raises(ReplicationError, match=sentence):
            lca.along(objective, recorder)


class Scheduled(nn.Module):
    """Counts its training passes: in a buffer that the loss depends on, or in one that it does not."""

    def __init__(self, *, cools: bool) -> None:
        super().__init__()
        self.layer, self.cools = nn.Linear(6, 3), cools
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("open", torch.ones(6, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            self.open[int(self.passes) % 6] = False
        return self.layer(x * self.open) * (1 + self.passes) if self.cools else self.layer(x)


@pytest.mark.parametrize("form", ["recorder", "folder", "state dicts"])
@pytest.mark.parametrize("cools", [True, False])
def test_counters_and_masks_that_move_are_refused_where_the_loss_depends_on_them(form: str, cools: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 6), torch.arange(12) % 3
    model, states = Scheduled(cools=cools), []
    recorder = train(
        model, (x, y), after=lambda: states.append(copy.deepcopy(model.state_dict())), folder=tmp_path if form == "folder" else None
    )
    path = {"recorder": recorder, "folder": tmp_path, "state dicts": states}[form]
    if cools:
        with pytest.raises(ReplicationError, match=r"Row 0 of the path .* make it a floating-point buffer"):
            lca.along(Objective(model, x, y), path)
    else:
        assert len(lca.along(Objective(model, x, y), path).steps) == len(recorder.kept if form != "state dicts" else states) - 1
    assert recorder.path.tensors(4)["passes"].dtype == torch.int64
    assert recorder.path.tensors(4)["passes"].item() == 4


def test_a_path_without_steps_is_told_about_the_step_method(examples: Examples) -> None:
    with Recorder(small_mlp()) as recorder:
        pass
    with pytest.raises(ReplicationError, match=r"has 1 rows and no step; .* call recorder.step\(\)"):
        lca.along(Objective(small_mlp(), *examples), recorder)


class Annealed(nn.Module):
    """Its training loop lowers a temperature and counts: the temperature is an attribute, or a buffer that is not saved."""

    def __init__(self, *, as_buffer: bool) -> None:
        super().__init__()
        self.layer, self.count = nn.Linear(6, 3), 0
        if as_buffer:
            self.register_buffer("temperature", torch.tensor(2.0), persistent=False)
        else:
            self.temperature = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / self.temperature


@pytest.mark.parametrize("as_buffer", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
def test_numbers_that_the_loop_changes_and_no_row_holds_are_refused(as_buffer: bool, on_disk: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 6), torch.arange(12) % 3

    def along(cools: bool, folder: Path) -> None:
        model = Annealed(as_buffer=as_buffer)

        def after() -> None:
            model.temperature *= 0.8 if cools else 1
            model.count += 1

        recorder = train(model, (x, y), after=after, folder=folder if on_disk else None)
        lca.along(Objective(model, x, y), folder if on_disk else recorder)

    along(False, tmp_path / "warm")
    with pytest.raises(ReplicationError, match=r"before .*'temperature' changed, gives an example the loss"):
        along(True, tmp_path / "cool")
