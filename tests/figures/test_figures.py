"""Quantities from tables whose answers are known, and drawings that show what they should."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figures import lca_helping_over_time, lca_histogram, lca_integration_error, lca_layers, style
from figures.style import Tables
from replication.lca.ledger import BINS_PER_DECADE

TENSORS = [("fc1.weight", "fc1", 1000), ("fc1.bias", "fc1", 10), ("fc2.weight", "fc2", 100), ("fc2.bias", "fc2", 5)]


def lca_tables(seeds: int = 2, steps: int = 8) -> dict[str, pd.DataFrame]:
    """Books of two layers: fc1 gains 1 per step, fc2 0.25, each a tenth of it through its bias; 60 % of the moving help."""
    layer_rows, step_rows = [], []
    for seed in range(seeds):
        for step in range(steps):
            for tensor, layer, size in TENSORS:
                total = (-1.0 if layer == "fc1" else -0.25) * (0.9 if tensor.endswith("weight") else 0.1)
                counts = (6 * size // 20, 4 * size // 20, size - 10 * (size // 20)) if size >= 20 else (0, 0, size)
                layer_rows.append((seed, step, tensor, layer, size, total, *counts, -total / 10, size // 2, size // 2))
            change = -1.25
            error = 1e-4 if step else 2e-3
            step_rows.append(
                (seed, step, -change * (steps - step), -change * (steps - step - 1), change - error, error, 2, change / 2, change)
            )
    layers = pd.DataFrame(
        layer_rows,
        columns=[
            *("seed", "step", "tensor", "layer", "parameters", "lca", "helping", "hurting", "zero"),
            *("lca_shuffled", "helping_shuffled", "hurting_shuffled"),
        ],
    )
    columns = ["seed", "step", "loss_start", "loss_end", "lca", "error", "intervals", "first_order", "trapezoid"]
    table = pd.DataFrame(step_rows, columns=columns)
    table["lca_shuffled"], table["first_order_shuffled"] = 0.0, 0.0
    counts = layers.groupby(["seed", "step"])[["helping", "hurting", "zero"]].sum().reset_index(drop=True)
    return {"steps": pd.concat([table, counts], axis=1), "layers": layers}


def distribution_tables(values: np.ndarray) -> dict[str, pd.DataFrame]:
    """Histogram and elements of the given allocations, as the ledger makes them."""
    edges = 10.0 ** (np.arange(-24 * BINS_PER_DECADE, 4 * BINS_PER_DECADE + 1) / BINS_PER_DECADE)
    parts = []
    for sign, part in (("helping", -values[values < 0]), ("hurting", values[values > 0])):
        count, _ = np.histogram(part, edges)
        total, _ = np.histogram(part, edges, weights=part)
        filled = count > 0
        columns = {"sign": sign, "low": edges[:-1][filled], "high": edges[1:][filled], "count": count[filled], "sum": total[filled]}
        parts.append(pd.DataFrame({"seed": 0, **columns}))
    powers = {"sum": values.sum(), "sum_of_squares": (values**2).sum(), "sum_of_fourth_powers": (values**4).sum()}
    elements = pd.DataFrame([{"seed": 0, "elements": len(values), "zeros": int((values == 0).sum()), "non_finite": 0, **powers}])
    return {"histogram": pd.concat(parts, ignore_index=True), "elements": elements, "concentration": concentration_table()}


def concentration_table() -> pd.DataFrame:
    columns = {"number": 10, "gini": 0.5, "top_1_percent_hold": 20.0, "percent_holding_90": 30.0}
    return pd.DataFrame([{"seed": 0, "of": of} | columns for of in ("elements", "parameters")])


def test_layers_sum_kernel_and_bias_over_the_run() -> None:
    estimates = lca_layers.quantities({"mnist_fc_lca": lca_tables()})
    assert estimates["mnist_fc_fc1_total"].tolist() == pytest.approx([-8.0, -8.0])
    assert estimates["mnist_fc_fc2_total"].tolist() == pytest.approx([-2.0, -2.0])
    assert estimates["mnist_fc_largest_layer_total"].tolist() == pytest.approx([-2.0, -2.0])
    assert estimates["mnist_fc_size_rank_correlation"].tolist() == pytest.approx([1.0, 1.0])
    assert estimates["mnist_fc_largest_layer_total_shuffled"].tolist() == pytest.approx([0.8, 0.8])
    assert estimates["mnist_fc_size_rank_correlation_shuffled"].tolist() == pytest.approx([-1.0, -1.0])
    assert not any(name.startswith("lenet") for name in estimates)


def test_the_share_of_helping_parameters_leaves_zeros_out() -> None:
    estimates = lca_helping_over_time.quantities({"mnist_fc_lca": lca_tables()})
    assert estimates["helping_percent"].tolist() == pytest.approx([60.0, 60.0])
    assert estimates["helping_percent_of_all"].iloc[0] < 35
    assert estimates["helping_percent_shuffled"].tolist() == pytest.approx([50.0, 50.0])
    assert (estimates["helping_percent_of_all"] + estimates["zero_percent"]).iloc[0] < 100


def test_integration_errors() -> None:
    estimates = {name: values.iloc[0] for name, values in lca_integration_error.quantities({"mnist_fc_lca": lca_tables()}).items()}
    summed = 2e-3 + 7e-4
    assert estimates["relative_error_percent"] == pytest.approx(100 * summed / 10)
    assert estimates["steps_within_threshold_percent"] == pytest.approx(87.5)
    assert estimates["relative_error_percent_first_order"] == pytest.approx(50)
    assert estimates["relative_error_percent_trapezoid"] == pytest.approx(0)
    assert estimates["first_order_error_ratio"] == pytest.approx(5 / summed)
    assert estimates["relative_error_percent_shuffled"] == pytest.approx(100)
    assert estimates["first_order_error_ratio_shuffled"] == pytest.approx(1)
    assert estimates["worst_step_error"] == pytest.approx(2e-3)


def test_a_double_weibull_is_recovered_and_a_gaussian_is_not_one() -> None:
    random = np.random.default_rng(0)
    magnitudes = stats.weibull_min.rvs(0.53, scale=5.1e-8, size=200_000, random_state=random)
    values = np.concatenate([magnitudes * random.choice([-1, 1], len(magnitudes)), np.zeros(1000)])
    estimates = {name: series.iloc[0] for name, series in lca_histogram.quantities({"mnist_fc_lca": distribution_tables(values)}).items()}
    assert estimates["weibull_shape"] == pytest.approx(0.53, abs=0.01)
    assert estimates["weibull_scale"] == pytest.approx(5.1e-8, rel=0.03)
    assert estimates["kurtosis"] == pytest.approx(stats.kurtosis(values[values != 0], fisher=False), rel=1e-4)
    assert estimates["weibull_shape_gaussian"] > 1.1
    assert estimates["tail_over_gaussian_3_sigma"] > 5
    gaussian = lca_histogram.quantities({"mnist_fc_lca": distribution_tables(random.normal(size=200_000))})
    assert gaussian["weibull_shape"].iloc[0] == pytest.approx(gaussian["weibull_shape_gaussian"].iloc[0], abs=0.01)
    assert gaussian["kurtosis"].iloc[0] == pytest.approx(3, abs=0.1)
    assert gaussian["tail_over_gaussian_2_sigma"].iloc[0] == pytest.approx(1, abs=0.1)


def all_tables() -> Tables:
    values = np.random.default_rng(1).laplace(size=5000) * 1e-6
    tables = lca_tables() | distribution_tables(values)
    return {"mnist_fc_lca": tables, "resnet20_lca": tables, "lenet_lca": lca_tables(seeds=1)}


def test_a_network_that_was_not_measured_leaves_its_row_empty_and_gives_no_quantities() -> None:
    tables = {"resnet20_lca": lca_tables()}
    estimates = lca_helping_over_time.quantities(tables)
    assert estimates["resnet20_helping_percent"].tolist() == pytest.approx([60.0, 60.0])
    assert all(name.startswith("resnet20_") for name in estimates)
    figure = lca_helping_over_time.draw(tables)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    plt.close(figure)
    assert texts.count("MNIST-FC:\nnot recorded yet") == 2


@pytest.mark.parametrize("module", [lca_layers, lca_helping_over_time, lca_histogram, lca_integration_error], ids=lambda m: m.__name__)
def test_drawings_have_labelled_axes_and_are_saved_alike_twice(module, tmp_path) -> None:
    written = []
    for name in ("a", "b"):
        figure = module.draw(all_tables())
        for axes in figure.axes:
            assert axes.get_ylabel(), "every axis has a label"
        style.save(figure, tmp_path / name, "figure", "a stamp")
        written.append([(tmp_path / name / f"figure.{extension}").read_bytes() for extension in style.FORMATS])
    assert written[0] == written[1]
    assert not plt.get_fignums()


def test_a_missing_recording_is_said_in_its_panel() -> None:
    figure = lca_layers.draw({"mnist_fc_lca": lca_tables()})
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    plt.close(figure)
    assert texts.count("MNIST-LeNet:\nnot recorded yet") == 2


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_legend_gets_a_strip_of_its_own(scale: str) -> None:
    figure, panels = plt.subplots(1, 2)
    for axes, above in zip(panels, (True, False), strict=True):
        axes.plot([0, 1], [1, 1000], label="rises")
        axes.set(yscale=scale, ylim=(1, 1000))
        style.legend_clear_of_data(axes, 1 / 3, above=above)
        assert axes.get_legend().get_texts()[0].get_text() == "rises"
    limits = [axes.get_ylim() for axes in panels]
    assert limits == [pytest.approx(pair) for pair in ([(1, 1333), (-332, 1000)] if scale == "linear" else [(1, 1e4), (0.1, 1000)])]
    plt.close(figure)
