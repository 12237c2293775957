"""What instruments measure of trained runs: parts join to the same tables, and a run gives back what training left."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import run_config

from replication import training
from replication.data import sources
from replication.errors import ReplicationError
from replication.measurements import Tables, instrument_of, span_of
from replication.schema.lca import LcaConfig, LcaLayersConfig, LcaSharesConfig, SampledLcaConfig
from replication.schema.measurements import MeasurementConfig
from replication.training.trained_run import TrainedRun, experiment_of, initial_model

DIGITS = {"name": "digits", "validation": 100, "examples": 200}


def trained(folder: Path, name: str = "run", **changes: object) -> TrainedRun:
    """A narrow ResNet trained for six steps on small digits."""
    settings = {"dataset": DIGITS | {"image_size": 8}, "model": "lca_resnet20", "model_settings": {"width": 2, "depth": 8}}
    config = run_config(**settings | {"steps": 6, "batch_size": 50} | changes)
    run = TrainedRun(name, 0, config, folder / name, sources.read("digits"), torch.device("cpu"))
    training.train(initial_model(config, run.experiment, 0), run.experiment, config, seed=0, folder=run.folder)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return trained(tmp_path_factory.mktemp("runs"))


def measured(config: MeasurementConfig, *runs: TrainedRun) -> Tables:
    """All parts of a measurement, through the arrays that files hold."""
    instrument = instrument_of(config)
    parts = []
    for part in range(config.parts):
        read = [run for run in runs if (run.name, 0) in config.sources_of_part(0, part)]
        parts.append(instrument.measure(config, read, seed=0, part=part, progress=lambda *_: None))
    assert all(values.dtype.kind != "O" for part in parts for values in map(np.asarray, part.values())), "nothing would be pickled"
    return instrument.tables(config, parts)


@pytest.mark.parametrize(("parts", "n"), [(1, 7), (3, 7), (7, 7), (4, 880)])
def test_spans_cover_everything_once(parts: int, n: int) -> None:
    spans = [span_of(part, parts, n) for part in range(parts)]
    assert [step for span in spans for step in span] == list(range(n))


def test_a_trained_run_gives_back_what_training_left(run: TrainedRun) -> None:
    assert run.steps == list(range(7))
    final, first = run.model(), run.model(0)
    vector = torch.nn.utils.parameters_to_vector(final.parameters()).detach()
    np.testing.assert_array_equal(vector.numpy(), run.trajectory[-1])
    initial = initial_model(run.config, experiment_of(run.config, run.dataset, run.device), 0)
    np.testing.assert_array_equal(torch.nn.utils.parameters_to_vector(initial.parameters()).detach(), run.trajectory[0])
    moved = [not torch.equal(a, b) for a, b in zip(first.buffers(), final.buffers(), strict=True) if a.is_floating_point()]
    assert all(moved), "batch norm's running statistics belong to the step"
    assert not final.training
    accuracy = run.log()["evaluation"].query("split == 'test'")["accuracy"].iloc[-1]
    assert training.evaluate(final, run.experiment.test)[1] == pytest.approx(accuracy)
    with pytest.raises(ReplicationError, match="did not keep the weights of step 9"):
        run.model(9)
    with pytest.raises(ReplicationError, match="has 100 validation examples and 101 are wanted"):
        run.objective(validation=101)


def test_exact_allocation_of_a_run_is_the_same_in_spans(run: TrainedRun) -> None:
    settings = {"instrument": "lca", "run": "run", "batch_norm": "batch", "chunk": 100, "validation": 100, "trace": "fc", "trace_steps": 4}
    whole, cut = (measured(LcaConfig(**settings, spans=spans), run) for spans in (1, 3))
    assert set(whole) == {"steps", "layers", "histogram", "elements", "parameters", "concentration", "oscillation", "traces"}
    for name, table in whole.items():
        numbers = table.select_dtypes("number").columns
        np.testing.assert_allclose(cut[name][numbers], table[numbers], rtol=1e-9, atol=1e-12)
    steps = whole["steps"]
    assert steps["lca"].sum() == pytest.approx(steps["loss_end"].iloc[-1] - steps["loss_start"].iloc[0], abs=6e-3)
    assert whole["traces"]["step"].unique().tolist() == [1, 2, 3, 4], "in the middle of the run"


@pytest.mark.parametrize("subset", ["fresh", "fixed", "minibatch"])
def test_sampled_allocation_of_a_run(tmp_path: Path, subset: str) -> None:
    run = trained(tmp_path, dataset=DIGITS, model="mnist_fc", model_settings={"image_size": 8})
    config = SampledLcaConfig(instrument="lca_sampled", run="run", subset=subset, examples=50, groups=5, spans=2)
    exact = measured(LcaConfig(instrument="lca", run="run"), run)["layers"].groupby("layer")["lca"].sum()
    totals = measured(config, run)["totals"].query("kind == 'layer'").set_index("name")
    assert totals["share"].tolist() == [0.25] * 3
    error = (totals["lca"].sum() - exact.sum()) / exact.sum()
    assert abs(error) < 0.25 if subset != "minibatch" else error > 0.05, "the step's own batch falls further"


def test_layers_of_several_runs_from_one_fixed_subset(run: TrainedRun, tmp_path: Path) -> None:
    frozen = trained(tmp_path, "frozen", freeze={"fc": 0})
    settings = {"instrument": "lca_layers", "runs": ["run", "frozen"], "examples": 500, "groups": 2, "batch_norm": "batch", "chunk": 100}
    together, scattered = (measured(LcaLayersConfig(**settings, opening=2, scatter=scatter), run, frozen) for scatter in (False, True))
    totals = together["totals"]
    assert totals.equals(scattered["totals"])
    assert totals["run"].unique().tolist() == ["run", "frozen"]
    layers = totals[totals["kind"] == "layer"].set_index(["run", "name"])
    assert layers.loc[("frozen", "fc"), "lca"] == 0
    assert layers.loc[("run", "fc"), "lca"] != 0
    assert (layers["standard_error"] == 0).all(), "the subset is the whole training set"
    exact = measured(LcaConfig(instrument="lca", run="run", batch_norm="batch", chunk=100, max_intervals=2), run)["layers"]
    for late, rows in (("lca", exact), ("lca_late", exact[exact["step"] >= 2])):
        sums = rows.groupby("layer", sort=False)["lca"].sum()
        # the subset is cut into other chunks than the whole set, so batch statistics differ a little
        np.testing.assert_allclose(layers.loc["run"].loc[sums.index, late], sums, rtol=0.5, atol=0.05)


def test_shares_of_several_runs_are_those_of_each_alone(run: TrainedRun, tmp_path: Path) -> None:
    other = trained(tmp_path, "other", optimizer={"name": "adam", "lr": 0.001})
    settings = {"instrument": "lca_shares", "runs": ["run", "other"], "batch_norm": "batch", "chunk": 100}
    together, scattered = (
        measured(LcaSharesConfig(**settings, **cut), run, other)["shares"] for cut in ({}, {"spans": 2, "scatter": True})
    )
    counts = ["run", "step", "helping", "hurting", "zero"]
    assert together[counts].equals(scattered[counts])
    for each in (run, other):
        alone = measured(LcaConfig(instrument="lca", run=each.name, batch_norm="batch", chunk=100), each)["steps"]
        rows = together[together["run"] == each.name].reset_index(drop=True)
        assert rows[["helping", "hurting", "zero"]].equals(alone[["helping", "hurting", "zero"]])
