"""Figures of version 1 of the stiffness paper on made-up tables: every claim has its numbers, and the numbers are the right ones."""

import importlib
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import stiffness_v1_domains, stiffness_v1_rates, stiffness_v1_tables, stiffness_v1_training
from figures.stiffness_v1_tables import RATES
from figures.style import Tables
from replication.pipeline import dag
from replication.schema.stiffness import StiffnessV1Config

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/stiffness_v1.json").read_text(encoding="utf-8"))
FIGURES = [name for _, name, _ in dag.figures() if name.startswith("stiffness_v1_")]
CELLS = ("within", "between", "between_sd")
SEEDS = (0, 1, 2)


def tables_of(config: StiffnessV1Config) -> dict[str, pd.DataFrame]:
    """Tables of a measurement with values drawn by chance."""
    random, runs = np.random.default_rng(0), dag.paper_of("full", "stiffness").runs
    rows: dict[str, list[dict[str, object]]] = {}
    moments = [(step, math.nan) for step in config.steps] + [(1000 + number, loss) for number, loss in enumerate(config.losses)]
    for seed, run, (step, target) in itertools.product(SEEDS, config.runs, moments):
        about = {"seed": seed, "run": run, "learning_rate": runs[run].optimizer.lr, "step": step, "target": target}

        def add(table: str, about: dict[str, object] = about, **values: object) -> None:
            rows.setdefault(table, []).append(about | values)

        losses = {"train_loss": random.random(), "validation_loss": random.random()}
        add("losses", epoch=step / 1813, images=32 * step, **losses)
        names = [
            *(f"{cell}{tail}" for cell in CELLS for tail in ("", "_permuted", "_flipped")),
            "zero_gradients",
            "zero_within",
            "zero_between",
        ]
        for precision in stiffness_v1_tables.PRECISIONS:
            add("summary", precision=precision, kind="sign", **{name: random.random() for name in names})
        add("summary", precision="exact", kind="cosine", **{name: random.random() for name in CELLS})
        shares = {f"{precision}{tail}": random.random() for precision in stiffness_v1_tables.PRECISIONS for tail in ("", "_of_zeros")}
        for pairs in ("within", "between"):
            add("agreement", pairs=pairs, zero_share=random.random(), **shares)
        for a, b in itertools.product(range(10), range(10)) if step in config.matrices else ():
            add("classes", class_1=a, class_2=b, **{precision: random.uniform(-1, 1) for precision in stiffness_v1_tables.PRECISIONS})
        for space in ("input", *config.representations) if config.representations else ():
            add("domains", representation=space, size=random.random())
        for grouping in ("true", "random") if config.super_classes and step == config.matrices[-1] else ():
            add("contrasts", grouping=grouping, difference=random.random(), p_value=random.random())
    return {name: pd.DataFrame(table) for name, table in rows.items()}


def tables(figure: str) -> Tables:
    config = dag.paper_of("full", "stiffness")
    return {name: tables_of(config.measurements[name]) for name in config.figures[figure].measurements}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIGURES)
def test_every_claim_has_a_finite_estimate_of_its_quantity_and_control_for_each_seed(name: str) -> None:
    quantities = importlib.import_module(f"figures.{name}").quantities(tables(name))
    for claim in dag.figure_of("full", "stiffness", name).claims:
        for quantity in (claim.quantity, claim.control.quantity):
            assert sorted(quantities[quantity].index) == list(SEEDS), quantity
            assert np.isfinite(quantities[quantity]).all(), quantity


@pytest.mark.parametrize("name", FIGURES)
def test_without_tables_there_are_no_quantities(name: str) -> None:
    assert importlib.import_module(f"figures.{name}").quantities({}) == {}


def test_published_numbers_are_those_read_off_the_paper() -> None:
    published = stiffness_v1_tables.published()
    names = {"figure_3": "v1_fig3_fc_mnist", "figure_4": "v1_fig4_fc_mnist_permuted_labels", "figure_5": "v1_fig5_fc_fashion"}
    for ours, golden in (names | {"figure_6": "v1_fig6_cnn_cifar10"}).items():
        assert published[ours] == {images: panel["rows_class2_cols_class1"] for images, panel in GOLDEN[golden].items()}
    assert published["figure_7"]["3200"] == GOLDEN["v1_fig7_cnn_cifar100"]["3200"]["matrix"]
    for curve, values in GOLDEN["v1_fig2_fc_mnist"]["series"].items():
        assert published["figure_2"][curve] == values
    for data in ("mnist", "fashion"):
        assert list(published["figure_8"][data].values()) == list(GOLDEN["v1_fig8_between_class_vs_lr"][f"fc_{data}"].values())
        sizes = GOLDEN[f"v1_fig10_fc_{data}_trainloss_0.1"]
        assert list(published["figure_10"][data].values()) == list(sizes.values())


def test_a_band_is_the_mean_over_its_checkpoints() -> None:
    drawn = tables("stiffness_v1_training")
    summary = drawn["v1_mnist_pairs"]["summary"]
    chosen = summary.query("precision == 'float32' and kind == 'sign' and 11 * 1813 <= step <= 20 * 1813")
    assert set(chosen["step"] / 1813) == {11, 12, 13, 15, 17, 19}
    expected = chosen.groupby("seed")["within"].mean()
    estimates = stiffness_v1_training.quantities(drawn)["within_float32_epochs_11_20"]
    np.testing.assert_allclose(estimates, expected)


def test_rates_and_sizes_as_published_deviate_by_nothing() -> None:
    """Tables that hold the published values give a deviation of 0 and a factor of 1, and the reversed ones do not."""
    drawn = tables("stiffness_v1_rates")
    for measurement in RATES:
        summary, domains = (drawn[measurement][name] for name in ("summary", "domains"))
        for number, row in summary.iterrows():
            data = row["run"].split("_")[1]
            if row["target"] in stiffness_v1_rates.LOSSES:
                published = stiffness_v1_rates.published_at(data, row["target"])
                summary.loc[number, "between"] = published.get(row["learning_rate"], 0.0)  # type: ignore[call-overload]
        for number, row in domains.iterrows():
            sizes = stiffness_v1_domains.published_sizes(row["run"].split("_")[1])
            if row["learning_rate"] in sizes.columns:
                space = row["representation"].replace("relu", "layer ")
                domains.loc[number, "size"] = sizes.loc[space, row["learning_rate"]]  # type: ignore[call-overload]
    rates, sizes_found = stiffness_v1_rates.quantities(drawn), stiffness_v1_domains.quantities(drawn)
    for data in ("mnist", "fashion"):
        np.testing.assert_allclose(rates[f"deviation_{data}_at_0_056"], 0, atol=1e-12)
        assert (rates[f"deviation_{data}_at_0_056_reversed"] > 0.05).all()
        np.testing.assert_allclose(sizes_found[f"{data}_factor"], 1)
        assert (sizes_found[f"{data}_factor_reversed"] > 1.6).all()
        assert (sizes_found[f"{data}_hidden_rise"] > 0.6).all()
