"""LCA's figures beyond the first: quantities from tables whose answers are known, controls that fall, drawings with labels."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_figures import lca_tables

from figures import (
    lca_freeze_last,
    lca_helping_per_parameter,
    lca_helping_table,
    lca_last_layer_momentum,
    lca_oscillation,
    lca_resnet_layers,
    lca_sampling,
)
from figures.style import Tables
from replication.lca.distributions import binomial_shares
from replication.lca.ledger import SHARE_BINS

LAYERS = ("conv", "bn", "stage1.block1.conv1", "stage1.block1.bn1", "fc")


def shares_table(shares: np.ndarray, trials: int, seed: int = 0) -> pd.DataFrame:
    """As the ledger makes it: parameters by their share of helping iterations, beside independent coins of the mean share."""
    coins = binomial_shares(np.full(len(shares), trials), shares.mean() / 100, SHARE_BINS)
    counts = np.histogram(shares, SHARE_BINS)[0]
    return pd.DataFrame({"seed": seed, "low": SHARE_BINS[:-1], "high": SHARE_BINS[1:], "parameters": counts, "coins": coins})


def per_parameter(shares: np.ndarray, trials: int) -> dict[str, float]:
    estimates = lca_helping_per_parameter.quantities({"mnist_fc_lca": lca_tables(seeds=1) | {"parameters": shares_table(shares, trials)}})
    return {name: values.iloc[0] for name, values in estimates.items()}


def test_independent_coins_are_as_far_spread_as_coins() -> None:
    heads = stats.binom.rvs(400, 0.51, size=50_000, random_state=np.random.default_rng(0))
    estimates = per_parameter(100 * heads / 400, 400)
    assert estimates["spread_over_coins"] == pytest.approx(1, abs=0.02)
    assert estimates["most_helping_share"] == pytest.approx(100 * stats.binom.ppf(0.999, 400, 0.51) / 400, abs=0.6)
    assert estimates["farthest_from_half"] == pytest.approx(estimates["farthest_from_half_coins"], abs=0.6)


def test_heroes_and_villains_are_seen_and_so_is_the_control() -> None:
    roles = np.concatenate([np.full(1000, 90.0), np.full(1000, 10.0)])
    estimates = per_parameter(roles, 400)
    assert estimates["spread_over_coins"] > 10
    assert estimates["farthest_from_half"] == pytest.approx(40.5, abs=0.6)
    assert estimates["farthest_from_half_constant_roles"] == pytest.approx(50), "always the same parameters help"


def table_of(helping: int, hurting: int, steps: int, shuffled: int = 50) -> dict[str, pd.DataFrame]:
    rows = [(seed, step, helping, hurting, shuffled, 100 - shuffled) for seed in (0, 1) for step in range(steps)]
    return {"layers": pd.DataFrame(rows, columns=["seed", "step", "helping", "hurting", "helping_shuffled", "hurting_shuffled"])}


def test_the_table_compares_optimisers_over_the_iterations_that_all_have() -> None:
    tables = {"mnist_fc_lca": table_of(60, 40, 10), "mnist_fc_no_momentum_lca": table_of(54, 46, 5), "resnet20_lca": table_of(51, 49, 7)}
    tables["other_shares"] = {"shares": table_of(55, 45, 8)["layers"].assign(run="lenet_adam")}
    tables["mnist_fc_shares"] = {"shares": table_of(55, 45, 8)["layers"].assign(run="mnist_fc_adam")}
    late = tables["mnist_fc_lca"]["layers"]
    late.loc[late["step"] >= 5, "helping"] = 0
    estimates = lca_helping_table.quantities(tables)
    assert estimates["mnist_fc_helping_percent"].tolist() == pytest.approx([60, 60]), "the first five iterations only"
    assert estimates["momentum_gain_mnist_fc"].tolist() == pytest.approx([6, 6])
    assert estimates["momentum_gain_mnist_fc_shuffled"].tolist() == pytest.approx([0, 0])
    assert estimates["resnet20_highest_helping_percent"].tolist() == pytest.approx([51, 51])
    assert estimates["sgd_over_adam_mnist_fc"].tolist() == pytest.approx([5, 5])
    assert "sgd_over_adam_lenet" not in estimates
    figure = lca_helping_table.draw(tables)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("not measured here") == len(lca_helping_table.ROWS) - 5
    assert "57.79 ± 0.16" in texts, "the recalled value is shown beside"
    assert any("not checked" in text for text in texts)
    plt.close(figure)


def oscillation_table(turns: float) -> pd.DataFrame:
    rows = [(seed, 10, 100, turns, turns / 2) for seed in (0, 1)]
    return pd.DataFrame(rows, columns=["seed", "parameters", "steps", "weight_turns", "gradient_turns"])


def trace_table() -> pd.DataFrame:
    steps = np.arange(60)
    parts = [
        pd.DataFrame(
            {
                "seed": seed,
                "step": steps,
                "role": role,
                "layer": "fc",
                "weight": np.sin(steps),
                "gradient": sign * np.cos(steps),
                "lca": sign * 1e-4,
            }
        )
        for seed in (0, 1)
        for role, sign in (("most helping", -1), ("most hurting", 1))
    ]
    return pd.concat(parts, ignore_index=True)


def test_periods_are_iterations_over_turns_and_momentum_is_compared() -> None:
    tables: Tables = {
        "resnet20_lca": {"oscillation": oscillation_table(200), "traces": trace_table()},
        "mnist_fc_lca": {"oscillation": oscillation_table(100)},
        "mnist_fc_no_momentum_lca": {"oscillation": oscillation_table(500)},
    }
    estimates = {name: values.iloc[0] for name, values in lca_oscillation.quantities(tables).items()}
    assert estimates["resnet20_weight_turn_period"] == pytest.approx(5)
    assert estimates["resnet20_gradient_turn_period"] == pytest.approx(10)
    assert estimates["weight_turn_period_ratio"] == pytest.approx(5)
    assert estimates["weight_turn_period_ratio_random_walk"] == pytest.approx(1, abs=0.1)
    assert estimates["resnet20_most_hurting_net"] == pytest.approx(6e-3)
    assert abs(estimates["resnet20_most_hurting_net_shuffled"]) < 20
    figure = lca_oscillation.draw(tables)
    assert [axes.get_ylabel() for axes in figure.axes[::4]] == ["weight", "gradient", "LCA (loss units)"]
    plt.close(figure)


def totals_table(runs: dict[str, dict[str, float]], seeds: int = 3) -> dict[str, pd.DataFrame]:
    """Totals of layers; unnamed layers gain 1; seed s adds s per thousand."""
    rows = [
        {
            **{
                "seed": seed,
                "run": run,
                "kind": "layer",
                "name": layer,
                "parameters": 10,
                "standard_error": 0.01,
                "standard_error_late": 0.01,
            },
            **{"lca": value * (1 + seed / 1000), "lca_late": value / 2, "lca_shuffled": 0.0},
        }
        for seed in range(seeds)
        for run, changed in runs.items()
        for layer, value in (dict.fromkeys(LAYERS, -1.0) | changed).items()
    ]
    return {"totals": pd.DataFrame(rows)}


def test_first_and_last_layers_are_read_off_and_batch_norm_counts_among_the_others() -> None:
    estimates = lca_resnet_layers.quantities({"resnet20_layers": totals_table({"resnet20": {"fc": 0.5, "conv": 0.2}})})
    assert estimates["last_layer_total"].iloc[0] == pytest.approx(0.5)
    assert estimates["last_layer_total_late"].iloc[0] == pytest.approx(0.25)
    assert estimates["first_layer_total"].iloc[0] == pytest.approx(0.2)
    assert estimates["last_layer_total_shuffled"].iloc[0] == 0
    assert estimates["last_layer_total_standard_error"].iloc[0] == pytest.approx(0.01)
    assert estimates["layers_with_positive_total"].iloc[0] == 2
    assert estimates["others_total"].iloc[0] == pytest.approx(-3)
    assert lca_resnet_layers.quantities({}) == {}


def test_freezing_is_compared_seed_by_seed() -> None:
    frozen = {"resnet20_frozen_last": {"fc": 0.0, "conv": -1.5}, "resnet20_frozen_first": {"fc": 0.5, "conv": 0.0}}
    tables = {"resnet20_layers": totals_table({"resnet20": {"fc": 0.5}}), "resnet20_frozen_layers": totals_table(frozen)}
    estimates = lca_freeze_last.quantities(tables)
    assert estimates["frozen_last_layer_total"].tolist() == [0, 0, 0]
    assert estimates["frozen_last_loss_difference"].iloc[0] == pytest.approx(-1)
    assert estimates["frozen_last_others_difference"].iloc[0] == pytest.approx(-0.5)
    assert estimates["frozen_first_loss_difference"].iloc[0] == pytest.approx(1), "the control: this one loses"
    assert estimates["unfrozen_last_layer_movement"].iloc[0] == pytest.approx(0.5), "the control of exactly nothing"


def test_the_delay_is_correlated_in_both_arms() -> None:
    delays = {f"resnet20_delay{d}": {"fc": -1.0 + 0.1 * d, "conv": -1.0 - 0.1 * d} for d in (0, 3, 6)}
    rescaled = {f"resnet20_rescaled{d}": {"fc": -1.0 - 0.1 * d} for d in (0, 3)}
    tables = {
        "resnet20_layers": totals_table({"resnet20": {"fc": 0.0, "conv": -2.0}}),
        "resnet20_momentum_layers": totals_table(delays | rescaled),
    }
    estimates = lca_last_layer_momentum.quantities(tables)
    assert estimates["last_layer_delay_correlation_fixed"].tolist() == pytest.approx([1, 1, 1])
    assert estimates["others_delay_correlation_fixed"].tolist() == pytest.approx([-1, -1, -1])
    assert (estimates["last_layer_delay_correlation_fixed_shuffled"] < 0.6).all(), "the control falls"
    assert (estimates["others_delay_correlation_fixed_shuffled"] > -0.6).all()
    assert estimates["last_layer_delay_correlation_rescaled"].iloc[0] == pytest.approx(0.5)
    assert estimates["last_layer_total_no_delay_fixed"].iloc[0] == pytest.approx(-1)


def test_errors_of_sampled_totals_and_coverage() -> None:
    exact = lca_tables()["layers"]
    per_step = exact.groupby(["seed", "step", "layer"], sort=False)["lca"].sum().reset_index()
    random = np.random.default_rng(0)
    noisy = per_step.assign(lca=per_step["lca"] + random.normal(size=len(per_step)) * 0.1, standard_error=0.1, groups=1001)
    exact_totals = per_step.groupby(["seed", "layer"], sort=False)["lca"].sum().reset_index().rename(columns={"layer": "name"})
    common = {"kind": "layer", "standard_error": 0.1, "groups": 11, "share": 0.1}
    tables: Tables = {"mnist_fc_lca": {"layers": exact}, "mnist_fc_lca_fresh": {"layers": noisy}}
    for name, factor in (("fresh", 1.05), ("fixed", 1.01), ("minibatch", 2.0)):
        tables.setdefault(f"mnist_fc_lca_{name}", {})["totals"] = exact_totals.assign(lca=factor * exact_totals["lca"], **common)
    estimates = lca_sampling.quantities(tables)
    assert estimates["worst_layer_total_error_percent"].tolist() == pytest.approx([5, 5])
    assert estimates["worst_layer_total_error_percent_fixed"].tolist() == pytest.approx([1, 1])
    assert estimates["worst_layer_total_error_percent_minibatch"].tolist() == pytest.approx([100, 100]), "the control falls"
    assert estimates["gradients_percent_fixed"].tolist() == pytest.approx([10, 10])
    assert estimates["gradients_percent"].tolist() == pytest.approx([15, 15])
    assert estimates["coverage_percent"].mean() == pytest.approx(90, abs=10)
    figure = lca_sampling.draw(tables)
    assert all(axes.get_ylabel() for axes in figure.axes)
    plt.close(figure)


@pytest.mark.parametrize("module", [lca_resnet_layers, lca_freeze_last, lca_last_layer_momentum], ids=lambda module: module.__name__)
def test_drawings_of_layers_are_labelled_and_say_what_is_not_recorded(module) -> None:
    frozen = {"resnet20_frozen_last": {"fc": 0.0}, "resnet20_frozen_first": {"conv": 0.0}}
    delays = {f"resnet20_{arm}{d}": {} for arm in ("delay", "rescaled") for d in (0, 3)}
    tables = {
        "resnet20_layers": totals_table({"resnet20": {"fc": 0.5}}),
        "resnet20_frozen_layers": totals_table(frozen),
        "resnet20_momentum_layers": totals_table(delays),
    }
    figure = module.draw(tables)
    assert all(axes.get_ylabel() for axes in figure.axes)
    plt.close(figure)
    empty = module.draw({})
    assert any("not recorded yet" in text.get_text() for axes in empty.axes for text in axes.texts)
    assert module.quantities({}) == {}
    plt.close(empty)
