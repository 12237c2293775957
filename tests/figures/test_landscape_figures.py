"""Quantities of the landscape figures of residual nets from tables whose answers are known; controls fall; drawings are labelled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from figures import landscape_contours, landscape_curvature, landscape_errors, landscape_surface, landscape_width, residual_nets
from replication.landscape import surface_measures
from replication.pipeline import dag

MODULES = [landscape_contours, landscape_width, landscape_errors, landscape_curvature, landscape_surface]

SEEDS = (0, 1, 2)
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def bowl(steepness: float, centre: float = 0.01) -> Function:
    return lambda x, y: centre + steepness * (x**2 + 1.5 * y**2)


def rough(steepness: float, centre: float = 0.01) -> Function:
    """A bowl under waves, which curve it down at a part of its points."""
    return lambda x, y: centre + (steepness * (x**2 + y**2)) * (1.3 + np.sin(9 * x) * np.cos(8 * y))


def overflowing(steepness: float) -> Function:
    """A bowl whose corners are not finite."""
    return lambda x, y: np.where(x + y > 1.2, np.inf, np.where(x - y > 1.7, np.nan, bowl(steepness)(x, y)))


@dataclass(frozen=True)
class Net:
    """A made-up run."""

    loss: Function
    accuracy: float = 1.0
    error: float = 10.0  # per cent
    channels: int = 16
    start: float = 2.3


@lru_cache
def one_surface(function: Function, points: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    axis = np.linspace(-1, 1, points)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    loss = function(x, y) * (1 + 0.02 * seed)
    surface = pd.DataFrame({"alpha": x, "beta": y, "computed": True, "loss": loss, "accuracy": np.exp(-np.nan_to_num(loss, posinf=99))})
    return surface, surface_measures.measures(surface)


def surface_tables(nets: Mapping[str, Net], points: int = 11, seeds: tuple[int, ...] = SEEDS) -> dict[str, pd.DataFrame]:
    """What ``landscape_surface`` measures, from functions; a seed changes the steepness a little."""
    surfaces, numbers, networks = [], [], []
    for seed in seeds:
        for run, net in nets.items():
            of = {"seed": seed, "run": run}
            surface, measures = one_surface(net.loss, points, seed)
            surfaces.append(surface.assign(direction=seed, **of))
            numbers.append(measures.assign(direction=seed, **of))
            for step, split in ((0, "train"), (0, "test"), (1500, "train"), (1500, "test")):
                accuracy = 0.1 if step == 0 else net.accuracy if split == "train" else 1 - net.error / 100
                row = {"step": step, "split": split, "loss": net.start if step == 0 else net.loss(np.zeros(1), np.zeros(1))[0]}
                networks.append({**row, "accuracy": accuracy, "examples": 1000, "channels": net.channels, "parameters": 100, **of})
    return {"surface": pd.concat(surfaces), "measures": pd.concat(numbers), "networks": pd.DataFrame(networks)}


DEPTH_NETS = {
    "resnet20": Net(bowl(4), error=7.4),
    "resnet20_noshort": Net(bowl(5), error=8.2),
    "resnet32": Net(bowl(4.2), error=7),
    "resnet32_noshort": Net(rough(12), accuracy=0.97, error=12),
    "resnet56": Net(bowl(4.5), error=5.9),
    "resnet56_noshort": Net(overflowing(50), accuracy=0.4, error=61),
}


WIDE_NETS = {
    f"{name}{kind}": Net(loss(steep), error=error + 8 * bool(kind), channels=channels)
    for name, channels, steep, error in (("wide_k1", 4, 9, 40), ("resnet32", 8, 6, 35), ("wide_k4", 16, 3, 30))
    for kind, loss in (("", bowl), ("_noshort", rough))
}

DENSE_NETS = {"densenet": Net(bowl(3), error=4.4, start=2.4)}
VGG_NETS = {"vgg9_small": Net(bowl(6), error=7.4), "vgg9_large": Net(bowl(8), error=11), "vgg9_small_decay": Net(bowl(2), error=6)}


def log_table(accuracy: Callable[[np.ndarray], np.ndarray], steps: int) -> dict[str, pd.DataFrame]:
    """The log of a training."""
    step = np.arange(1, steps + 1)
    return {"log": pd.concat([pd.DataFrame({"seed": seed, "step": step, "loss": 2.3, "accuracy": accuracy(step)}) for seed in SEEDS])}


def map_tables(points: int = 7) -> dict[str, pd.DataFrame]:
    """Ratios of 0.01 with shortcuts and 0.2 without; a point that did not converge and one without a finite ratio in each map."""
    axis = np.linspace(-1, 1, points)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    maps, untrained = [], []
    for seed in SEEDS:
        for run, ratio in (("resnet20", 0.01), ("resnet20_noshort", 0.02), ("resnet32_noshort", 0.2)):
            loss = bowl(4)(x, y)
            table = pd.DataFrame({"alpha": x, "beta": y, "ratio": ratio * (1 + 0.2 * loss), "converged": 1.0, "loss": loss})
            table.loc[points * points // 2, ["ratio", "converged"]] = 0.5, 0.0
            table.loc[0, "ratio"] = np.nan
            maps.append(table.assign(seed=seed, run=run))
            untrained.append({"seed": seed, "run": run, "smallest": -0.3, "largest": 1.0})
    return {"map": pd.concat(maps), "untrained": pd.DataFrame(untrained)}


def errors_tables(points: int) -> dict[str, dict[str, pd.DataFrame]]:
    nets = {"depth_surfaces": DEPTH_NETS, "width_surfaces": WIDE_NETS, "dense_surfaces": DENSE_NETS, "vgg9_surfaces": VGG_NETS}
    logs = {
        "resnet158_noshort": log_table(lambda step: 0.1 + 0 * step, 300),
        "resnet20": log_table(lambda step: np.minimum(step / 400, 1), 1500),
    }
    return {name: surface_tables(group, points) for name, group in nets.items()} | logs


def made_up(figure: str, points: int = 9) -> dict[str, dict[str, pd.DataFrame]]:
    """Tables of a figure."""
    return {
        "landscape_contours": lambda: {"depth_surfaces": surface_tables(DEPTH_NETS, points)},
        "landscape_width": lambda: {"width_surfaces": surface_tables(WIDE_NETS, points)},
        "landscape_surface": lambda: {
            "depth_surfaces": surface_tables(DEPTH_NETS, points),
            "dense_surfaces": surface_tables(DENSE_NETS, points),
            **{run: log_table(lambda step: 0.1 + 0 * step, 5) for run in ("resnet20", "densenet")},
        },
        "landscape_errors": lambda: errors_tables(points),
        "landscape_curvature": lambda: {"curvature_maps": map_tables()},
    }[figure]()


def name_of(module: object) -> str:
    return module.__name__.removeprefix("figures.")  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_every_quantity_and_control_of_the_claims_is_there(module: ModuleType) -> None:
    estimates = module.quantities(made_up(name_of(module)))
    claims = [claim for claim in dag.figure_of("reduced", "landscape", name_of(module)).claims if claim.expect]
    missing = {name for claim in claims for name in (claim.quantity, claim.control.quantity)} - set(estimates)
    assert not missing
    for values in estimates.values():
        assert list(values.index) == list(SEEDS)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_drawings_have_labelled_axes(module: ModuleType) -> None:
    figure = module.draw(made_up(name_of(module)))
    figure.canvas.draw()
    assert all(axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes)
    assert len(figure.axes) >= 3
    plt.close(figure)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_measurements_that_are_missing_leave_an_empty_panel(module: ModuleType) -> None:
    assert module.quantities({}) == {}
    figure = module.draw({})
    assert any("not recorded" in text.get_text() for axes in figure.axes for text in axes.texts)
    plt.close(figure)
    tables = made_up(name_of(module), points=5)
    for name in list(tables)[:2] if len(tables) > 1 else ():
        part = {key: value for key, value in tables.items() if key != name}
        module.quantities(part)
        plt.close(module.draw(part))


def mean(values: pd.Series) -> float:
    return float(values.mean())


def test_depth_bends_and_narrows_the_basin_without_shortcuts_alone() -> None:
    estimates = landscape_contours.quantities(made_up("landscape_contours", 21))
    assert mean(estimates["negative_curvature_rise_noshort"]) > 0.2
    assert mean(estimates["negative_curvature_rise_with_shortcuts"]) == 0
    assert (estimates["extra_narrowing_noshort"] > 0.2).all()
    assert np.abs(estimates["extra_narrowing_permuted"]).max() < 1e-12
    assert mean(estimates["fitted_difference_56"]) == pytest.approx(0.6)
    assert mean(estimates["fitted_difference_20"]) == 0
    assert 0.7 < mean(estimates["radius_ratio_with_shortcuts"]) < 1.3
    assert mean(estimates["radius_ratio_deepest_noshort"]) < 0.5
    assert 0.5 < mean(estimates["shallow_area_ratio"]) < 2 < mean(estimates["deep_area_ratio"])
    assert mean(estimates["extra_steepness_56"]) == pytest.approx(np.log(50 / 4.5), rel=0.05)
    assert mean(estimates["extra_steepness_20"]) == pytest.approx(np.log(5 / 4), rel=0.05)
    assert mean(estimates["accuracy_56_noshort"]) == pytest.approx(0.4)
    assert mean(estimates["accuracy_56_noshort_untrained"]) == pytest.approx(0.1)


def test_a_wavy_net_is_more_irregular_and_more_curved_down_than_its_twin() -> None:
    nets = DEPTH_NETS | {"resnet56_noshort": Net(rough(12), accuracy=0.97)}
    estimates = landscape_contours.quantities({"depth_surfaces": surface_tables(nets, 21)})
    assert mean(estimates["extra_irregularity_56"]) > 0.05 > abs(mean(estimates["extra_irregularity_20"]))
    assert mean(estimates["extra_curvature_56"]) > 0.2 > abs(mean(estimates["extra_curvature_20"]))
    assert mean(estimates["extra_minima_56"]) > 0 == mean(estimates["extra_minima_20"])


def test_the_deepest_fitted_net_is_the_one_that_is_fitted() -> None:
    tables = made_up("landscape_contours", 5)
    assert landscape_contours.deepest_fitted_depth(tables) == 32
    networks = tables["depth_surfaces"]["networks"]
    networks.loc[networks["run"] == "resnet32_noshort", "accuracy"] = 0.5
    assert landscape_contours.deepest_fitted_depth(tables) == 32  # the second depth where none is fitted
    networks.loc[networks["run"] == "resnet56_noshort", "accuracy"] = 0.95
    assert landscape_contours.deepest_fitted_depth(tables) == 56


def test_an_area_of_zero_is_no_ratio() -> None:
    tables = made_up("landscape_contours", 5)
    measures = tables["depth_surfaces"]["measures"]
    measures.loc[(measures["run"] == "resnet56_noshort") & measures["measure"].str.startswith("area"), "value"] = 0.0
    assert landscape_contours.quantities(tables)["deep_area_ratio"].isna().all()


def test_titles_say_which_nets_are_not_fitted_and_points_that_are_not_finite_are_counted() -> None:
    figure = landscape_contours.draw(made_up("landscape_contours", 11))
    titles = [axes.get_title() for axes in figure.axes]
    assert sum("not fitted: training accuracy 0.40" in title for title in titles) == 1
    assert any("test error 5.9 %" in title for title in titles)
    assert any("points not finite" in axes.get_xlabel() for axes in figure.axes)
    plt.close(figure)


def test_a_flat_surface_leaves_an_empty_panel() -> None:
    flat = {run: Net(lambda x, y: 2.3 + 0 * x, accuracy=0.1) for run in DEPTH_NETS}
    tables = {"depth_surfaces": surface_tables(flat, 5)}
    landscape_contours.quantities(tables)
    plt.close(landscape_contours.draw(tables))


def test_width_trends_are_rank_correlations_and_turn_when_each_net_has_the_next_ones_value() -> None:
    estimates = landscape_width.quantities(made_up("landscape_width", 21))
    assert (estimates["area_trend_noshort"] == 1).all()
    assert (estimates["area_trend_with_shortcuts"] == 1).all()
    assert (estimates["error_trend"] == -1).all()
    assert (estimates["area_trend_shifted"] == -0.5).all(), "three widths, each with the next one's area"
    assert (estimates["error_trend_shifted"] == 0.5).all()
    assert landscape_width.widening(made_up("landscape_width", 5)).tolist() == [1, 1, 2, 2, 4, 4]


def test_errors_are_in_per_cent_and_a_run_of_two_measurements_counts_once() -> None:
    estimates = landscape_errors.quantities(made_up("landscape_errors", 9))
    assert mean(estimates["test_error_resnet20"]) == pytest.approx(7.4)
    assert mean(estimates["test_error_resnet32"]) == pytest.approx(7)  # that of depth_surfaces
    assert mean(estimates["test_error_untrained"]) == pytest.approx(90)
    assert len([name for name in estimates if name.startswith("test_error_")]) == 6 + 4 + 1 + 3 + 1
    assert mean(estimates["accuracy_of_156"]) == pytest.approx(0.1)
    assert mean(estimates["accuracy_of_shallow"]) == pytest.approx(np.arange(201, 301).mean() / 400)


def test_flatness_follows_the_error_and_not_exchanged_errors() -> None:
    nets = {f"resnet{10 + k}": Net(bowl(1.3**k), error=5 + k) for k in range(8)} | {"vgg9_small": Net(bowl(50), error=1)}
    estimates = landscape_errors.quantities({"depth_surfaces": surface_tables(nets, 21)})
    assert (estimates["flatness_error_correlation"] < -0.95).all()
    assert np.abs(estimates["flatness_error_correlation_permuted"]).max() < 0.15


def test_eigenvalues_that_did_not_converge_are_left_out() -> None:
    tables = made_up("landscape_curvature")
    estimates = landscape_curvature.quantities(tables)
    assert (estimates["share_of_small_ratios_in_basin"] == 1).all()
    assert (estimates["share_of_small_ratios_untrained"] == 0).all()
    assert (estimates["median_ratio_difference"] > 0.15).all()
    assert (estimates["median_ratio_difference_shallow"] < 0.05).all()
    ratios = landscape_curvature.points_of(tables)["ratio"]
    assert ratios.isna().sum() == 2 * 3 * len(SEEDS)
    figure = landscape_curvature.draw(tables)
    assert sum("2 of 49 points left out" in axes.get_title() for axes in figure.axes) == 3
    plt.close(figure)


def test_convexity_and_losses_of_the_surface_figure() -> None:
    tables = made_up("landscape_surface", 21)
    estimates = landscape_surface.quantities(tables)
    assert estimates["smallest_convexity_level_with_shortcuts"][0] == pytest.approx(bowl(3)(np.ones(1), np.ones(1))[0])
    assert mean(estimates["largest_initial_loss_with_shortcuts"]) == pytest.approx(2.3)
    assert estimates["loss_one_step_away"][0] == pytest.approx(0.01 + 3 * 1.25, rel=0.01)
    rough_nets = DEPTH_NETS | {"resnet56_noshort": Net(rough(12), accuracy=0.95)}
    rough_found = landscape_surface.quantities(tables | {"depth_surfaces": surface_tables(rough_nets, 21)})
    assert (rough_found["convexity_level_deepest_noshort"] < 4).all()


def test_the_surface_figure_comes_with_a_page_and_a_file_for_each_net() -> None:
    pages = landscape_surface.extras(made_up("landscape_surface"))
    assert set(pages) == {".html", ".densenet.vts", *(f".{run}.vts" for run in DEPTH_NETS)}
    assert "not fitted: training accuracy 0.40" in pages[".html"].decode()
    assert pages == landscape_surface.extras(made_up("landscape_surface"))
    assert landscape_surface.extras({}) == {}


def test_nets_are_called_by_their_names() -> None:
    assert residual_nets.title_of("resnet56_noshort") == "ResNet-56, no shortcuts"
    assert residual_nets.title_of("wide_k4") == "wide ResNet, k = 4"
    assert residual_nets.title_of("vgg9_small_decay") == "VGG-9, small batch, weight decay"
    assert residual_nets.split_by_shortcuts(["densenet", "resnet110", "resnet20_noshort", "resnet20"]) == (
        ["resnet20", "resnet110", "densenet"],
        ["resnet20_noshort"],
    )
