"""The four views of one training: measured on digits, quantities from tables whose answers are known, controls that fall."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from test_measurements import measured, trained

from figures import four_views
from replication.measurements import Tables
from replication.pipeline import configs
from replication.schema.four_views import FourViewsConfig

SETTINGS = {"instrument": "four_views", "run": "run", "steps": [0, 2, 6], "layers": ["relu1", "relu2", "fc3"], "examples": 100, "probe": 30}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Six steps of a narrow network on small digits."""
    dataset = {"name": "digits", "validation": 100, "examples": 200, "image_size": 8}
    settings = {"image_size": 8, "hidden": [9, 7]}
    run = trained(tmp_path_factory.mktemp("runs"), dataset=dataset, model="mnist_fc", model_settings=settings)
    return measured(FourViewsConfig(**SETTINGS), run)


def test_the_books_balance_and_every_view_has_every_checkpoint(views: Tables) -> None:
    by_name = four_views.quantities(of_seeds(views))
    assert by_name["unexplained"].iloc[0] < 1e-6
    assert by_name["unexplained_shuffled"].iloc[0] > 0.5
    assert by_name["missed_percent"].iloc[0] < 1
    for name in ("losses", "convergence", "stiffness", "curvature"):
        assert sorted(set(views[name]["step"])) == [0, 2, 6]
    assert sorted(set(views["allocation"]["step"])) == list(range(6))
    last = views["convergence"].query("step == 6")
    assert (last["similarity"] > 1 - 1e-6).all()
    assert (last["similarity_shuffled"] < 0.9).all()
    start = views["curvature"].query("step == 0").set_index("path")
    assert start.loc["training", "largest"] == start.loc["random", "largest"], "no move at all"
    assert (views["curvature"]["smallest"] < views["curvature"]["largest"]).all()
    assert (views["stiffness"]["non_finite"] == 0).all()


def of_seeds(views: Tables, seeds: int = 1) -> dict[str, Tables]:
    return {"views": {name: pd.concat([table.assign(seed=seed) for seed in range(seeds)]) for name, table in views.items()}}


def known() -> Tables:
    """Four iterations: the loss halves in the first; relu1 is half way from 0.6 to 1 at once, relu2 late; sharpness falls with the loss."""
    steps, layers = [0, 1, 4], ["relu1", "relu2", "fc3"]
    losses = pd.DataFrame({"step": steps, "loss": [2.0, 1.0, 0.0]})
    changes = {"fc1": -0.5, "fc2": -0.25, "fc3": -0.25}
    rows = [(step, layer, change if step == 0 else change / 3, 0.0, 0.0) for step in range(4) for layer, change in changes.items()]
    allocation = pd.DataFrame(rows, columns=["step", "layer", "lca", "lca_shuffled", "error"])
    similarity = {"relu1": (0.6, 0.8, 1.0), "relu2": (0.2, 0.2, 1.0), "fc3": (0.0, 0.5, 1.0)}
    rows = [(step, layer, similarity[layer][i], 0.1, 0.0) for i, step in enumerate(steps) for layer in layers]
    convergence = pd.DataFrame(rows, columns=["step", "layer", "similarity", "similarity_shuffled", "noise_floor"])
    stiffness = pd.DataFrame({"step": steps, "within": [0.4, 0.3, 0.5], "between": [0.0, 0.1, 0.0]})
    stiffness = stiffness.assign(within_permuted=0.01, between_permuted=0.02)
    rows = [(step, "training", -4.0 / (1 + step), 10.0 - step) for step in steps] + [(step, "random", -4.0, 10.0 + step) for step in steps]
    curvature = pd.DataFrame(rows, columns=["step", "path", "smallest", "largest"])
    return {"losses": losses, "allocation": allocation, "convergence": convergence, "stiffness": stiffness, "curvature": curvature}


def test_quantities_of_known_tables() -> None:
    by_name = {name: values.iloc[0] for name, values in four_views.quantities(of_seeds(known())).items()}
    assert by_name["unexplained"] == pytest.approx(0, abs=1e-12)
    assert by_name["missed_percent_shuffled"] == pytest.approx(100)
    assert by_name["fc1_total"] == pytest.approx(-1.0)
    # relu1: (0.7 + 3 * 0.9) / 4, relu2: (0.2 + 3 * 0.6) / 4; from the start relu1: (0.25 + 3 * 0.75) / 4, relu2: (0 + 3 * 0.5) / 4
    assert by_name["bottom_lead"] == pytest.approx(0.85 - 0.5)
    assert by_name["bottom_lead_shuffled"] == pytest.approx(0)
    assert by_name["bottom_lead_from_start"] == pytest.approx(0.625 - 0.375)
    assert by_name["smallest_class_gap"] == pytest.approx(0.2)
    assert by_name["smallest_class_gap_permuted"] == pytest.approx(-0.01)
    assert by_name["sharpness_follows_loss"] == pytest.approx(1)
    assert by_name["sharpness_follows_loss_random"] == pytest.approx(-1)
    assert by_name["negative_curvature_left"] == pytest.approx(0.2)
    assert by_name["negative_curvature_left_random"] == pytest.approx(1)
    assert by_name["iterations_to_half_loss"] == 1
    assert by_name["way_at_half_loss"] == pytest.approx((0.5 + 0) / 2)
    assert by_name["way_at_half_loss_even"] == pytest.approx(((0.5 + 0.5 / 3) + 1 / 3) / 2)


def test_claims_name_quantities_that_exist() -> None:
    by_name = four_views.quantities(of_seeds(known()))
    for claim in configs.load("reduced", ROOT / "paper_configs")["four_views"].figures["four_views"].claims:
        assert {claim.quantity, claim.control.quantity} <= set(by_name), claim.id


def test_the_drawing_has_four_labelled_panels_on_one_time_axis() -> None:
    figure = four_views.draw(of_seeds(known(), seeds=2))
    assert len(figure.axes) == 4
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    lines = figure.axes[0].get_lines()
    np.testing.assert_allclose([line.get_ydata()[-1] for line in lines[:2]], [-2.0, -1.0])
    plt.close(figure)


def test_a_missing_measurement_is_said_and_gives_no_quantities() -> None:
    assert four_views.quantities({}) == {}
    figure = four_views.draw({})
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["four views:\nnot recorded yet"] * 4
    plt.close(figure)


@pytest.mark.parametrize("steps", [[1, 2, 3], [0, 2, 2], [0, 3, 2]])
def test_checkpoints_begin_at_the_start(steps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"has the checkpoints .*; give increasing ones that begin with 0"):
        FourViewsConfig(**SETTINGS | {"steps": steps})
