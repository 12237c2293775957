"""What the SVCCA and PWCCA measurements make of tiny networks and of cases whose answers are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from replication import models
from replication.data import sources
from replication.errors import ReplicationError
from replication.measurements import instrument_of, pwcca_width, svcca_lstm
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import row_outputs, rows_of
from replication.schema.measurements import MeasurementConfig
from replication.schema.runs import RunConfig
from replication.schema.svcca import (
    DynamicsConfig,
    FourierConfig,
    FreezeConfig,
    GroupsConfig,
    InvarianceConfig,
    LstmConfig,
    NoiseConfig,
    PairConfig,
    ToyConfig,
    WidthConfig,
)
from replication.training import train
from replication.training.trained_run import TrainedRun, experiment_of, initial_model

DIGITS = {"name": "digits", "examples": 120, "image_size": 8, "normalisation": "standardise"}
CONVNET = {"model": "svcca_convnet", "model_settings": {"width": 3, "hidden": [9, 8], "image_size": 8}}
RESNET = {"model": "svcca_resnet32", "model_settings": {"width": 4, "depth": 8, "image_size": 8}}
PWCCA = {"model": "pwcca_convnet", "model_settings": {"width": 2, "image_size": 8}}


def run_config(**changes: object) -> RunConfig:
    settings = {"optimizer": {"name": "adam", "lr": 0.01}, "batch_size": 30, "steps": 8, "seeds": 2, "keep": [0, 3, 6], "evaluations": 1}
    return RunConfig.model_validate({"dataset": DIGITS} | settings | CONVNET | changes)


def trained(name: str, seed: int, folder: Path, **changes: object) -> TrainedRun:
    config, device = run_config(**changes), torch.device("cpu")
    dataset = sources.read(config.dataset.name)
    experiment = experiment_of(config, dataset, device)
    train(initial_model(config, experiment, seed), experiment, config, seed=seed, folder=folder)
    return TrainedRun(name, seed, config, folder, dataset, device)


def measured(config: MeasurementConfig, runs: list[TrainedRun], seed: int = 0) -> dict[str, pd.DataFrame]:
    instrument = instrument_of(config)
    arrays = instrument.measure(config, runs, seed=seed, part=0, progress=lambda done, total: None)
    assert all(array.dtype.kind in "biufU" for array in arrays.values()), "nothing that would be pickled"
    tables = instrument.tables(config, [arrays])
    for table in tables.values():
        assert len(table)
        assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    return tables


@pytest.fixture(scope="module")
def convnets(tmp_path_factory: pytest.TempPathFactory) -> list[TrainedRun]:
    return [trained("convnet", seed, tmp_path_factory.mktemp("convnet") / str(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return trained("resnet", 0, tmp_path_factory.mktemp("resnet"), **RESNET)


def test_tables_survive_being_arrays() -> None:
    tables = {"a": pd.DataFrame({"name": ["x", "longer"], "value": [0.5, 1.5], "count": [1, 2]}), "b": pd.DataFrame({"n": [3]})}
    found = unpack([pack(tables), pack(tables)])
    assert found["a"]["name"].tolist() == ["x", "longer"] * 2
    assert found["a"]["value"].tolist() == [0.5, 1.5] * 2
    assert found["b"]["n"].tolist() == [3, 3]


def test_rows_are_those_of_figure_4() -> None:
    convnet = models.build("svcca_convnet", classes=10, channels=1, seed=0, **CONVNET["model_settings"])
    rows = rows_of(convnet)
    assert list(rows) == ["c1", "c2", "bn1", "p1", "c3", "c4", "c5", "bn2", "p2", "fc1", "bn3", "fc2", "bn4", "logits"]
    assert (rows["c1"], rows["bn1"], rows["fc2"]) == ("c1_relu", "bn1", "fc2_relu")
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = row_outputs(convnet, images)
    assert list(outputs) == ["in", *rows, "out"]
    torch.testing.assert_close(outputs["out"].sum(1), torch.ones(5))
    resnet = models.build("svcca_resnet32", classes=10, channels=1, seed=0, width=4, depth=14, image_size=8)
    assert list(rows_of(resnet))[:4] == ["conv", "b1_cv1", "b1_cv2", "b1_res"]
    assert rows_of(resnet)["b6_res"] == "stage3.block2"
    with pytest.raises(ReplicationError, match="no rows of figure 4"):
        rows_of(nn.Linear(2, 2))


def test_the_theorem_holds_and_falls_without_circular_padding() -> None:
    tables = measured(FourierConfig(instrument="svcca_fourier", seeds=1, size=4, base_images=40, images=300), [])
    ratios = tables["ratios"].set_index("case")["off_block_over_on_block"]
    assert ratios["all translations"] < 1e-12 < 0.1 < ratios["all translations, zero padding"]
    assert ratios["no translations, fourier basis"] < ratios["no translations, random basis"]
    differences = tables["coefficients"].set_index("padding")["largest_difference"]
    assert differences["circular"] < 1e-10 < 1e-3 < differences["zeros"]


def test_linear_maps_are_undone_and_squares_are_not() -> None:
    tables = measured(
        InvarianceConfig(instrument="svcca_invariance", seeds=1, examples=500, noise_neurons=10, noise_examples=[11, 200]), []
    )
    recovered = tables["recovered"].set_index("transformation")["largest_deviation"]
    assert recovered.drop("squared").max() < 1e-10 < 1e-3 < recovered["squared"]
    changes = tables["invariance"].set_index("map")["largest_difference"]
    assert changes["orthogonal and scaled"] < 1e-10 < 1e-4 < changes["squared"]
    aligned = tables["aligned"].pivot(index="index", columns="kind", values="coefficient")
    expected = (np.arange(1, 201) <= 50).astype(float)
    np.testing.assert_allclose(aligned["noise"], expected, atol=1e-10)
    np.testing.assert_allclose(aligned["useful"], expected, atol=1e-10)
    noise = tables["noise"]
    assert noise.loc[noise["examples"] == 11, "mean"].item() == pytest.approx(1)
    np.testing.assert_allclose(noise["mean"], noise["floor"], atol=0.06)


def test_pwcca_sees_through_noise() -> None:
    tables = measured(NoiseConfig(instrument="pwcca_noise", seeds=1, neurons=40, examples=600, shared=[20]), [])
    rows = tables["similarity"].set_index("noise")
    weak, strong = rows.loc["standard deviation 0.1"], rows.loc["as strong as the signal"]
    assert weak["pwcca"] - weak["mean"] > 0.2 > strong["pwcca"] - strong["mean"]
    assert weak["mean"] - 0.01 < weak["svcca"] < weak["pwcca"]


def test_toy_networks() -> None:
    config = ToyConfig(instrument="svcca_toy", seeds=1, hidden=[20, 20], steps=60, batch_size=64, examples=400, directions=[2, 20])
    tables = measured(config, [])
    errors = tables["errors"].pivot(index="k", columns="projection", values="relative_error")
    assert errors.loc[20, "svcca"] < errors.loc[2, "svcca"]
    assert errors.loc[20, "largest neurons, others 0"] < 1e-6, "all neurons are the layer itself"
    assert errors.loc[20, "largest neurons, least squares"] < 1e-6
    assert (tables["pairs"]["ranked_neurons"] <= tables["pairs"]["best_neuron"] + 1e-9).all()
    again = measured(config, [])
    pd.testing.assert_frame_equal(tables["errors"], again["errors"])


def test_dynamics(convnets: list[TrainedRun], resnet: TrainedRun) -> None:
    config = DynamicsConfig(
        instrument="svcca_dynamics", runs=["convnet", "resnet"], examples=150, folded_examples=40, matrices=[0, 35, 75, 100]
    )
    tables = measured(config, [convnets[0], resnet])
    end = tables["matrices"].query("step == 8 and layer_a == layer_b")["similarity"]
    np.testing.assert_allclose(end, 1, atol=1e-6)
    assert sorted(tables["matrices"]["step"].unique()) == [0, 3, 6, 8]
    assert sorted(tables["controls"]["step"].unique()) == [3, 6]
    curves = tables["curves"].query("step == 8")["similarity"]
    np.testing.assert_allclose(curves, 1, atol=1e-5)  # what factorise promises for float32; 3e-6 were seen with AVX2
    assert tables["controls"].query("row == 'out'")["similarity"].max() < 0.5
    norms = tables["norms"].set_index("pair")["cca"]
    np.testing.assert_allclose(norms.drop("c3-c4"), 1, atol=1e-6)
    logits = tables["classes"].query("row == 'logits'")
    np.testing.assert_allclose(logits["correlation"], 1, atol=1e-6)
    assert set(tables["cross"]["row_b"]) == {"conv", "b1_res", "b2_res", "b3_res"}


def test_a_pair_of_convnets(convnets: list[TrainedRun]) -> None:
    settings = {"directions": [2, 9], "double_directions": [3], "double_neurons": [4], "fractions": [0.35, 1.0]}
    config = PairConfig(instrument="svcca_pair", run="convnet", examples=120, test_examples=100, **settings)
    assert (config.sources(1), config.n_seeds({"convnet": run_config(seeds=5)})) == ((("convnet", 2), ("convnet", 3)), 2)
    tables = measured(config, convnets)
    full = tables["full"]["accuracy"].item()
    model, data = convnets[0].model(), convnets[0].experiment.test
    expected = (model(data.images[:100]).argmax(1) == data.labels[:100]).double().mean().item()
    assert full == pytest.approx(expected)
    whole = tables["projections"].query("row == 'fc1' and k == 9")
    assert whole.query("projection == 'largest neurons, others 0'")["accuracy"].item() == pytest.approx(full)
    double = tables["double"].query("row == 'fc1'").set_index("neurons")["accuracy"]
    assert double[9] == pytest.approx(double[0], abs=0.011), "all neurons hold every direction"
    kept = tables["compression"].query("fraction == 1.0 and method == 'random neurons'")["accuracy"]
    np.testing.assert_allclose(kept, full)


def test_frozen_layers_cost_no_backward_pass(tmp_path: Path) -> None:
    base, frozen = trained("base", 0, tmp_path / "a"), trained("frozen", 0, tmp_path / "b", freeze={"c1": 2, "c2": 4})
    config = FreezeConfig(instrument="svcca_freeze", runs=["base", "frozen"])
    cost = measured(config, [base, frozen])["cost"]
    assert cost.groupby("run")["steps"].sum().tolist() == [8, 8]
    assert cost["forward"].nunique() == 1
    c1, c2 = 3 * 9 * 64, 3 * 3 * 9 * 64
    whole = cost["forward"].iloc[0]
    assert cost.query("run == 'base'")["backward"].item() == 2 * whole - c1, "nothing is propagated back into the images"
    # with c1 frozen its weights' and c2's inputs' gradients are gone
    frozen_rows = cost.query("run == 'frozen'").set_index("from_step")["backward"]
    c3 = 3 * 3 * 9 * 16
    assert frozen_rows.tolist() == [2 * whole - c1, 2 * whole - 2 * c1 - c2, 2 * whole - 2 * c1 - 2 * c2 - c3]


def test_groups(tmp_path: Path) -> None:
    labels = {"generalising": DIGITS, "memorising": DIGITS | {"label_noise": 1.0}}
    runs = [
        trained(name, seed, tmp_path / f"{name}{seed}", **PWCCA, dataset=data, keep=[0])
        for name, data in labels.items()
        for seed in range(2)
    ]
    config = GroupsConfig(instrument="pwcca_groups", generalising="generalising", memorising="memorising", examples=100)
    assert config.sources(0) == (("generalising", 0), ("generalising", 1), ("memorising", 0), ("memorising", 1))
    tables = measured(config, runs)
    assert tables["distances"]["layer"].nunique() == 12
    assert tables["distances"]["distance"].between(0, 1).all()
    wide = tables["distances"].query("split == 'train'").pivot(index="layer", columns="group", values="distance")
    assert (wide["between"] - wide[["mixed group 1", "mixed group 2"]].min(axis=1) > -1e-9).all()


def test_widths(tmp_path: Path) -> None:
    widths = {"narrow": 2, "wide": 4}
    runs = [
        trained(name, seed, tmp_path / f"{name}{seed}", **PWCCA | {"model_settings": {"width": width, "image_size": 8}}, keep=[0])
        for name, width in widths.items()
        for seed in range(2)
    ]
    config = WidthConfig(instrument="pwcca_width", runs=["narrow", "wide"], filters=5, draws=2, examples=100)
    assert config.sources(1) == (("narrow", 2), ("narrow", 3), ("wide", 2), ("wide", 3))
    assert config.n_seeds({"narrow": run_config(seeds=7), "wide": run_config(seeds=5)}) == 2
    tables = measured(config, runs)
    distances, networks = tables["distances"], tables["networks"]
    assert len(distances) == 2 * 3 * 2
    assert set(distances["filters"]) == {16, 32}
    assert distances["distance"].between(0, 1).all()
    model, data = runs[3].model(), runs[3].experiment.test
    expected = (model(data.images).argmax(1) == data.labels).double().mean().item()
    assert networks.query("run == 'wide' and network == 1")["test_accuracy"].item() == pytest.approx(expected)


def test_the_same_network_twice_is_at_distance_0_where_all_filters_are_taken(generator: torch.Generator) -> None:
    x = torch.randn(200, 6, generator=generator)
    config = WidthConfig(instrument="pwcca_width", runs=["a"], filters=6, draws=2, examples=200)
    found, floor = pwcca_width.distance_of_filters(x, x, config, 0)
    assert found == pytest.approx(0, abs=1e-6)
    apart, _ = pwcca_width.distance_of_filters(x, pwcca_width.shuffled(x, 0), config, 0)
    assert apart == pytest.approx(floor, abs=0.1)


def test_lstm_layers(tmp_path: Path) -> None:
    text = {"dataset": {"name": "grammar", "examples": 90}, "model": "svcca_lstm", "model_settings": {"units": 6, "layers": 2}}
    run = trained("lstm", 0, tmp_path, **text)
    tables = measured(LstmConfig(instrument="svcca_lstm", run="lstm", examples=300), [run])
    curves = tables["curves"]
    assert (list(dict.fromkeys(curves["layer"])), list(dict.fromkeys(curves["step"]))) == (["lstm1", "lstm2"], [0, 3, 6, 8])
    np.testing.assert_allclose(curves.query("step == 8")[["svcca", "pwcca", "cca"]], 1, atol=1e-5)
    assert curves[["svcca_shuffled", "pwcca_shuffled"]].to_numpy().max() < 0.5
    windows = run.experiment.test.images[:10]
    states = svcca_lstm.states(run.model(), windows)
    torch.testing.assert_close(run.model().logits(states["lstm2"]), run.model()(windows))
