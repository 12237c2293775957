"""What the landscape measurements make of tiny networks trained here: identities between tables and networks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from replication.data import sources
from replication.landscape.grid import as_grid
from replication.measurements import instrument_of, landscape_lines, landscape_trajectory
from replication.measurements.landscape_surface import reached
from replication.objective import flat_parameters, layout_of
from replication.schema.landscape import (
    CurvatureConfig,
    InterpolationConfig,
    LandscapeMeasurement,
    LinesConfig,
    SurfaceConfig,
    TrajectoryConfig,
)
from replication.schema.runs import RunConfig
from replication.training import train
from replication.training.trained_run import TrainedRun, experiment_of, initial_model

EXAMPLES, TEST_EXAMPLES = 40, 50
BATCHES = {"small": 10, "large": 30, "small_decay": 10, "large_decay": 30}


def run_config(batch: int, decay: float) -> RunConfig:
    settings = {
        "dataset": {"name": "digits", "examples": 60, "image_size": 8, "normalisation": "standardise"},
        "model": "vgg9",
        "model_settings": {"image_size": 8, "width": 2},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": decay},
        "batch_size": batch,
        "last_batch": "keep",
        "steps": 6 * 60 // batch,
        "seeds": 1,
        "keep": "every_epoch",
        "evaluations": 1,
    }
    return RunConfig.model_validate(settings)


def trained(name: str, folder: Path) -> TrainedRun:
    config, dataset, device = run_config(BATCHES[name], 0.01 if "decay" in name else 0.0), sources.read("digits"), torch.device("cpu")
    experiment = experiment_of(config, dataset, device)
    train(initial_model(config, experiment, 0), experiment, config, seed=0, folder=folder / name)
    return TrainedRun(name, 0, config, folder / name, dataset, device)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[TrainedRun]:
    folder = tmp_path_factory.mktemp("runs")
    return [trained(name, folder) for name in BATCHES]


def measured(config: LandscapeMeasurement, runs: list[TrainedRun]) -> dict[str, pd.DataFrame]:
    """The tables of all parts."""
    instrument = instrument_of(config)
    parts = [
        instrument.measure(config, runs[part :: config.parts], seed=0, part=part, progress=lambda done, total: None)
        for part in range(config.parts)
    ]
    assert all(array.dtype.kind in "biufU" for arrays in parts for array in arrays.values()), "nothing that would be pickled"
    return instrument.tables(config, parts)


def config_of(cls: type, runs: list[TrainedRun], **settings: object):
    instrument = cls.model_fields["instrument"].annotation.__args__[0]
    return cls.model_validate({"instrument": instrument, "runs": [run.name for run in runs], "examples": EXAMPLES, **settings})


def loss_of(run: TrainedRun, step: int | None = None, split: str = "train") -> float:
    objective = run.around(step, examples=EXAMPLES if split == "train" else TEST_EXAMPLES, split=split)
    return objective.evaluate(objective.parameters()).loss


def at(rows: pd.DataFrame, **where: object) -> float:
    """The loss in the only row with these values."""
    for column, value in where.items():
        rows = rows[np.isclose(rows[column], value) if isinstance(value, float) else rows[column] == value]
    assert len(rows) == 1
    return float(rows["loss"].iloc[0])


@pytest.fixture(scope="module")
def surfaces(runs: list[TrainedRun]) -> dict[str, pd.DataFrame]:
    return measured(config_of(SurfaceConfig, runs[:2], points=5, directions=2, examples=None, test_examples=TEST_EXAMPLES), runs[:2])


def test_a_surfaces_centre_is_the_networks_loss(surfaces: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    networks = surfaces["networks"]
    for run in runs[:2]:
        own = networks[networks["run"] == run.name]
        after = at(own, split="train", step=run.config.steps)
        for direction in (0, 1):
            surface = surfaces["surface"].query("run == @run.name")
            assert at(surface, alpha=0.0, beta=0.0, direction=direction) == pytest.approx(after, rel=1e-6)
        centres = surfaces["measures"].query("run == @run.name and measure == 'centre'")["value"]
        np.testing.assert_allclose(centres, after, rtol=1e-6)
        assert at(own, split="test", step=run.config.steps) == pytest.approx(loss_of(run, split="test"), rel=1e-6)
        assert at(own, split="test", step=0) == pytest.approx(loss_of(run, 0, split="test"), rel=1e-6)
    starts = networks[(networks["step"] == 0) & (networks["split"] == "train")]
    assert starts["loss"].nunique() == 1, "runs of a seed start from the same network"
    assert set(networks["examples"]) == {60, TEST_EXAMPLES}


def test_directions_differ_and_are_shared_by_the_runs(surfaces: dict[str, pd.DataFrame]) -> None:
    first, second = (surfaces["surface"].query("run == 'small' and direction == @number")["loss"].to_numpy() for number in (0, 1))
    assert np.abs(first - second).max() > 1e-3


def test_a_curvature_map_lies_on_the_surface(surfaces: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    """Same plane, same examples, same loss."""
    tables = measured(config_of(CurvatureConfig, runs[:1], points=3, examples=60, max_products=6, tolerance=0.1), runs[:1])
    both = tables["map"].merge(surfaces["surface"].query("direction == 0"), on=["run", "alpha", "beta"], suffixes=("", "_surface"))
    assert len(both) == 9
    np.testing.assert_allclose(both["loss"], both["loss_surface"], rtol=1e-6)
    assert (tables["map"]["smallest"] < tables["map"]["largest"]).all()
    assert tables["untrained"]["run"].tolist() == ["small"]


@pytest.fixture(scope="module")
def lines(runs: list[TrainedRun]) -> dict[str, pd.DataFrame]:
    settings = {"points": 5, "directions": 2, "test_examples": TEST_EXAMPLES, "rescale": [10, 0.1]}
    return measured(config_of(LinesConfig, runs[:2], **settings), runs[:2])


def test_lines_go_through_the_network(lines: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    table = lines["lines"]
    assert set(table["normalise"]) == {"filter", "layer", "none"}
    for run in runs[:2]:
        for split in ("train", "test"):
            rows = table[(table["run"] == run.name) & (table["split"] == split) & np.isclose(table["alpha"], 0)]
            assert len(rows) == (6 if split == "train" else 2), "all normalisations on training examples, filter on test examples"
            np.testing.assert_allclose(rows["loss"], loss_of(run, split=split), rtol=1e-6)


def test_one_draw_under_every_normalisation(runs: list[TrainedRun]) -> None:
    model = runs[0].model()
    by_kind = landscape_lines.directions(model, 1, ["filter", "layer", "none"])
    for slot in (slot for slot in layout_of(model) if len(slot.shape) > 1):
        draw, layer = by_kind["none"][slot.slice].double(), by_kind["layer"][slot.slice].double()
        assert float(torch.nn.functional.cosine_similarity(draw, layer, dim=0)) == pytest.approx(1, abs=1e-5)


def test_rescaled_networks_compute_the_same_function(lines: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    model, images = runs[0].model(), runs[0].around(examples=EXAMPLES).inputs
    scaled = landscape_lines.rescaled(model, 10.0, images[:2], epsilon=True)
    assert scaled.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(scaled.eval()(images), model(images), rtol=1e-4, atol=1e-4)
    changed = landscape_lines.rescaled(model, 0.1, images[:2], epsilon=False)
    assert not torch.allclose(changed.eval()(images), model(images), rtol=1e-4, atol=1e-4), "batch norm's epsilon shows"
    norms = [float(flat_parameters(net).norm()) for net in (model, scaled)]
    assert norms[1] > 3 * norms[0]
    table = lines["rescaled"]
    away = ((table["loss"] - table["original"]) / table["original"]).abs()
    away = away.groupby([table["normalise"], table["factor"], table["epsilon"]]).max()
    assert away["filter", 1.0, True] == away["none", 1.0, True] == 0
    for factor in (10.0, 0.1):
        assert away["filter", factor, True] < 1e-4
        assert away["none", factor, True] > 10 * away["filter", factor, True]


@pytest.fixture(scope="module")
def between(runs: list[TrainedRun]) -> dict[str, pd.DataFrame]:
    return measured(config_of(InterpolationConfig, runs, points=9, test_examples=TEST_EXAMPLES, bins=11), runs)


def test_interpolation_ends_at_both_networks(between: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    for small, large in (runs[:2], runs[2:]):
        rows = between["interpolation"].query("small == @small.name and large == @large.name")
        for split in ("train", "test"):
            for alpha, run in ((0.0, small), (1.0, large)):
                loss = at(rows, split=split, statistics=True, trained=True, alpha=alpha)
                assert loss == pytest.approx(loss_of(run, split=split), rel=1e-5)
        wrong = rows[~rows["statistics"]]
        assert at(wrong, alpha=0.0) == pytest.approx(loss_of(small), rel=1e-6)
        assert abs(at(wrong, alpha=1.0) - loss_of(large)) > 1e-4, "statistics matter"
        np.testing.assert_allclose(rows[~rows["trained"]]["loss"], loss_of(small, 0), rtol=1e-6, err_msg="both start from the same network")


def test_norms_and_histograms(between: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    for run in runs:
        rows = between["norms"].query("run == @run.name")
        assert rows["step"].tolist() == run.steps
        assert rows["norm"].iloc[-1] == pytest.approx(float(run.around().parameters().double().norm()), rel=1e-6)
        weights = between["weights"].query("run == @run.name")
        assert 0.99 < weights["share"].sum() < 1 + 1e-9
        np.testing.assert_allclose(weights["low"], -weights["high"][::-1], atol=1e-12)
    assert between["norms"].query("step == 0")["norm"].nunique() == 1
    assert between["weights"]["low"].nunique() == 11, "bins are shared"


@pytest.fixture(scope="module")
def paths(runs: list[TrainedRun]) -> dict[str, pd.DataFrame]:
    return measured(config_of(TrajectoryConfig, runs[:2], points=5, cosines=50), runs[:2])


def test_paths_end_at_the_origin_and_variances_agree(paths: dict[str, pd.DataFrame], runs: list[TrainedRun]) -> None:
    for run in runs[:2]:
        own = {name: table[table["run"] == run.name] for name, table in paths.items()}
        last = own["paths"][own["paths"]["step"] == run.config.steps]
        assert set(last["plane"]) == {"pca", "random", "random_final"}
        np.testing.assert_allclose(last[["x", "y"]], 0, atol=1e-6)
        for column in ("ratio", "random_walk", "one_walk"):
            assert own["variance"][column].sum() == pytest.approx(1)
            assert own["variance"][column].is_monotonic_decreasing
        share = own["captured"].set_index("plane")["share"]
        assert share["pca"] == pytest.approx(own["variance"]["ratio"].iloc[:2].sum(), rel=1e-6)
        assert share["random"] < share["random_final"] <= share["pca"]
        start = own["paths"].query("plane == 'random_final' and step == 0").iloc[0]
        rows = np.asarray(run.trajectory, dtype=np.float64)
        assert (start["x"], start["y"]) == pytest.approx((np.linalg.norm(rows[0] - rows[-1]), 0), abs=1e-6)


def test_the_surface_of_a_path_holds_it(paths: dict[str, pd.DataFrame]) -> None:
    planes = paths["paths"][paths["paths"]["plane"] == "pca"]
    for run, path in planes.groupby("run"):
        surface = paths["surface"][paths["surface"]["run"] == run]
        assert surface["alpha"].min() < path["x"].min() <= path["x"].max() < surface["alpha"].max()
        assert surface["beta"].min() < path["y"].min() <= path["y"].max() < surface["beta"].max()
        cosines = paths["angles"].loc[paths["angles"]["run"] == run, ["cosine", "control"]].to_numpy()
        assert ((cosines >= 0) & (cosines <= 1 + 1e-12)).all()


def bowl(points: int = 81) -> pd.DataFrame:
    """x^2 + y^2 on a grid of another spacing along each axis, without a point at (0, 0)."""
    x, y = np.meshgrid(np.linspace(-2, 3, points), np.linspace(-1.1, 1.3, points))
    return pd.DataFrame({"alpha": x.ravel(), "beta": y.ravel(), "loss": (x**2 + y**2).ravel()})


def test_steps_cross_or_follow_the_contours_of_a_bowl() -> None:
    straight = np.linspace(1, 0.1, 10)[:, None] * np.array([[2.0, 1.0]])
    turn = np.linspace(0, 2 * np.pi, 40)
    around = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    table = landscape_trajectory.angles(bowl(), straight, range(10), seed=0)
    np.testing.assert_allclose(table["cosine"], 1, atol=1e-3)
    np.testing.assert_allclose(table["control"], 1, atol=1e-3)
    assert table["step"].tolist() == list(range(1, 10))
    circle = landscape_trajectory.angles(bowl(), around, range(40), seed=0)
    np.testing.assert_allclose(circle["cosine"], 0, atol=1e-2)
    assert circle["control"].mean() == pytest.approx(2 / np.pi, abs=0.2), "as at random"


def test_steps_beside_a_loss_that_is_not_finite_have_no_angle() -> None:
    table = bowl(21)
    table.loc[(table["alpha"] > 1) & (table["beta"] > 0.5), "loss"] = np.inf
    loss, _, _ = as_grid(table, "loss")
    assert np.isinf(loss).any()
    path = np.linspace(1, 0, 11)[:, None] * np.array([[2.0, 1.0]])
    cosine = landscape_trajectory.angles(table, path, range(11), seed=0)["cosine"]
    assert np.isnan(cosine.iloc[0])
    assert cosine.iloc[-1] == pytest.approx(1, abs=0.02)


def test_random_directions_meet_the_formula() -> None:
    row = landscape_trajectory.cosines(2000, 1000, seed=0).iloc[0]
    assert row["formula"] == pytest.approx(np.sqrt(2 / (np.pi * 2000)))
    assert row["mean"] == pytest.approx(row["formula"], rel=0.1)  # four standard errors
    assert row["shared"] > 4 * row["formula"]


def stopped(name: str, folder: Path, lr: float) -> TrainedRun:
    """A training that keeps its weights at the training losses 1.5 and 0.5 and ends there."""
    settings = run_config(10, 0.0).model_dump() | {"steps": 400, "keep": [0], "stop_at_losses": {"values": [1.5, 0.5], "every": 5}}
    config = RunConfig.model_validate(settings | {"optimizer": {"name": "sgd", "lr": lr, "momentum": 0.9}})
    dataset, device = sources.read("digits"), torch.device("cpu")
    experiment = experiment_of(config, dataset, device)
    train(initial_model(config, experiment, 0), experiment, config, seed=0, folder=folder / name)
    return TrainedRun(name, 0, config, folder / name, dataset, device)


def test_networks_are_compared_at_the_same_training_loss(tmp_path: Path) -> None:
    """Two rates reach a loss after different numbers of steps; the surface's centre is the loss of the weights kept there."""
    runs = [stopped("fast", tmp_path, 0.05), stopped("slow", tmp_path, 0.01)]
    steps = [run.steps_at_losses[0.5] for run in runs]
    assert steps[0] < steps[1] < 400
    settings = {"points": 3, "reach": 0.1, "jobs": 1, "test_examples": TEST_EXAMPLES}
    tables = measured(config_of(SurfaceConfig, runs, **settings, at_losses={"fast": 0.5, "slow": 0.5}), runs)
    networks = tables["networks"].query("split == 'train' and step > 0").set_index("run")
    assert networks["step"].to_dict() == {run.name: step for run, step in zip(runs, steps, strict=True)}
    assert (networks["loss"] <= 0.5).all()
    assert (networks["loss"] > 0.2).all(), "not the last weights of a longer training"
    for run in runs:
        centre = tables["surface"].query("run == @run.name and alpha == 0 and beta == 0")["loss"].item()
        objective = run.around(loss=0.5, examples=EXAMPLES)
        assert centre == pytest.approx(objective.evaluate(objective.parameters()).loss, rel=1e-6)
    assert reached(runs[0], 0.1) is None, "a loss that was not reached gives the last weights"


def test_a_loss_of_a_run_that_is_not_measured_is_refused(runs: list[TrainedRun]) -> None:
    with pytest.raises(ValidationError, match="which is not measured; allowed: small"):
        config_of(SurfaceConfig, runs, points=3, at_losses={"small_batch": 0.5})
