import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from replication import models, training
from replication.data import Examples, Experiment
from replication.records import sha256
from replication.schema import RunConfig


def run_config(**changes: object) -> RunConfig:
    settings = {
        "dataset": {"name": "digits"},
        "model": "mnist_fc",
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "batch_size": 20,
        "steps": 12,
        "seeds": 1,
        "keep": "every_step",
    }
    return RunConfig.model_validate(settings | changes)


def experiment(n: int = 100) -> Experiment:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 10
    images = torch.rand(n, 1, 28, 28, generator=generator) + labels[:, None, None, None] / 10
    examples = Examples(images, labels)
    return Experiment(examples, examples, examples, 10)


def train(folder: Path, config: RunConfig, **options: object) -> nn.Module:
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    training.train(model, experiment(), config, seed=0, folder=folder, **options)
    return model


def test_sgd_is_the_heavy_ball(tmp_path: Path) -> None:
    """v <- m v + g, theta <- theta - lr v, replayed by hand from the kept weights (LCA specification, 2.3)."""
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
        batch = training.batch_indices(step, 100, 20, seed=0)
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
    ],
    ids=["nesterov", "adam with weight decay", "plain sgd"],
)
def test_the_loop_is_the_usual_loop(optimizer: dict, reference, tmp_path: Path) -> None:
    trained = train(tmp_path, run_config(optimizer=optimizer))
    model, data = models.build("mnist_fc", classes=10, channels=1, seed=0), experiment().train
    usual = reference(model.parameters())
    for step in range(12):
        batch = training.batch_indices(step, 100, 20, seed=0)
        usual.zero_grad()
        nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
        usual.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@given(n=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_visits_examples_once_and_drops_the_remainder(n: int, batch: int, seed: int, epoch: int) -> None:
    batch = min(batch, n)
    steps = n // batch
    seen = torch.cat([training.batch_indices(step, n, batch, seed) for step in range(epoch * steps, (epoch + 1) * steps)])
    assert len(seen) == steps * batch
    assert len(seen.unique()) == len(seen)


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [training.batch_indices(step, 100, 100, seed) for step in (0, 1) for seed in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(orders) for b in orders[:i])
    assert training.derived_seed(0, "order", 1) != training.derived_seed(0, "initialisation")


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
    assert log["loss"].iloc[trained.non_finite_at :].isna().any()
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


def test_a_state_of_other_settings_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise Stop

    for case, (identity, damage) in {"other": ("b", False), "damaged": ("a", True)}.items():
        folder = tmp_path / case
        with pytest.raises(Stop):
            train(folder, run_config(), identity="a", save_every_s=0, progress=stop)
        if damage:
            (folder / "resume.safetensors").write_bytes((folder / "resume.safetensors").read_bytes()[:1000])
        model = models.build("mnist_fc", classes=10, channels=1, seed=0)
        assert training.train(model, experiment(), run_config(), seed=0, folder=folder, identity=identity).resumed_at == 0


SCRIPT = """
import sys; sys.path[:0] = [{tests!r}, {root!r}]
import conftest, test_training as t
from pathlib import Path
t.train(Path(sys.argv[1]), t.run_config(steps=400, evaluations=2), save_every_s=0.01)
"""


def test_sigkill_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    """Kill the process again and again; the last one ends with the weights of an undisturbed run."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT)))
    moments, kills = random.Random(0), 0
    for _ in range(12):
        process = subprocess.Popen([sys.executable, script, tmp_path / "broken"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and not list((tmp_path / "broken").glob("resume*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        assert not (tmp_path / "broken" / "record.json").exists()
    subprocess.run([sys.executable, script, tmp_path / "broken"], check=True)
    assert kills > 0
    train(tmp_path / "whole", run_config(steps=400, evaluations=2))
    for name in ("trajectory.npy", "weights.safetensors", "tables/log.csv"):
        assert sha256(tmp_path / "broken" / name) == sha256(tmp_path / "whole" / name), name
