"""The stiffness measurement on tiny trained networks, and the tables that it is read off from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from replication import training
from replication.data import sources
from replication.errors import ReplicationError
from replication.measurements import Tables, stiffness, stiffness_probe
from replication.measurements.stiffness_probe import Probe
from replication.measurements.super_classes import CIFAR100, groups_of
from replication.models.parts import UnitSphere
from replication.schema.runs import RunConfig
from replication.schema.stiffness import ALL_BUT_LAST, StiffnessConfig
from replication.stiffness import TOTAL, class_matrix, gram
from replication.training.trained_run import TrainedRun, experiment_of, initial_model

LAYERS = ["fc1", "relu1", "fc2", "relu2"]


def run_config(**changes: object) -> RunConfig:
    settings = {
        "dataset": {
            "name": "digits",
            "validation": 100,
            "split": "stratified",
            "examples": 200,
            "image_size": 8,
            "normalisation": "standardise",
        },
        "model": "stiffness_fc",
        "model_settings": {"image_size": 8, "hidden": [20, 10], "unit_sphere": True},
        "optimizer": {"name": "adam", "lr": 0.01},
        "batch_size": 20,
        "steps": 60,
        "seeds": 1,
        "keep": [0, 5, 20, 40],
        "evaluations": 1,
    }
    return RunConfig.model_validate(settings | changes)


def trained(folder: Path, name: str = "run", **changes: object) -> TrainedRun:
    config, dataset = run_config(**changes), sources.read("digits")
    experiment = experiment_of(config, dataset, torch.device("cpu"))
    training.train(initial_model(config, experiment, 0), experiment, config, seed=0, folder=folder / name)
    return TrainedRun(name, 0, config, folder / name, dataset, torch.device("cpu"))


def measurement(runs: list[TrainedRun], **changes: object) -> StiffnessConfig:
    settings = {"instrument": "stiffness", "runs": [run.name for run in runs], "steps": [0, 20], "probe": 60, "validation_probe": 40}
    return StiffnessConfig.model_validate(settings | changes)


def measured(config: StiffnessConfig, runs: list[TrainedRun]) -> Tables:
    arrays = stiffness.measure(config, runs, seed=0, part=0, progress=lambda _done, _all: None)
    assert all(values.dtype.kind in "biufU" for values in arrays.values()), "nothing needs a pickle"
    return stiffness.tables(config, [arrays])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def tables(run: TrainedRun) -> Tables:
    settings = {
        "losses": [1.0],
        "layers": True,
        "representations": LAYERS,
        "resamples": 3,
        "super_classes": "neighbours",
        "permutations": 50,
    }
    return measured(measurement([run], **settings, starts=True), [run])


def test_the_summary_is_the_instruments(run: TrainedRun, tables: Tables) -> None:
    """Within and between classes of one checkpoint, recomputed from the pieces."""
    config = measurement([run])
    probe = stiffness.probe_of(config, run)
    training_part = slice(0, probe.n_train)
    total = gram(run.model(20), probe.images[training_part], probe.labels[training_part])[TOTAL]
    for kind in ("sign", "cosine"):
        expected = class_matrix(total, probe.labels[training_part], kind)
        row = tables["summary"].query("step == 20 and layer == 'total' and mode == 'train_train' and kind == @kind").iloc[0]
        assert row["within"] == pytest.approx(expected.within(), abs=1e-12)
        assert row["between"] == pytest.approx(expected.between(), abs=1e-12)
        cells = tables["classes"].query("step == 20 and layer == 'total' and mode == 'train_train' and kind == @kind")
        np.testing.assert_allclose(cells["stiffness"], expected.mean.flatten(), atol=1e-12)


def test_the_probe_is_balanced_and_fixed(run: TrainedRun) -> None:
    config = measurement([run])
    first, second = (stiffness.probe_of(config, run) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert first.labels[:60].bincount().max() - first.labels[:60].bincount().min() <= 1
    assert len(first.labels) == 100


def test_modes_layers_and_controls_are_there(tables: Tables) -> None:
    summary = tables["summary"]
    assert set(summary["mode"]) == {"train_train", "train_validation", "validation_validation"}
    assert set(summary["layer"]) == {"fc1", "fc2", "fc3", "total", ALL_BUT_LAST}
    rows = summary.query("layer == 'total' and kind == 'sign' and mode == 'train_train' and step == 0").iloc[0]
    assert rows["within"] > 0.9
    assert abs(rows["within_flipped"]) < 0.5
    assert abs(rows["between_flipped"]) < 0.1
    assert rows["within_permuted"] < rows["within"] - 0.3
    last = summary.query("layer == 'fc3' and kind == 'sign'")["within"]
    assert (last == 1).all(), "the last layer alone is never opposed within a class"


def test_checkpoints_are_the_steps_and_the_nearest_to_a_loss(run: TrainedRun, tables: Tables) -> None:
    checkpoints, losses = tables["checkpoints"], tables["losses"]
    assert sorted(losses["step"]) == [0, 5, 20, 40, 60]
    assert losses["epoch"].tolist() == [0, 0.5, 2, 4, 6]
    target = checkpoints[checkpoints["target"] == 1.0].iloc[0]
    away = (np.log(losses["train_loss"]) - np.log(1.0)).abs()
    assert target["step"] == losses["step"][away.idxmin()]
    assert set(checkpoints["learning_rate"]) == {0.01}


def test_a_loss_is_taken_before_a_later_spike(run: TrainedRun) -> None:
    losses = pd.DataFrame({"step": [0, 5, 20, 40, 60], "train_loss": [2.0, 1.2, 0.4, 1.01, 0.1]})
    chosen = stiffness.checkpoints(measurement([run], steps=[], losses=[1.0, 0.01]), run, losses)
    assert chosen["step"].tolist() == [5, 60]


def test_distances_curves_and_domains(tables: Tables) -> None:
    lengths = tables["lengths"].query("kind == 'cosine'")
    assert (lengths["slope"] < 0).all()
    assert (lengths["low"] <= lengths["high"]).all()
    curves = tables["curves"].query("step == 20")
    assert set(curves["representation"]) == {"input", "pixels", *LAYERS}
    assert (curves.groupby("representation")["pairs"].sum() == 60 * 59).all()
    assert (curves.query("representation == 'pixels'")["low"] >= -1e-9).all(), "nothing is centred"
    domains = tables["domains"]
    assert len(domains) == (2 + len(LAYERS)) * tables["summary"]["step"].nunique()
    crossing = domains[domains["crosses"]]
    np.testing.assert_allclose(crossing["size"], 1 - crossing["crossing"])


def test_domain_of_known_curves() -> None:
    curve = pd.DataFrame(
        {"similarity": [0.1, 0.5, 0.9], "stiffness": [-0.5, -0.5, 0.5], "stiffness_permuted": 0.0, "pairs": [100, 100, 100]}
    )
    assert stiffness_probe.domain(curve)["crossing"] == pytest.approx(0.7)
    assert stiffness_probe.domain(curve)["size"] == pytest.approx(0.3)
    assert stiffness_probe.domain(curve)["lowest"] == -0.5
    stiff = stiffness_probe.domain(curve.assign(stiffness=0.5))
    assert stiff["size"] == pytest.approx(0.9), "all pairs are stiff"
    assert not stiff["crosses"]
    assert np.isnan(stiffness_probe.domain(curve.assign(stiffness=-0.5))["size"])
    rare = pd.concat([curve, pd.DataFrame([{"similarity": 0.95, "stiffness": -1.0, "stiffness_permuted": 0.0, "pairs": 1}])])
    assert stiffness_probe.domain(rare)["crossing"] == pytest.approx(0.7), "bins with few pairs are left out"


def test_starts_meet_the_analytic_values(tables: Tables) -> None:
    """Near-uniform outputs and aligned features under PyTorch's initialisation: cosines 1 and -1/9."""
    starts = tables["starts"].query("initialisation == 'torch' and scaling == 'unit sphere' and kind == 'cosine'").iloc[0]
    assert starts["between"] == pytest.approx(-1 / 9, abs=0.02)
    assert starts["within"] > 0.95
    assert abs(starts["between_permuted"]) < 0.05


def test_groups_and_contrasts(tables: Tables) -> None:
    groups = tables["groups"]
    assert groups["super_class"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert groups["kingdom"].tolist() == [0] * 5 + [1] * 5
    contrasts = tables["contrasts"]
    assert set(contrasts["grouping"]) == {"true", "random"}
    assert contrasts["p_value"].between(0, 1).all()
    assert set(tables["levels"]["level"]) == {"same class", "same super-class", "same kingdom", "rest"}


def test_the_instrument_finds_blocks_and_not_where_there_are_none(generator: torch.Generator) -> None:
    """Made-up gradients with a direction per super-class; with classes exchanged the blocks are gone."""
    labels = torch.arange(10).repeat_interleave(6)
    groups, kingdoms = groups_of("neighbours", 10)
    directions = torch.eye(5, 60, dtype=torch.float64)[groups[labels]]
    gradients = directions + 0.5 * torch.randn(60, 60, generator=generator, dtype=torch.float64) / 8
    probe = Probe(torch.zeros(60, 1, 1, 1), labels, 60)
    _, contrasts = stiffness_probe.group_tables(gradients @ gradients.T, probe, groups, kingdoms, generator=generator, permutations=300)
    by_grouping = contrasts.query("level == 'super_class' and kind == 'cosine'").set_index("grouping")
    assert by_grouping["p_value"]["true"] < 0.01
    assert by_grouping["difference"]["random"] < by_grouping["difference"]["true"] / 2


def test_super_classes_of_cifar100() -> None:
    groups, kingdoms = groups_of("cifar100", 100)
    assert sorted(number for members in CIFAR100.values() for number in members) == list(range(100))
    assert groups.bincount().tolist() == [5] * 20
    assert kingdoms.sum() == 35
    assert groups[23] == groups[33] == groups[49] == groups[60] == groups[71]  # cloud, forest, mountain, plain, sea
    with pytest.raises(ReplicationError, match="super-classes of CIFAR-100 are of 100 classes and the data have 10"):
        groups_of("cifar100", 10)


def test_runs_are_told_apart_and_random_labels_are_used(run: TrainedRun, tmp_path: Path) -> None:
    random = trained(tmp_path, "random", dataset=run_config().dataset.model_dump() | {"label_noise": 1.0})
    tables = measured(measurement([run, random], steps=[0]), [run, random])
    assert set(tables["summary"]["run"]) == {"run", "random"}
    probe = stiffness.probe_of(measurement([random]), random)
    index = torch.tensor([int((random.experiment.train.images == image).flatten(1).all(1).nonzero()[0]) for image in probe.images[:60]])
    assert torch.equal(random.experiment.train.labels[index], probe.labels[:60])
    assert not torch.equal(run.experiment.train.labels[index], probe.labels[:60])


def test_mistakes_are_one_sentence(run: TrainedRun) -> None:
    with pytest.raises(ReplicationError, match=r"Run run did not keep the weights of step 7; kept: \[0, 5, 20, 40, 60\]. Add it to keep"):
        measured(measurement([run], steps=[7]), [run])
    labels = torch.arange(8) // 2
    probe = Probe(torch.zeros(8, 1), labels, 8)
    with pytest.raises(ReplicationError, match="The probe holds 4 of 10 classes"):
        stiffness_probe.group_tables(torch.eye(8), probe, *groups_of("neighbours", 10), generator=torch.Generator(), permutations=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_unit_sphere(dtype: torch.dtype, generator: torch.Generator) -> None:
    images = torch.randn(5, 3, 4, 4, generator=generator, dtype=dtype)
    images[2] = 0
    scaled = UnitSphere()(images)
    torch.testing.assert_close(scaled.flatten(1).norm(dim=1), torch.tensor([1, 1, 0, 1, 1], dtype=dtype))
    assert scaled.isfinite().all()
    torch.testing.assert_close(UnitSphere()(1e-6 * images), scaled)
