"""Quantities of the landscape paper's figures of VGG-9 from tables whose answers are known; controls fall; drawings are labelled."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from figures import (
    landscape_directions,
    landscape_interpolation,
    landscape_normalisation,
    landscape_pca_trajectory,
    landscape_random_trajectory,
    landscape_sharpness,
    vgg9,
)
from figures.ranks import shifted_rank_correlation
from figures.style import Tables
from figures.vgg9 import LARGE, LARGE_DECAY, SGD, SMALL, SMALL_DECAY
from replication import claims
from replication.landscape.surface_measures import measures
from replication.pipeline import configs
from replication.schema.papers import PaperConfig

MODULES = {
    "landscape_interpolation": landscape_interpolation,
    "landscape_sharpness": landscape_sharpness,
    "landscape_normalisation": landscape_normalisation,
    "landscape_directions": landscape_directions,
    "landscape_random_trajectory": landscape_random_trajectory,
    "landscape_pca_trajectory": landscape_pca_trajectory,
}
SEEDS = (0, 1, 2)
STEEPNESS = {SMALL: 8.0, LARGE: 20.0, SMALL_DECAY: 4.0, LARGE_DECAY: 12.0}
ERRORS = {SMALL: 0.074, LARGE: 0.11, SMALL_DECAY: 0.06, LARGE_DECAY: 0.1}
ADAM = tuple(run.replace("vgg9", "vgg9_adam") for run in SGD)
REPEATED = ("resnet32", "resnet32_noshort")


def product(**columns: object) -> pd.DataFrame:
    return pd.MultiIndex.from_product(columns.values(), names=columns.keys()).to_frame(index=False)


def noise(*key: int) -> float:
    """A small number that is the same in every run of the tests."""
    return float(np.random.default_rng(key).normal(0, 0.02))


def surface_tables(runs: dict[str, float], points: int, directions: int, chaotic: tuple[str, ...] = ()) -> dict[str, pd.DataFrame]:
    """Paraboloids of given steepness; chaotic ones have waves on them and a corner that is not finite."""
    axis = np.linspace(-1, 1, points)
    surface, numbers, networks = [], [], []
    for seed, (place, (run, steepness)), direction in (
        (seed, at, direction) for seed in SEEDS for at in enumerate(runs.items()) for direction in range(directions)
    ):
        table = product(beta=axis, alpha=axis)
        x, y = table["alpha"], table["beta"]
        table["loss"] = 0.01 + steepness * (1 + noise(seed, place, direction)) * (x**2 + 0.7 * y**2)
        if run in chaotic:
            table["loss"] *= np.exp(1.5 * np.sin(7 * x + direction) * np.cos(6 * y))
            table.loc[(x < -0.8) & (y > 0.8), "loss"] = np.inf
            table.loc[(x > 0.8) & (y < -0.8), "loss"] = np.nan
        named = {"seed": seed, "run": run, "direction": directions * seed + direction}
        surface.append(table.assign(computed=True, accuracy=1 / (1 + table["loss"]), **named))
        numbers.append(measures(table).assign(**named))
    for seed, (place, run), step, split in product(
        seed=SEEDS, run=list(enumerate(runs)), step=[0, 100], split=["train", "test"]
    ).to_numpy():
        error = 0.9 if not step else ERRORS.get(run, 0.7 if run in chaotic else 0.1) + noise(seed, place) / 10
        fitted = error < 0.5 and split == "train"
        networks.append((seed, run, step, split, 2.3 if not step else 0.4, 1 - error * (0.1 if fitted else 1), 10.0))
    columns = ["seed", "run", "step", "split", "loss", "accuracy", "norm"]
    return {"surface": pd.concat(surface), "measures": pd.concat(numbers), "networks": pd.DataFrame(networks, columns=columns)}


def lines_tables(points: int, directions: int) -> dict[str, pd.DataFrame]:
    """Parabolas; unnormalised ones are steepest where weights are small, so against the order of the errors."""
    alphas = np.linspace(-1, 1, points)
    table = product(seed=SEEDS, run=SGD, normalise=["filter", "layer", "none"], split=["train", "test"], direction=range(directions))
    table = table[(table["split"] == "train") | (table["normalise"] == "filter")]
    rows = table.merge(pd.DataFrame({"alpha": alphas}), how="cross")
    steep = rows["run"].map(STEEPNESS)
    steepness = steep.where(rows["normalise"] != "none", 2000 / steep).where(rows["normalise"] != "layer", 10)
    spread = 0.03 * np.cos(3 * rows["direction"] + rows["seed"])
    loss = 0.02 + steepness * (1 + spread) * rows["alpha"] ** 2 + 0.3 * (rows["split"] == "test")
    rows["direction"] += directions * rows["seed"]
    lines = rows.assign(loss=loss, accuracy=1 - 0.9 * (1 - np.exp(-loss)))
    copies = {"factor": [1.0, 10.0, 0.1], "epsilon": [True, False]}
    rescaled = product(seed=SEEDS, run=SGD, normalise=["filter", "none"], **copies, alpha=np.linspace(-1, 1, 5))
    original = 0.02 + 30 * rescaled["alpha"] ** 2
    factor = np.where(rescaled["normalise"] == "filter", 1 + 1e-6, 1 / rescaled["factor"] ** 2)
    changed = original * np.where(rescaled["factor"] == 1, 1, factor)
    changed = changed.where(~((rescaled["factor"] == 0.1) & (rescaled["normalise"] == "none") & (rescaled["alpha"] == 1)), np.nan)
    return {"lines": lines, "rescaled": rescaled.assign(loss=changed, original=original)}


def interpolation_tables(points: int) -> dict[str, pd.DataFrame]:
    """Two parabolas side by side: loss 0 at both ends, steepness given; a pair that exchanges them with weight decay."""
    parts = []
    for seed, (small, large), split, (statistics, trained) in product(
        seed=SEEDS, pair=[SGD[:2], SGD[2:]], split=["train", "test"], kind=[(True, True), (False, True), (True, False)]
    ).to_numpy():
        if split == "test" and not (statistics and trained):
            continue
        alphas = np.linspace(-0.5, 1.5, points)
        left, right = (25.0, 100.0) if small == SMALL else (100.0, 25.0)
        loss = np.minimum(left * alphas**2, right * (alphas - 1) ** 2) + 0.2 * (split == "test")
        loss = loss + (0 if statistics else 2 * np.clip(alphas, 0, None)) if trained else np.full(points, 2.3)
        loss = np.where((alphas > 1.4) & trained & (small == SMALL), np.nan, loss)
        table = pd.DataFrame({"seed": seed, "alpha": alphas, "loss": loss, "accuracy": np.exp(-loss)})
        parts.append(table.assign(split=split, statistics=statistics, trained=trained, small=small, large=large))
    norms = product(seed=SEEDS, run=SGD, step=np.arange(11))
    norms["step"] *= np.where(norms["run"].str.contains("_large"), 1, 10)
    ends = norms["run"].map({SMALL: 30.0, LARGE: 20.0, SMALL_DECAY: 5.0, LARGE_DECAY: 8.0})
    share = (2 * norms["step"] / norms.groupby("run")["step"].transform("max")).clip(upper=1)  # constant after the drop of the rate
    edges = np.linspace(-0.1, 0.1, 82)
    weights = product(seed=SEEDS, run=SGD, bin=np.arange(81))
    low, high = edges[weights["bin"]], edges[weights["bin"] + 1]
    density = np.exp(-np.abs(low + high) / 2 / weights["run"].map({SMALL: 0.03, LARGE: 0.02, SMALL_DECAY: 0.005, LARGE_DECAY: 0.01}))
    weights = weights.assign(low=low, high=high, share=density / density.groupby([weights["seed"], weights["run"]]).transform("sum"))
    return {"interpolation": pd.concat(parts), "norms": norms.assign(norm=10 + share * (ends - 10)), "weights": weights.drop(columns="bin")}


def trajectory_tables(points: int) -> dict[str, pd.DataFrame]:
    """Arcs that end at the origin of a bowl; two components hold more than a walk's, and early steps cross the contours."""
    runs, parts = SGD + ADAM, {name: [] for name in ("surface", "variance", "paths", "captured", "angles", "cosines")}
    for seed, (place, run) in ((seed, at) for seed in SEEDS for at in enumerate(runs)):
        named, steps = {"seed": seed, "run": run}, np.arange(41) * (10 if "_small" in run else 1)
        left = 1 - steps / steps[-1]
        x, y = (10 + place) * left, 4 * np.sin(3 * left) * left
        frame = product(beta=np.linspace(-1, 6, points), alpha=np.linspace(-2, 22, points))
        bowl = 0.01 + 0.02 * frame["alpha"] ** 2 + 0.2 * (frame["beta"] - 0.02 * frame["alpha"] ** 2) ** 2
        parts["surface"].append(frame.assign(loss=bowl, **named))
        tail = np.geomspace(1, 0.01, 38)
        two = [0.61, 0.18] if run == SMALL_DECAY else [0.7, 0.2]
        shares = np.array([*two, 0.05, *((0.95 - sum(two)) * tail / tail.sum())])
        walk = 0.61 / np.arange(1, 42) ** 2
        ratios = {"axis": np.arange(1, 42), "ratio": shares, "random_walk": walk, "one_walk": walk * (1 + noise(seed, place))}
        parts["variance"].append(pd.DataFrame(ratios).assign(**named))
        for plane, (a, b) in {"pca": (x, y), "random": (0.05 * np.cos(9 * left), 0.05 * left), "random_final": (x, 0.1 * y)}.items():
            parts["paths"].append(pd.DataFrame({"plane": plane, "step": steps, "x": a, "y": b}).assign(**named))
        captured = {"plane": ["pca", "random", "random_final"], "share": [0.9, 1e-4 * (1 + place), 0.6]}
        parts["captured"].append(pd.DataFrame(captured).assign(**named))
        cosines = {"step": steps[1:], "cosine": np.linspace(0.9, 0.1, 40), "control": 0.5 + 0 * steps[1:]}
        parts["angles"].append(pd.DataFrame(cosines).assign(**named))
        parts["cosines"].append(
            pd.DataFrame({"parameters": [32000], "mean": [0.00459], "formula": [0.00446], "shared": [0.1]}).assign(**named)
        )
    return {name: pd.concat(each) for name, each in parts.items()}


def made_up(points: int = 21, directions: int = 2) -> Tables:
    """Every measurement that these figures read."""
    return {
        "vgg9_surfaces": surface_tables(STEEPNESS, points, directions),
        "repeated_surfaces": surface_tables(dict.fromkeys(REPEATED, 10.0), points, directions, chaotic=REPEATED[1:]),
        "vgg9_lines": lines_tables(points, 5 * directions),
        "vgg9_interpolation": interpolation_tables(10 * points + 11),
        "vgg9_trajectories": trajectory_tables(points),
    }


@pytest.fixture(scope="module")
def tables() -> Tables:
    return made_up(points=9)


@pytest.fixture(scope="module")
def paper() -> PaperConfig:
    return configs.load("reduced", ROOT / "paper_configs")["landscape"]


def means(name: str, tables: Tables) -> dict[str, float]:
    return {quantity: float(values.mean()) for quantity, values in MODULES[name].quantities(tables).items()}


def test_width_of_a_basin() -> None:
    alphas = np.linspace(-0.5, 1.5, 201)
    width = landscape_interpolation.basin_width
    assert width(alphas, 25 * alphas**2, 0, (-0.5, 0.5)) == pytest.approx(0.4, abs=1e-3)
    assert width(alphas, 100 * (alphas - 1) ** 2, 1, (0.5, 1.5)) == pytest.approx(0.2, abs=1e-3)
    assert width(alphas, np.abs(alphas) * 8, 0, (-0.5, 0.5)) == pytest.approx(0.25), "linear between points"
    assert width(alphas, np.zeros(201), 0, (-0.5, 0.5)) == width(alphas, np.zeros(201), 1, (0.5, 1.5)) == 1, "the ends and the middle"
    broken = np.where(np.abs(alphas) > 0.101, np.nan, 0.0)
    assert width(alphas, broken, 0, (-0.5, 0.5)) == pytest.approx(0.2), "a loss that is not finite is infinite"
    assert np.isnan(width(alphas, np.full(201, np.inf), 0, (-0.5, 0.5)))
    valley = np.where(np.abs(alphas - 0.3) < 0.05, 2.0, 0.0)
    assert width(alphas, valley, 0, (-0.5, 0.5)) == pytest.approx(0.75, abs=0.011), "up to the first wall"


def test_interpolation(tables: Tables) -> None:
    estimates = means("landscape_interpolation", tables)
    assert (estimates["width_difference"], estimates["width_difference_decay"]) == pytest.approx((0.1, 0.1), abs=5e-3)
    assert (estimates["width_difference_untrained"], estimates["width_difference_decay_untrained"]) == (0, 0)
    assert (estimates["norm_growth"], estimates["norm_growth_decay"]) == pytest.approx((2, -0.5))
    assert (estimates["norm_difference"], estimates["norm_difference_decay"]) == pytest.approx((10 / 25, 3 / 6.5))
    assert estimates["norm_difference_start"] == 0
    assert (estimates["wrong_statistics_loss"], estimates["wrong_statistics_loss_at_start"]) == pytest.approx((2, 0))


def test_sharpness_goes_with_errors(tables: Tables) -> None:
    estimates = means("landscape_sharpness", tables)
    assert (estimates["error_difference"], estimates["error_difference_decay"]) == pytest.approx((3.6, 4), abs=0.3)
    assert estimates["error_difference_untrained"] == pytest.approx(0)
    assert (estimates["sharpness_error_correlation"], estimates["sharpness_error_correlation_shifted"]) == pytest.approx((1, -0.2))
    assert estimates["widest_margin"] > 0 > estimates["widest_margin_others"]


def test_a_surface_that_is_not_finite_is_the_sharpest(tables: Tables) -> None:
    broken = {name: dict(each) for name, each in tables.items()}
    numbers = broken["vgg9_surfaces"]["measures"].copy()
    numbers.loc[(numbers["run"] == LARGE) & (numbers["measure"] == "rise_0.25"), "value"] = np.nan
    broken["vgg9_surfaces"]["measures"] = numbers
    assert means("landscape_sharpness", broken)["sharpness_error_correlation"] == pytest.approx(1)


def test_errors_of_the_next_net_break_an_order_and_can_hold() -> None:
    sharpness = np.array([3.0, 1.0, 2.0, 4.0])
    assert shifted_rank_correlation(sharpness, sharpness) == pytest.approx(-0.2)
    assert shifted_rank_correlation(sharpness, np.array([2.0, 4.0, 1.0, 3.0])) == pytest.approx(1.0), "an order that the shift makes"
    assert shifted_rank_correlation(np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 0.0, 2.0, 3.0])) == pytest.approx(-0.5)


def test_rescaling(tables: Tables) -> None:
    estimates = means("landscape_normalisation", tables)
    assert (estimates["rescaled_difference"], estimates["rescaled_difference_small"]) == pytest.approx((1e-6, 1e-6), rel=1e-3)
    assert estimates["rescaled_difference_unnormalised"] > 1e30
    assert estimates["rescaled_difference_small_unnormalised"] > 1e30, "a loss that is not finite counts, and can be judged"
    assert estimates["filter_minus_unnormalised_correlation"] == pytest.approx(2)
    assert estimates["filter_minus_unnormalised_correlation_shifted"] == pytest.approx(-0.4)


def test_directions(tables: Tables) -> None:
    estimates = means("landscape_directions", tables)
    lines = tables["vgg9_lines"]["lines"].query("run == @SMALL and seed == 0 and normalise == 'filter' and split == 'train'")
    losses = lines[np.isclose(lines["alpha"], 0.5)]["loss"]
    assert estimates["curve_variation"] == pytest.approx(losses.std() / losses.mean(), rel=0.3)
    assert estimates["curve_variation"] < 0.05 < 0.2 < estimates["curve_variation_across_nets"]
    assert estimates["roughness_gap"] > 0 >= estimates["roughness_gap_exchanged"]


def test_trajectories(tables: Tables) -> None:
    estimates = means("landscape_random_trajectory", tables) | means("landscape_pca_trajectory", tables)
    assert (estimates["cosine_over_formula"], estimates["cosine_over_formula_shared"]) == pytest.approx((0.00459 / 0.00446, 0.1 / 0.00446))
    assert (estimates["captured_by_random"], estimates["captured_by_principal"]) == pytest.approx((0.08, 90)), "in per cent"
    assert (estimates["captured_by_two"], estimates["captured_by_two_random_walk"]) == pytest.approx(((7 * 0.9 + 0.79) / 8, 0.7625))
    assert estimates["captured_beyond_random_walk"] == pytest.approx(0.0275)
    assert estimates["captured_beyond_random_walk_by_walk"] < 0
    assert (estimates["crossing_fall"], estimates["crossing_fall_shuffled"]) == pytest.approx((16 / 39, 0))


def test_steps_without_a_gradient_are_left_out(tables: Tables) -> None:
    broken = {name: dict(each) for name, each in tables.items()}
    angles = broken["vgg9_trajectories"]["angles"].copy()
    angles.loc[angles["step"] == angles["step"].min(), "cosine"] = np.nan
    broken["vgg9_trajectories"]["angles"] = angles
    assert means("landscape_pca_trajectory", broken)["crossing_fall"] == pytest.approx(16 / 39, abs=0.02)


@pytest.mark.parametrize("name", MODULES)
def test_every_claim_has_its_quantity_and_its_control_falls(name: str, tables: Tables, paper: PaperConfig) -> None:
    """On made-up tables that show the claimed effects every claim is reproduced, so none holds under its control."""
    figure = paper.figures[name]
    quantities = {key: {int(str(s)): float(v) for s, v in by_seed.items()} for key, by_seed in MODULES[name].quantities(tables).items()}
    for claim in figure.claims:
        assert claim.quantity in quantities, claim.id
        assert claim.control.quantity in quantities, claim.id
        if not claim.withdrawn and claim.expect:
            assert claims.judge(claim, quantities).outcome == "reproduced", claim.id


@pytest.mark.parametrize("name", MODULES)
def test_drawings_are_labelled_and_survive_missing_tables(name: str, tables: Tables, paper: PaperConfig) -> None:
    module, needed = MODULES[name], paper.figures[name].measurements
    for missing in (None, *needed):
        figure = module.draw({measurement: recorded for measurement, recorded in tables.items() if measurement != missing})
        for axes in figure.axes:
            assert axes.lines or axes.collections or axes.patches or not axes.axison, "no panel is empty"
        first = figure.axes[0]
        assert missing or (first.get_xlabel() and first.get_ylabel() and first.get_title())
        plt.close(figure)
    assert module.quantities({}) == {}


def test_a_net_that_is_not_fitted_says_so(tables: Tables) -> None:
    figure = landscape_directions.draw(tables)
    titles = [axes.get_title() for axes in figure.axes]
    assert sum("not fitted: training accuracy 0.30" in title for title in titles) == 2
    assert "ResNet-32\npair of directions 1" in titles
    plt.close(figure)
    assert vgg9.title(tables, SMALL).startswith("small batch\ntest error 7.")
    networks = tables["vgg9_surfaces"]["networks"]
    poor = {"vgg9_surfaces": {"networks": networks.assign(accuracy=0.5)}}
    assert vgg9.title(poor, SMALL).endswith("not fitted: training accuracy 0.50")


def test_runs_in_words() -> None:
    assert vgg9.label("vgg9_adam_large_decay") == "Adam, large batch, weight decay"
    assert vgg9.label(SMALL) == "small batch"
