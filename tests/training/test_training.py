import contextlib
import multiprocessing
import random
import shutil
import signal
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import run_config
from safetensors.torch import load_file
from torch import nn

from replication import machine, models, training
from replication.data import Examples, Experiment, sources
from replication.errors import ReplicationError
from replication.files.atomic import sha256
from replication.objective import layout_of
from replication.schema.runs import RunConfig
from replication.seeds import derived_seed
from replication.training import TrainedRun
from replication.training.optimisation import learning_rate_factor


def experiment(n: int = 100) -> Experiment:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 10
    images = torch.rand(n, 1, 28, 28, generator=generator) + labels[:, None, None, None] / 10
    examples = Examples(images, labels)
    return Experiment(examples, examples, examples, 10, torch.zeros(1, 1, 1))


def train(folder: Path, config: RunConfig, **options: object) -> nn.Module:
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    training.train(model, experiment(), config, seed=0, folder=folder, **options)
    return model


def convolutional(seed: int = 0) -> nn.Module:
    """Two convolutions with batch norm and a linear layer, in named layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        second = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        parts = {"first": first, "second": second, "flatten": nn.Flatten(), "head": nn.Linear(8 * 49, 10)}
        return nn.Sequential(OrderedDict(parts))


def rows_of(folder: Path, model: nn.Module) -> dict[str, np.ndarray]:
    """Kept weights ``[n_kept, ...]`` by parameter name."""
    trajectory = np.load(folder / "trajectory.npy")
    return {slot.name: trajectory[:, slot.slice] for slot in layout_of(model)}


def test_sgd_is_the_heavy_ball(tmp_path: Path) -> None:
    """v <- m v + g, theta <- theta - lr v, replayed by hand from the kept weights (docs/papers/lca.md)."""
    config = run_config(steps=4, schedule={2: 0.1})
    train(tmp_path, config)
    trajectory = torch.from_numpy(np.load(tmp_path / "trajectory.npy")).double()
    data = experiment().train
    model = models.build("mnist_fc", classes=10, channels=1, seed=0).double()
    theta = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(trajectory[0], theta, rtol=0, atol=1e-7)
    velocity = torch.zeros_like(theta)
    for step in range(4):
        torch.nn.utils.vector_to_parameters(theta, model.parameters())
        batch = training.batch_indices(step, 100, run_config(), seed=0)
        loss = nn.functional.cross_entropy(model(data.images[batch].double()), data.labels[batch])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        velocity = 0.9 * velocity + gradient
        theta = theta - (0.05 if step < 2 else 0.005) * velocity
        torch.testing.assert_close(trajectory[step + 1], theta, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        ({"name": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True)),
        ({"name": "adam", "lr": 0.001, "weight_decay": 0.01}, lambda p: torch.optim.Adam(p, lr=0.001, weight_decay=0.01)),
        ({"name": "sgd", "lr": 0.5}, lambda p: torch.optim.SGD(p, lr=0.5)),
        ({"name": "adam", "lr": 0.01, "eps": 1e-7, "fused": True}, lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-7, fused=True)),
    ],
    ids=["nesterov", "adam with weight decay", "plain sgd", "fused adam with an epsilon"],
)
def test_the_loop_is_the_usual_loop(optimizer: dict, reference, tmp_path: Path) -> None:
    trained = train(tmp_path, run_config(optimizer=optimizer))
    model, data = models.build("mnist_fc", classes=10, channels=1, seed=0), experiment().train
    usual = reference(model.parameters())
    for step in range(12):
        batch = training.batch_indices(step, 100, run_config(), seed=0)
        usual.zero_grad()
        nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
        usual.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@given(n=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_visits_examples_once_and_drops_or_keeps_the_remainder(n: int, batch: int, seed: int, epoch: int) -> None:
    batch = min(batch, n)
    for last_batch, visited in (("drop", n // batch * batch), ("keep", n)):
        config = run_config(batch_size=batch, last_batch=last_batch)
        steps = training.steps_per_epoch(config, n)
        seen = torch.cat([training.batch_indices(step, n, config, seed) for step in range(epoch * steps, (epoch + 1) * steps)])
        assert len(seen) == visited
        assert len(seen.unique()) == len(seen)


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [training.batch_indices(step, 100, run_config(batch_size=100), seed) for step in (0, 1) for seed in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(orders) for b in orders[:i])
    assert derived_seed(0, "order", 1) != derived_seed(0, "initialisation")


def test_kept_weights_are_those_of_their_steps(tmp_path: Path) -> None:
    config = run_config(keep=[0, 3, 7])
    assert training.kept_steps(config, 100) == [0, 3, 7, 12]
    assert training.kept_steps(run_config(keep="every_epoch"), 100) == [0, 5, 10, 12]
    assert training.kept_steps(run_config(keep=[]), 100) == [12]
    train(tmp_path / "some", config)
    train(tmp_path / "all", run_config())
    some, every = (np.load(tmp_path / name / "trajectory.npy", mmap_mode="r") for name in ("some", "all"))
    np.testing.assert_array_equal(some, every[[0, 3, 7, 12]])
    final = load_file(tmp_path / "some" / "weights.safetensors")
    np.testing.assert_array_equal(np.concatenate([final[k].flatten() for k in ("fc1.weight", "fc1.bias")]), some[-1][: 784 * 100 + 100])


def test_the_log_holds_every_step_and_the_evaluations(tmp_path: Path) -> None:
    model = train(tmp_path, run_config(evaluations=3))
    log, evaluation = (pd.read_csv(tmp_path / "tables" / f"{name}.csv") for name in ("log", "evaluation"))
    assert log["step"].tolist() == list(range(1, 13))
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert log["accuracy"].between(0, 1).all()
    assert evaluation["step"].tolist() == [4, 4, 8, 8, 12, 12]
    loss, accuracy = training.evaluate(model, experiment().test)
    assert evaluation["loss"].iloc[-1] == loss
    assert evaluation["accuracy"].iloc[-1] == accuracy


def test_a_diverging_run_is_a_result(tmp_path: Path) -> None:
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    config = run_config(optimizer={"name": "sgd", "lr": 1e30}, steps=6)
    trained = training.train(model, experiment(), config, seed=0, folder=tmp_path)
    assert trained.non_finite_at is not None
    log = pd.read_csv(tmp_path / "tables" / "log.csv")
    assert log["loss"].iloc[trained.non_finite_at - 1 :].isna().any()
    assert len(log) == 6


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.05, "momentum": 0.9}, {"name": "adam", "lr": 0.001}], ids=["sgd", "adam"])
@pytest.mark.parametrize("last", [1, 5, 11])
def test_interrupted_training_ends_with_the_same_bits(optimizer: dict, last: int, tmp_path: Path) -> None:
    config = run_config(optimizer=optimizer, schedule={6: 0.5}, evaluations=4)

    def stop(done: int, _total: int) -> None:
        if done == last:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "broken", config, save_every_s=0, progress=stop)
    assert not (tmp_path / "broken" / "trajectory.npy").exists()
    resumed = training.train(
        models.build("mnist_fc", classes=10, channels=1, seed=99), experiment(), config, seed=0, folder=tmp_path / "broken", save_every_s=0
    )
    assert resumed.resumed_at == last
    train(tmp_path / "whole", config)
    for name in ("trajectory.npy", "weights.safetensors", "tables/log.csv", "tables/evaluation.csv"):
        assert sha256(tmp_path / "broken" / name) == sha256(tmp_path / "whole" / name), name
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == ["tables", "trajectory.npy", "weights.safetensors"]


def interrupted(folder: Path) -> Path:
    """A training of identity "a" killed after five steps; its state."""

    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train(folder, run_config(), identity="a", save_every_s=0, progress=stop)
    return folder / "resume.safetensors"


def continued(folder: Path, identity: str) -> int:
    """The step from which the training goes on."""
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    return training.train(model, experiment(), run_config(), seed=0, folder=folder, identity=identity).resumed_at


def test_a_state_of_other_settings_is_not_used(tmp_path: Path) -> None:
    for identity, expected in (("a", 5), ("b", 0)):
        interrupted(tmp_path / identity)
        assert continued(tmp_path / identity, identity) == expected


@pytest.mark.parametrize("place", [4, 20, 200, 0.3, 0.6, 0.99])
def test_a_state_with_one_flipped_bit_is_not_used(place: float, tmp_path: Path) -> None:
    content = bytearray((state := interrupted(tmp_path)).read_bytes())
    content[place if isinstance(place, int) else int(place * len(content))] ^= 4
    state.write_bytes(content)
    assert continued(tmp_path, "a") == 0


def test_a_state_that_was_cut_off_is_not_used(tmp_path: Path) -> None:
    (state := interrupted(tmp_path)).write_bytes(state.read_bytes()[:1000])
    assert continued(tmp_path, "a") == 0


def test_a_stopped_divergence_is_recorded_and_ends_early(tmp_path: Path) -> None:
    config = run_config(optimizer={"name": "sgd", "lr": 1e30}, steps=50, stop_when_non_finite=True)
    trained = training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path)
    assert trained.finished
    assert trained.last_step == trained.non_finite_at < 50
    log = pd.read_csv(tmp_path / "tables" / "log.csv")
    assert len(log) == trained.last_step
    assert not np.isfinite(log["loss"].iloc[-1])
    kept = np.load(tmp_path / "trajectory.npy")
    assert np.isnan(kept[trained.last_step + 1 :]).all()


FULL_RECIPE = {
    "augment": {"crop": 3, "flip": True},
    "schedule": {4: 0.5, 9: 0.1},
    "freeze": {"first": 6},
    "last_batch": "keep",
    "batch_size": 30,
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}, {"name": "adam", "lr": 0.001}])
def test_every_setting_survives_an_interruption(optimizer: dict, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm, augmentation, schedule, freezing: stopped by the clock after every step, the same bits come out."""
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda _device: True)
    config = run_config(optimizer=optimizer, precision=precision, **FULL_RECIPE)
    calls = 0
    while True:
        calls += 1
        model = convolutional(seed=calls - 1)  # later processes may start from other weights: the saved ones count
        trained = training.train(model, experiment(), config, seed=0, folder=tmp_path / "b", stop_after_s=-1)
        if trained.finished:
            break
        assert trained.last_step == calls
    assert calls == config.steps
    training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / "a")
    for name in ("trajectory.npy", "buffers.npy", "weights.safetensors", "tables/log.csv", "tables/evaluation.csv"):
        assert sha256(tmp_path / "a" / name) == sha256(tmp_path / "b" / name), name


def test_a_kill_while_the_arrays_take_their_names_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == "trajectory.partial.npy":
            raise Stop
        return replace(self, target)

    config = run_config()
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Stop):
        training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / "b")
    monkeypatch.undo()
    assert (tmp_path / "b" / "buffers.npy").exists()
    assert training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / "b").resumed_at == config.steps
    training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / "a")
    for name in ("trajectory.npy", "buffers.npy", "weights.safetensors"):
        assert sha256(tmp_path / "a" / name) == sha256(tmp_path / "b" / name), name


STOPS = {
    "stop_at_losses": {"values": [2.1, 2.0, 1.8], "every": 4},
    "optimizer": {"name": "adam", "lr": 0.001},
    "steps": 100,
    "keep": [0, 8],
    "evaluations": 1,
}


def test_a_training_ends_at_its_last_loss_and_keeps_the_weights_at_each(tmp_path: Path) -> None:
    config = run_config(**STOPS)
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    trained = training.train(model, experiment(), config, seed=0, folder=tmp_path)
    evaluation = pd.read_csv(tmp_path / "tables" / "evaluation.csv")
    losses = evaluation[evaluation["split"] == "train"].set_index("step")["loss"]
    assert trained.reached == [int(losses.index[losses <= value][0]) for value in (2.1, 2.0, 1.8)]
    assert trained.finished
    assert trained.last_step == trained.reached[-1] == losses.index[-1] < 100
    assert losses.index.tolist() == list(range(4, trained.last_step + 1, 4))
    run = TrainedRun("run", 0, config, tmp_path, sources.read("digits"), torch.device("cpu"))
    run.__dict__["experiment"] = experiment()  # in place of the digits
    assert run.steps_at_losses == dict(zip((2.1, 2.0, 1.8), trained.reached, strict=True))
    for value, step in run.steps_at_losses.items():
        assert training.evaluate(run.model_at_loss(value), experiment().train)[0] == losses[step]
    with pytest.raises(
        ReplicationError, match=r"Run run seed 0 has no weights at the training loss 0\.5; reached were \[2\.1, 2\.0, 1\.8\]"
    ):
        run.model_at_loss(0.5)


def test_a_training_that_ends_at_a_loss_survives_interruptions(tmp_path: Path) -> None:
    config = run_config(**STOPS)
    for call in range(100):
        model = models.build("mnist_fc", classes=10, channels=1, seed=call)
        if training.train(model, experiment(), config, seed=0, folder=tmp_path / "b", stop_after_s=-1).finished:
            break
    training.train(models.build("mnist_fc", classes=10, channels=1, seed=0), experiment(), config, seed=0, folder=tmp_path / "a")
    for name in ("trajectory.npy", "weights.safetensors", "tables/log.csv", "tables/evaluation.csv"):
        assert sha256(tmp_path / "a" / name) == sha256(tmp_path / "b" / name), name


def test_a_layer_frozen_from_the_start_never_moves(tmp_path: Path) -> None:
    config = run_config(freeze={"first": 0}, optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01})
    model = convolutional()
    training.train(model, experiment(), config, seed=0, folder=tmp_path)
    for name, rows in rows_of(tmp_path, model).items():
        moves = (rows != rows[0]).any()
        assert moves == (not name.startswith("first.")), name
    mean, variance = model.first[1].running_mean, model.first[1].running_var
    assert torch.equal(mean, torch.zeros(4))
    assert torch.equal(variance, torch.ones(4))
    assert not torch.equal(model.second[1].running_mean, torch.zeros(8))


def test_a_schedule_freezes_layer_after_layer(tmp_path: Path) -> None:
    config = run_config(freeze={"first": 3, "second": 8})
    model = convolutional()
    training.train(model, experiment(), config, seed=0, folder=tmp_path)
    for name, rows in rows_of(tmp_path, model).items():
        last = {"first": 3, "second": 8, "head": 12}[name.split(".")[0]]
        moved = [bool((rows[step] != rows[step + 1]).any()) for step in range(12)]
        assert moved == [step < last for step in range(12)], name


def test_nothing_is_propagated_back_into_frozen_first_layers(tmp_path: Path) -> None:
    model, reached = convolutional(), {"first": 0, "second": 0}

    def watch(name: str) -> None:
        def count(_gradient: torch.Tensor) -> None:
            reached[name] += 1

        def after(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            if output.requires_grad:
                output.register_hook(count)

        model.get_submodule(name).register_forward_hook(after)

    for name in reached:
        watch(name)
    training.train(model, experiment(), run_config(freeze={"first": 5}), seed=0, folder=tmp_path)
    assert reached == {"first": 5, "second": 12}


def test_a_whole_frozen_network_keeps_its_weights(tmp_path: Path) -> None:
    config = run_config(freeze={"fc1": 2, "fc2": 2, "fc3": 2})
    train(tmp_path, config)
    rows = np.load(tmp_path / "trajectory.npy")
    assert (rows[2:] == rows[2]).all()
    assert (rows[1] != rows[2]).any()


def test_layers_have_their_own_momentum_and_learning_rate(tmp_path: Path) -> None:
    """Replayed with a reference optimizer of three groups."""
    layers = {"fc3": {"momentum": 0.0, "lr": 0.5}, "fc2": {"momentum": 0.5}}
    config = run_config(optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9, "layers": layers}, schedule={6: 0.5})
    trained = train(tmp_path, config)
    model, data = models.build("mnist_fc", classes=10, channels=1, seed=0), experiment().train
    settings = ((model.fc1, 0.05, 0.9), (model.fc2, 0.05, 0.5), (model.fc3, 0.5, 0.0))
    groups = [{"params": list(layer.parameters()), "lr": lr, "momentum": m} for layer, lr, m in settings]
    usual = torch.optim.SGD(groups, lr=1)
    for step in range(12):
        if step == 6:
            for group in usual.param_groups:
                group["lr"] *= 0.5
        batch = training.batch_indices(step, 100, config, seed=0)
        usual.zero_grad()
        nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
        usual.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_weight_decay_can_spare_biases_and_batch_norm(tmp_path: Path) -> None:
    """With a loss gradient of zero (rate of the data's part aside) only what decays moves: compare with and without decay."""
    moved = {}
    for name, where in {"none": None, "weights": "weights", "all": "all"}.items():
        decay = {} if where is None else {"weight_decay": 0.5, "weight_decay_on": where}
        model = convolutional()
        config = run_config(optimizer={"name": "sgd", "lr": 0.1, **decay}, steps=1)
        training.train(model, experiment(), config, seed=0, folder=tmp_path / name)
        moved[name] = {key: value.clone() for key, value in model.named_parameters()}
    start = dict(convolutional().named_parameters())
    for name, value in moved["none"].items():
        decayed = value - 0.1 * 0.5 * start[name]
        torch.testing.assert_close(moved["all"][name], decayed, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(moved["weights"][name], decayed if value.dim() > 1 else value, rtol=1e-5, atol=1e-7)


def test_schedules(tmp_path: Path) -> None:
    steps = run_config(schedule={3: 0.1, 8: 0.01})
    assert [learning_rate_factor(steps, step) for step in (0, 2, 3, 7, 8, 11)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    line = run_config(schedule={0: 0.0, 4: 1.0, 12: 0.0}, schedule_between="linear")
    assert [learning_rate_factor(line, step) for step in (0, 1, 4, 8, 12)] == pytest.approx([0, 0.25, 1, 0.5, 0])
    train(tmp_path, run_config(schedule={0: 0.0, 3: 1.0}))
    rows = np.load(tmp_path / "trajectory.npy")
    assert (rows[:4] == rows[0]).all(), "a rate of zero moves nothing"
    assert (rows[4] != rows[3]).any()


def test_accumulated_microbatches_are_one_batch(tmp_path: Path) -> None:
    whole = train(tmp_path / "a", run_config())
    parts = train(tmp_path / "b", run_config(microbatch=7))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    logs = [pd.read_csv(tmp_path / name / "tables" / "log.csv") for name in "ab"]
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-4)


def test_bfloat16_reaches_the_accuracy_of_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the digits, with batch norm; weights and evaluation are float32 in both."""
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda _device: True)
    from replication import data

    digits = data.assemble(sources.read("digits"), image_size=28)
    accuracy = {}
    for precision in ("float32", "bfloat16"):
        config = run_config(precision=precision, steps=150, batch_size=50, evaluations=1, keep=[], model="lenet")
        trained = convolutional()
        training.train(trained, digits, config, seed=0, folder=tmp_path / precision)
        assert all(parameter.dtype == torch.float32 for parameter in trained.parameters())
        accuracy[precision] = training.evaluate(trained, digits.test)[1]
    assert accuracy["float32"] > 0.9
    assert abs(accuracy["float32"] - accuracy["bfloat16"]) < 0.03
    weights = [load_file(tmp_path / precision / "weights.safetensors")["head.weight"] for precision in accuracy]
    assert not torch.equal(*weights), "the setting does something"


def test_bfloat16_is_float32_where_the_device_only_emulates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda _device: False)
    weights = []
    for precision in ("float32", "bfloat16"):
        config = run_config(precision=precision, steps=3)
        assert training.precision_on(torch.device("cpu"), config) == "float32"
        training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / precision)
        weights.append(load_file(tmp_path / precision / "weights.safetensors")["head.weight"])
    assert torch.equal(*weights)


@pytest.mark.parametrize(("flags", "native"), [({}, False), ({"avx2": True}, False), ({"amx_bf16": True}, True), ({"bf16": True}, True)])
def test_processors_with_instructions_for_bfloat16(flags: dict[str, bool], native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert machine.multiplies_bfloat16(torch.device("cpu")) is native


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_a_compiled_training_is_the_same_training(tmp_path: Path) -> None:
    """Also where a layer freezes on the way; rounding apart."""
    for name, compiled in (("eager", False), ("compiled", True)):
        config = run_config(compile=compiled, steps=6, freeze={"first": 4}, optimizer={"name": "sgd", "lr": 0.01, "momentum": 0.9})
        training.train(convolutional(), experiment(), config, seed=0, folder=tmp_path / name)
    eager, compiled = (np.load(tmp_path / name / "trajectory.npy") for name in ("eager", "compiled"))
    np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=1e-5)


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReplicationError, match="freeze names the layer 'fc9', which the model does not have; allowed: fc1, fc2, fc3"):
        train(tmp_path, run_config(freeze={"fc9": 0}))
    with pytest.raises(ReplicationError, match=r"optimizer\.layers names the layer 'last'"):
        train(tmp_path, run_config(optimizer={"name": "sgd", "lr": 0.1, "layers": {"last": {"lr": 0.0}}}))
    with pytest.raises(ReplicationError, match="batch_size is 101 and there are 100 training examples"):
        train(tmp_path, run_config(batch_size=101))


KILLED = FULL_RECIPE | {"steps": 400, "evaluations": 2, "freeze": {"first": 120}, "schedule": {60: 0.5}}


def train_to_be_killed(optimizer: dict, folder: Path) -> None:
    config = run_config(**KILLED, optimizer=optimizer)
    training.train(convolutional(), experiment(), config, seed=0, folder=folder, save_every_s=0.01)


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.05, "momentum": 0.9}, {"name": "adam", "lr": 0.001}], ids=["sgd", "adam"])
def test_sigkill_at_random_moments_loses_nothing(optimizer: dict, tmp_path: Path) -> None:
    """Killed at ten random moments for each optimizer, and continued each time, a run ends with the bits of an undisturbed one."""
    folder, processes = tmp_path / "broken", multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["replication.training.loop"])  # torch is imported once, and not by every process that is killed
    moments, kills = random.Random(0), 0
    while kills < 10:
        state = folder / "resume.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = processes.Process(target=train_to_be_killed, args=(optimizer, folder))
        process.start()
        while process.is_alive() and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.002)  # until the process has made progress, so that ten kills are ten different states
        time.sleep(moments.uniform(0, 0.06))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        kills += 1
    train_to_be_killed(optimizer, folder)
    training.train(convolutional(), experiment(), run_config(**KILLED, optimizer=optimizer), seed=0, folder=tmp_path / "whole")
    for name in ("trajectory.npy", "buffers.npy", "weights.safetensors", "tables/log.csv"):
        assert sha256(folder / name) == sha256(tmp_path / "whole" / name), name
    assert kills == 10


SMALL: dict[str, dict[str, object]] = {
    "vgg9": {"width": 8},
    "densenet121": {"growth": 4, "blocks": [2, 2, 2, 2]},
    "mnist_fc": {},
    "lenet": {"width": 4, "hidden": 32},
    "allcnn": {"width": 8},
    "svcca_convnet": {"width": 8, "hidden": [32, 16]},
    "pwcca_convnet": {"width": 8},
    "stiffness_fc": {},
    "stiffness_cnn": {},
    "stiffness_fc_v1": {},
    "stiffness_cnn_v1": {},
    "svcca_lstm": {"units": 8, "layers": 2},
    **{name: {"width": 4, "depth": 8} for name in models.names() if "resnet" in name},
}


@pytest.mark.parametrize("name", [name for name in models.names() if name != "svcca_toy"])  # which is no classifier
def test_every_network_trains_an_epoch(name: str, tmp_path: Path) -> None:
    from replication import data

    channels, size, _ = models.entry_of(name).image
    size = size if name in ("mnist_fc", "lenet", "stiffness_fc", "stiffness_fc_v1", "vgg9", "densenet121", "svcca_lstm") else 16
    settings = SMALL[name] | ({"image_size": size} if size == 16 else {})
    if name == "svcca_lstm":
        examples = data.assemble(sources.read("grammar"), examples=400)
    else:
        examples = data.assemble(sources.read("digits"), examples=400, image_size=size, channels=channels, normalisation="standardise")
    model = models.build(name, classes=examples.classes, channels=channels, seed=0, **settings)
    config = run_config(optimizer={"name": "adam", "lr": 0.003}, batch_size=40, steps=10, evaluations=1, keep=[0])
    trained = training.train(model, examples, config, seed=0, folder=tmp_path)
    assert trained.non_finite_at is None
    rows = rows_of(tmp_path, model)
    still = [key for key, (first, last) in rows.items() if (first == last).all()]
    assert not still, "every tensor moves"
    log = pd.read_csv(tmp_path / "tables" / "log.csv")["loss"]
    assert log[7:].mean() < log[0], "and the loss falls"


def test_subnormal_numbers_count_as_zero_in_a_training_only(tmp_path: Path) -> None:
    small, products = torch.tensor(1e-39), []
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    model.register_forward_hook(lambda *_: products.append(float(small * 1)))
    training.train(model, experiment(), run_config(steps=2), seed=0, folder=tmp_path)
    assert set(products) == {0.0}, "the processor computes with subnormal numbers, which takes hundreds of cycles each"
    assert float(small * 1) > 0, "measurements count exact zeros and need these numbers"


def test_subnormal_numbers_move_weights_by_less_than_1e_30(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the examples are fitted so well that their gradients are subnormal; the other half moves the weights."""
    config = run_config(optimizer={"name": "adam", "lr": 0.001, "fused": True}, steps=8)
    labels = torch.arange(100) % 2
    images = experiment().train.images
    data = Experiment(*[Examples(images, labels)] * 3, 10, torch.zeros(1, 1, 1))
    ends = []
    for context in (machine.subnormals_as_zero, contextlib.nullcontext):
        monkeypatch.setattr(machine, "subnormals_as_zero", context)
        model = models.build("mnist_fc", classes=10, channels=1, seed=0)
        with torch.no_grad():
            [*model.parameters()][-1][:1] += 95  # exp(-95) = 6e-42
        training.train(model, data, config, seed=0, folder=tmp_path / context.__name__)
        ends.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert (ends[0] - ends[1]).abs().max() < 1e-30, "biases that were zero move by 1e-35, all else stays the same bits"
