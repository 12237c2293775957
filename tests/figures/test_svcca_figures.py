"""Quantities of the SVCCA and PWCCA figures from tables whose answers are known; controls fall; drawings are labelled."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from figures import (
    layer_maps,
    pwcca_memorisation,
    pwcca_noise,
    pwcca_width,
    svcca_aligned_directions,
    svcca_class_sensitivity,
    svcca_compression,
    svcca_convergence_curves,
    svcca_cross_architecture,
    svcca_distributed,
    svcca_dynamics,
    svcca_fourier,
    svcca_freeze_training,
    svcca_invariance,
    svcca_lstm,
    svcca_projection_accuracy,
    svcca_toy_regression,
    svcca_two_seeds,
)
from figures.style import Tables

MODULES = [
    *(svcca_aligned_directions, svcca_class_sensitivity, svcca_compression, svcca_convergence_curves, svcca_cross_architecture),
    *(svcca_distributed, svcca_dynamics, svcca_fourier, svcca_freeze_training, svcca_invariance, svcca_projection_accuracy),
    *(svcca_toy_regression, svcca_two_seeds, svcca_lstm, pwcca_memorisation, pwcca_noise, pwcca_width),
]
CONVNET = ["in", "c1", "c2", "bn1", "p1", "c3", "c4", "c5", "bn2", "p2", "fc1", "bn3", "fc2", "bn4", "logits", "out"]
RESNET = ["in", "conv", *(f"b{i}_{part}" for i in range(1, 7) for part in ("cv1", "cv2", "res")), "bn", "logits", "out"]
SEEDS = (0, 1)
STEPS = (0, 35, 75, 100)


def product(**columns: object) -> pd.DataFrame:
    return pd.MultiIndex.from_product(columns.values(), names=columns.keys()).to_frame(index=False)


def similarity(run: str, step: int, a: str, b: str) -> float:
    """Falling with depth during training; res-res 0.6, everything else off the diagonal 0.3."""
    order = CONVNET if run == "convnet" else RESNET
    if a == b:
        rise = {0: 0.4, 35: 0.7, 75: 0.9, 100: 1.0}[step]
        return rise if a in ("in", "logits", "out") else rise - (0 if step == 100 else 0.01 * order.index(a))
    return 0.6 if a.endswith("_res") and b.endswith("_res") else 0.3


def dynamics_tables() -> dict[str, pd.DataFrame]:
    matrices, controls, curves, classes = [], [], [], []
    for run, rows in (("convnet", CONVNET), ("resnet", RESNET)):
        table = product(seed=SEEDS, run=[run], step=STEPS, layer_a=rows, layer_b=rows)
        table["similarity"] = [similarity(run, *key) for key in zip(table["step"], table["layer_a"], table["layer_b"], strict=True)]
        matrices.append(table)
        curves.append(table[table["layer_a"] == table["layer_b"]].rename(columns={"layer_a": "row"}).drop(columns="layer_b"))
        broken = product(seed=SEEDS, run=[run], step=(35, 75), row=rows)
        controls.append(broken.assign(similarity=[0.01 + 0.001 * rows.index(row) * (row != "out") for row in broken["row"]]))
        labels = product(seed=SEEDS, run=[run], row=rows, **{"class": range(10)})
        classes.append(labels.assign(correlation=labels["class"].map({3: 0.5, 5: 0.55, 1: 0.8, 9: 0.85}).fillna(0.2), control=0.1))
    pairs = [("c2-bn1", "norm", 1.0, 0.99), ("fc1-bn3", "norm", 1.0, 0.95), ("c3-c4", "convolution", 0.7, 0.72)]
    norms = [(seed, "convnet", *pair) for seed in SEEDS for pair in pairs]
    cross = product(seed=SEEDS, row_a=CONVNET[1:10], row_b=["conv", *(f"b{i}_res" for i in range(1, 7))])
    falling = 1 - 0.1 * cross["row_b"].map({name: place for place, name in enumerate(dict.fromkeys(cross["row_b"]))})
    return {
        "matrices": pd.concat(matrices),
        "controls": pd.concat(controls),
        "curves": pd.concat(curves),
        "classes": pd.concat(classes),
        "norms": pd.DataFrame(norms, columns=["seed", "run", "pair", "between", "cca", "svcca"]),
        "cross": cross.assign(fourier=falling, means=falling, means_shuffled=0.1),
    }


def pair_tables() -> dict[str, pd.DataFrame]:
    matrix = product(seed=SEEDS, layer_a=CONVNET, layer_b=CONVNET)
    special = {"c1": 0.8, "logits": 0.6, "fc2": 0.35}
    matrix["similarity"] = [special.get(a, 0.5) if a == b else 0.3 for a, b in zip(matrix["layer_a"], matrix["layer_b"], strict=True)]
    matrix = matrix.assign(shuffled=0.05, noise_floor=0.05)
    curve = product(seed=SEEDS, row=["p2", "fc1", "fc2"], projection=list(svcca_projection_accuracy.LINES), k=[10, 25, 50, 100, 200])
    enough = {"svcca": 25, "largest neurons, least squares": 100, "random neurons, least squares": 100}
    curve["accuracy"] = [0.5 if k >= enough.get(name, 10_000) else 0.2 for name, k in zip(curve["projection"], curve["k"], strict=True)]
    double = product(seed=SEEDS, row=["p2", "fc1"], directions=[10, 20], neurons=[0, 50, 100, 150, 300, 512])
    double["accuracy"] = np.where(double["neurons"].isin([0, 512]), 0.45, 0.4)
    compression = product(seed=SEEDS, method=list(svcca_compression.METHODS), fraction=[0.05, 0.35, 1.0], layers=[1, 2])
    level = {"two networks": 0.49, "logits": 0.5, "random neurons": 0.1}
    compression = compression.assign(accuracy=compression["method"].map(level), lowest_row=compression["layers"].map({1: "bn4", 2: "fc2"}))
    full = pd.DataFrame({"seed": SEEDS, "accuracy": 0.5, "p2": 384, "fc1": 512, "fc2": 256})
    return {"matrix": matrix, "projections": curve, "double": double, "compression": compression, "full": full}


def toy_tables() -> dict[str, pd.DataFrame]:
    errors = product(seed=SEEDS, projection=list(svcca_toy_regression.LINES), k=[2, 6, 15, 30])
    errors["relative_error"] = np.where(errors["projection"] == "svcca", 10.0 ** -errors["k"].map({2: 0, 6: 1, 15: 3, 30: 4}), 0.8)
    outputs = product(seed=SEEDS, k=[2, 6, 15, 30], target=["a", "b", "c", "d"], x=[-1.0, 0.0, 1.0]).assign(full=1.0, projected=0.9)
    shown = product(seed=SEEDS, network=["a", "b"], index=[1, 2, 3, 4], x=[-1.0, 0.0, 1.0])
    shown = shown.assign(neuron=0.3, direction=np.where(shown["network"] == "a", 1.0, -1.0))
    coefficients = product(seed=SEEDS, networks=["trained", "untrained"], index=range(1, 9))
    pairs = product(seed=SEEDS, index=[1, 2, 3, 4]).assign(svcca=0.99, ranked_neurons=0.4, best_neuron=0.9)
    network = pd.DataFrame({"seed": SEEDS, "mse": 0.01, "kept": 30, "kept_variance": 7, "dead": 59})
    tables = {"errors": errors, "outputs": outputs, "shown": shown, "pairs": pairs, "network": network}
    return tables | {"coefficients": coefficients.assign(coefficient=1 - 0.01 * coefficients["index"])}


def theory_tables() -> Tables:
    cases = [*svcca_fourier.CASES, "no translations, random basis"]
    ratios = product(seed=SEEDS, case=cases)
    values = dict(zip(cases, (2.0, 0.25, 1e-16, 0.6, 1.6), strict=True))
    blocks = product(seed=SEEDS, case=cases, row=range(4), column=range(4)).assign(norm=1.0)
    fourier = {
        "ratios": ratios.assign(off_block_over_on_block=ratios["case"].map(values)),
        "coefficients": product(seed=SEEDS, padding=["circular", "zeros"]).assign(largest_difference=[1e-15, 0.1] * 2),
        "blocks": blocks,
    }
    recovered = product(seed=SEEDS, transformation=[*svcca_invariance.SHOWN, "squared"])
    columns = {f"{what}_{i}": 0.5 for what in ("before", "after", "variate_before", "variate_after") for i in (1, 2)}
    aligned = product(seed=SEEDS, kind=["noise", "useful"], index=range(1, 5))
    noise = [(seed, 100, p, n, mean, mean) for seed in SEEDS for p, n, mean in ((100, 1000, 0.27), (100, 2000, 0.19), (50, 2000, 0.207))]
    maps = {
        "recovered": recovered.assign(largest_deviation=np.where(recovered["transformation"] == "squared", 0.1, 1e-15)),
        "shown": product(seed=SEEDS, transformation=list(svcca_invariance.SHOWN), example=range(3)).assign(**columns),
        "invariance": product(seed=SEEDS, map=["orthogonal and scaled", "squared"]).assign(largest_difference=[1e-15, 0.2] * 2),
        "aligned": aligned.assign(coefficient=(aligned["index"] < 3).astype(float)),
        "aligned_means": product(seed=SEEDS, kind=["noise", "useful"]).assign(cca=0.25, svcca=[0.4, 0.25] * 2, pwcca=0.5),
        "noise": pd.DataFrame(noise, columns=["seed", "neurons_x", "neurons_y", "examples", "mean", "floor"]),
    }
    table = product(seed=SEEDS, noise=list(pwcca_noise.PANELS), shared=[20, 100, 180]).assign(floor=0.27, mean=0.5, svcca=0.6)
    strong = table["noise"] == pwcca_noise.STRONG
    table = table.assign(svcca_variance=1.0, pwcca=np.where(strong, 0.55, 0.9))
    return {"fourier_theorem": fourier, "linear_maps": maps, "noisy_layers": {"similarity": table}}


def freeze_tables() -> Tables:
    final = {"convnet": 0.4, "convnet_frozen": 0.41, "convnet_frozen_at_start": 0.3, "resnet": 0.5, "resnet_frozen": 0.5}
    by_run: Tables = {}
    for run, accuracy in final.items():
        evaluation = product(seed=SEEDS, step=[50, 100], split=["validation", "test"])
        by_run[run] = {"evaluation": evaluation.assign(accuracy=np.where(evaluation["split"] == "test", accuracy, np.nan))}
    costs = [(0, "convnet", 0, 10, 20, 100), (0, "convnet_frozen", 0, 10, 20, 50), (0, "convnet_frozen", 50, 10, 10, 50)]
    costs += [(0, run, 0, 10, 20, 100) for run in ("resnet", "resnet_frozen")]
    return by_run | {"freeze_cost": {"cost": pd.DataFrame(costs, columns=["seed", "run", "from_step", "forward", "backward", "steps"])}}


def group_tables() -> dict[str, pd.DataFrame]:
    groups = {"generalising": 0.4, "memorising": 0.6, "between": 0.65, "mixed group 1": 0.65, "mixed group 2": 0.66}
    distances = product(seed=SEEDS, split=["train", "test"], group=list(groups), layer=["1", "2", "3", "4", "softmax"])
    accuracy = product(seed=SEEDS, run=["generalising", "memorising"], network=[0, 1]).assign(train=1.0, test=0.25)
    return {"distances": distances.assign(distance=distances["group"].map(groups)), "accuracy": accuracy}


def width_tables() -> dict[str, pd.DataFrame]:
    """Trained distances fall by 0.3 over four widths while accuracy rises, untrained ones by 0.06, shuffled ones not."""
    filters = [64, 96, 128, 192]
    place = {count: number for number, count in enumerate(filters)}
    distances = product(seed=SEEDS, state=["untrained", "trained", "shuffled"], split=["train", "test"], filters=filters)
    depth, shape = distances["filters"].map(place), distances["state"].map({"untrained": 0.02, "trained": 0.1, "shuffled": 0.0})
    distances["distance"] = 0.8 - shape * depth + np.where(distances["state"] == "shuffled", 0.001 * (depth % 2), 0)
    networks = product(seed=SEEDS, network=[0, 1], filters=filters).assign(run="width", train_loss=0.01, train_accuracy=1.0, test_loss=1.0)
    networks["test_accuracy"] = 0.2 + 0.05 * networks["filters"].map(place) + 0.01 * networks["network"]
    return {"distances": distances.assign(floor=0.93), "networks": networks}


def lstm_tables() -> dict[str, pd.DataFrame]:
    """Ten steps between start and end; layer 1 leads by 0.05, the upper two are in order in PWCCA only."""
    curves = product(seed=SEEDS, step=range(0, 120, 10), layer=["lstm1", "lstm2", "lstm3"])
    share, place = curves["step"] / 110, curves["layer"].str[-1].astype(int) - 1
    curves["svcca"] = 1 - (1 - share) * (0.3 + 0.1 * place)
    curves["pwcca"] = curves["svcca"] + 0.01 * (1 - share)
    curves["cca"] = curves["svcca"].where(place < 2, 1 - (1 - share) * 0.35)
    shuffled = 0.09 + 0.001 * place
    curves = curves.assign(svcca_shuffled=shuffled, pwcca_shuffled=shuffled, floor=0.09)
    return {"curves": curves, "evaluation": product(seed=SEEDS, step=[50, 110]).assign(loss=1.0, accuracy=0.8)}


@pytest.fixture(scope="module")
def tables() -> Tables:
    trained = {"dynamics": dynamics_tables(), "convnet_pairs": pair_tables(), "toy_networks": toy_tables(), "groups": group_tables()}
    return theory_tables() | freeze_tables() | trained | {"widths": width_tables(), "lstm_dynamics": lstm_tables()}


def means(module, tables: Tables) -> dict[str, float]:
    estimates = module.quantities(tables)
    assert all(len(values) and np.isfinite(values).all() for values in estimates.values())
    return {name: float(values.mean()) for name, values in estimates.items()}


def test_theory(tables: Tables) -> None:
    fourier = means(svcca_fourier, tables)
    assert (fourier["off_block_over_on_block"], fourier["off_block_over_on_block_zero_padding"]) == (1e-16, 0.6)
    assert (fourier["fourier_gain"], fourier["random_basis_gain"]) == pytest.approx((8, 1.25))
    maps = means(svcca_invariance, tables)
    assert maps["largest_deviation_from_1"] < 1e-8 < maps["largest_deviation_from_1_squared"]
    assert maps["noise_useful_difference_cca"] == 0
    assert maps["noise_useful_difference_svcca"] == pytest.approx(0.15)
    assert (maps["independent_mean"], maps["independent_mean_half_examples"], maps["independent_mean_100_50"]) == (0.19, 0.27, 0.207)
    noise = means(pwcca_noise, tables)
    assert noise["pwcca_minus_mean_half_shared"] == pytest.approx(0.4)
    assert noise["pwcca_minus_mean_half_shared_strong_noise"] == pytest.approx(0.05)
    assert (noise["smallest_gap_in_order"], noise["smallest_gap_in_order_variance"]) == pytest.approx((0.1, -0.1))


def test_toy_networks(tables: Tables) -> None:
    estimates = means(svcca_toy_regression, tables) | means(svcca_aligned_directions, tables)
    assert estimates["relative_error_30_directions"] == pytest.approx(1e-4)
    assert estimates["relative_error_30_neurons"] == pytest.approx(0.8)
    assert (estimates["largest_error_ratio_of_successive_panes"], estimates["largest_error_ratio_neurons"]) == pytest.approx((0.1, 1))
    assert (estimates["fourth_svcca_coefficient"], estimates["smallest_correlation_of_top_neurons"]) == pytest.approx((0.99, 0.4))


def test_dynamics_fall_with_depth_and_their_controls_do_not(tables: Tables) -> None:
    estimates = means(svcca_dynamics, tables) | means(svcca_convergence_curves, tables)
    for run in ("convnet", "resnet"):
        for percent in (0, 35, 75):
            assert estimates[f"{run}_depth_correlation_{percent}"] == pytest.approx(-1)
        assert estimates[f"{run}_depth_correlation_35_shuffled"] == pytest.approx(1)
        assert estimates[f"{run}_curve_depth_correlation"] == pytest.approx(-1)
        assert estimates[f"{run}_curve_depth_correlation_shuffled"] == pytest.approx(1)
    assert estimates["out_minus_fc2_35"] == pytest.approx(0.12)
    assert estimates["out_minus_fc2_35_shuffled"] < 0
    assert (estimates["batch_norm_deviation_cca"], estimates["convolution_deviation_cca"]) == pytest.approx((0, 0.3))
    assert (estimates["batch_norm_smallest_svcca"], estimates["convolution_svcca"]) == (0.95, 0.72)
    assert (estimates["residual_minus_convolution"], estimates["branch_minus_convolution"]) == pytest.approx((0.3, 0))


def test_the_published_panels_have_the_order_the_paper_describes() -> None:
    """Numbers read off the same image independently: rank correlations with depth and means over residual pairs."""
    for network, percent, expected in (("convnet", 35, -0.95), ("convnet", 75, -0.96), ("resnet", 35, -0.93), ("resnet", 75, -0.94)):
        panel = svcca_dynamics.published(network, percent)
        assert panel.shape == ((16, 16) if network == "convnet" else (51, 51))
        diagonal = pd.DataFrame({"seed": 0, "row": panel.index, "similarity": np.diag(panel)})
        assert layer_maps.depth_correlation(diagonal)[0] == pytest.approx(expected, abs=0.015)
    final = svcca_dynamics.published("resnet", 100)
    first_stage = [f"b{i}_res" for i in range(1, 6)]
    pairs = [final.loc[a, b] for a in first_stage for b in first_stage if a != b]
    assert np.mean(pairs) == pytest.approx(0.60, abs=0.01)


def test_layers_of_two_networks_and_single_classes(tables: Tables) -> None:
    estimates = means(svcca_two_seeds, tables) | means(svcca_cross_architecture, tables) | means(svcca_class_sensitivity, tables)
    assert (estimates["ends_minus_middle"], estimates["ends_minus_middle_shuffled"]) == pytest.approx((0.25, 0))
    assert (estimates["lower_minus_upper"], estimates["lower_minus_upper_shuffled"]) == pytest.approx((0.5, 0))
    assert estimates["between_minus_within_pairs"] == pytest.approx(0.3 - 0.05)
    assert estimates["between_minus_within_other_pairs"] < 0


def test_projections(tables: Tables) -> None:
    accuracy, double = means(svcca_projection_accuracy, tables), means(svcca_distributed, tables)
    assert (accuracy["accuracy_change_25_directions"], accuracy["accuracy_change_25_neurons"]) == pytest.approx((0, -0.3))
    assert (accuracy["dimensions_ratio_largest_neurons"], accuracy["dimensions_ratio_random_over_largest"]) == (4, 1)
    assert (double["accuracy_lost_on_100_neurons"], double["accuracy_lost_on_all_neurons"]) == pytest.approx((0.05, 0))
    compression = means(svcca_compression, tables)
    assert (compression["accuracy_change_35_two_networks"], compression["logits_minus_two_networks_05"]) == pytest.approx((-0.01, 0.01))
    assert compression["accuracy_change_35_random_neurons"] < -0.03
    assert compression["random_minus_two_networks_05"] < 0


def test_a_projection_that_never_suffices_needs_the_whole_layer() -> None:
    index = pd.MultiIndex.from_product([[0], [10, 20]], names=["seed", "k"])
    series = pd.Series([0.1, 0.2], index)
    assert svcca_projection_accuracy.dimensions_needed(series, pd.Series({0: 0.5}), pd.Series({0: 512}))[0] == 512


def test_freezing_and_memorising(tables: Tables) -> None:
    estimates = means(svcca_freeze_training, tables) | means(pwcca_memorisation, tables)
    assert (estimates["convnet_freeze_minus_base"], estimates["convnet_frozen_at_start_minus_base"]) == pytest.approx((0.01, -0.1))
    assert estimates["convnet_backward_saved_percent"] == pytest.approx(25)
    assert estimates["convnet_compute_saved_percent"] == pytest.approx(100 / 6)
    assert estimates["memorising_minus_generalising"] == pytest.approx(0.2)
    assert estimates["mixed_groups_beyond_true_ones"] < 0
    assert estimates["softmax_mixed_groups_beyond_true_ones_test"] < 0


def test_distances_fall_with_width_and_not_where_examples_are_shuffled(tables: Tables) -> None:
    estimates = means(pwcca_width, tables)
    falls = [estimates[f"distance_fall_{state}"] for state in ("trained", "untrained", "shuffled", "trained_on_training_images")]
    assert falls == pytest.approx([0.3, 0.06, -0.001, 0.3])
    assert (estimates["trained_minus_untrained_fall"], estimates["shuffled_minus_untrained_fall"]) == pytest.approx((0.24, -0.061))
    assert estimates["accuracy_correlation"] == pytest.approx(-1)
    assert estimates["accuracy_correlation_shuffled"] > -0.7
    assert (estimates["smallest_train_accuracy"], estimates["largest_train_loss"]) == (1, 0.01)


def test_lstm_layers_lead_in_order_and_not_where_examples_are_shuffled(tables: Tables) -> None:
    estimates = means(svcca_lstm, tables)
    assert (estimates["layer_1_leads_svcca"], estimates["layer_1_leads_svcca_shuffled"]) == (0.9, 0), "not in the last step, for the margin"
    assert (estimates["layer_1_leads_pwcca"], estimates["layer_1_leads_pwcca_shuffled"]) == (0.9, 0)
    assert (estimates["in_order_svcca"], estimates["in_order_pwcca_minus_cca"], estimates["in_order_pwcca_shuffled_minus_cca"]) == (1, 1, 0)
    assert estimates["relative_progress_layer_1_minus_2"] == pytest.approx(0, abs=1e-9), "each layer's way is a straight line"
    assert estimates["test_accuracy"] == 0.8


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_drawings_have_labelled_axes_and_survive_missing_tables(module, tables: Tables) -> None:
    for given in (tables, {}):
        figure = module.draw(given)
        assert all(axes.get_ylabel() for axes in figure.axes if given and axes.axison), "every axis has a label"
        plt.close(figure)
    assert module.quantities({}) == {}
