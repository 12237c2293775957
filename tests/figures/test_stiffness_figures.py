"""Stiffness' figures: quantities from tables whose answers are known, controls that fall, drawings that show what they should."""

import itertools
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from figures import (
    stiffness_classes_cifar10,
    stiffness_classes_mnist,
    stiffness_distance,
    stiffness_learning_rate,
    stiffness_overfitting,
    stiffness_published,
    stiffness_random_labels,
    stiffness_superclasses,
    stiffness_tables,
    style,
)
from figures.stiffness_tables import CIFAR10, CIFAR100, CIFAR100_CNN, CNN, FC, FC_RANDOM, MNIST, RATES
from figures.style import Tables
from replication import claims
from replication.pipeline import configs
from replication.schema.stiffness import ALL_BUT_LAST

FIGURES = [
    stiffness_classes_mnist,
    stiffness_classes_cifar10,
    stiffness_overfitting,
    stiffness_random_labels,
    stiffness_superclasses,
    stiffness_distance,
    stiffness_learning_rate,
]
SEEDS = (0, 1, 2)
STEPS = (0, 50, 100, 200, 400, 800)  # the lowest validation loss is at 100
MODES = ("train_train", "train_validation", "validation_validation")
RATE_RUNS = {"fashion_lr_1em4": 1e-4, "fashion_lr_3em4": 3e-4, "fashion_lr_1em3": 1e-3, "fashion_lr_3em3": 3e-3}
Rows = list[dict[str, object]]


def rows_of(*, runs: dict[str, float], cells: Callable[..., Rows], steps: tuple[int, ...] = STEPS) -> pd.DataFrame:
    rows = []
    for seed, (run, rate), step in itertools.product(SEEDS, runs.items(), steps):
        rows += [{"seed": seed, "run": run, "step": step} | row for row in cells(run=run, rate=rate, step=step)]
    return pd.DataFrame(rows)


def within_cosine(run: str, step: int, mode: str = "train_train") -> float:
    start = {0: 0.6, 50: 0.9}.get(step, 0.8 - step / 4000)
    factor = 0.4 if run == FC_RANDOM and step else 1.0
    return factor * start - (0.06 if run == FC_RANDOM else 0.01) * MODES.index(mode)


def between_sign(run: str, step: int) -> float:
    start = {0: -0.7, 50: -0.4}.get(step, 0.0)
    return start - (0.3 if run == FC_RANDOM and step else 0)


def summary_cells(run: str, rate: float, step: int) -> Rows:
    rows: Rows = []
    for layer, mode, kind in itertools.product(("fc1", "fc2", "total", ALL_BUT_LAST), MODES, ("sign", "cosine")):
        cosine = kind == "cosine"
        within = within_cosine(run, step, mode) if cosine else 1.0 - (0.5 if step > 100 else 0)
        between = -0.05 if cosine else between_sign(run, step)
        noise = 0.005 * (-1) ** STEPS.index(step)
        values = {"layer": layer, "mode": mode, "kind": kind, "within": within, "between": between}
        rows.append(values | {"within_flipped": noise, "between_flipped": noise, "within_permuted": 0.0, "between_permuted": 0.01})
    return rows


def class_cells(run: str, rate: float, step: int, classes: int = 10) -> Rows:
    rows: Rows = []
    for kind, layer, a, b in itertools.product(("sign", "cosine"), ("total", ALL_BUT_LAST), range(classes), range(classes)):
        vehicles = {a, b} <= {0, 1, 8, 9}
        value = 1.0 if a == b else 0.5 if vehicles and step else -0.5
        row = {"class_1": a, "class_2": b, "stiffness": value, "stiffness_flipped": 0.01 * (-1) ** (a * b), "layer": layer}
        rows.append(row | {"mode": "train_train", "kind": kind})
    return rows


def loss_cells(run: str, rate: float, step: int) -> Rows:
    slow = 10.0 if run == FC_RANDOM else 1.0
    train = min(2.3, slow * 20 / (1 + step))
    row = {"learning_rate": rate, "epoch": step / 50, "train_loss": train, "train_accuracy": 0.5}
    return [row | {"validation_loss": 1 + abs(np.log((1 + step) / 101)), "validation_accuracy": 0.5}]


def checkpoint_cells(targets: tuple[float, ...]) -> Callable[..., Rows]:
    def cells(run: str, rate: float, step: int) -> Rows:
        (row,) = loss_cells(run, rate, step)
        reached = {200: targets[0], 400: targets[1]} if run != FC_RANDOM else {400: targets[0], 800: targets[1]}
        return [row | {"target": float("nan")}] + ([row | {"target": reached[step]}] if step in reached else [])

    return cells


def length_cells(run: str, rate: float, step: int) -> Rows:
    length = 3.0 - step / 1000 - np.log10(rate / 1e-4) / 4
    known = {"slope": -1 / length, "intercept": 1.0, "slope_permuted": 0.01, "smallest_distance": 0.1, "largest_distance": 1.0}
    return [{"kind": kind, "length": length, "low": length - 0.1, "high": length + 0.1} | known for kind in ("sign", "cosine")]


def domain_cells(run: str, rate: float, step: int) -> Rows:
    rows: Rows = [
        {"representation": name, "crossing": 0.7, "size": 0.3, "lowest": 0.0, "lowest_permuted": 0.0} for name in ("pixels", "input")
    ]
    for depth, layer in enumerate(stiffness_distance.LAYERS):
        size = (0.3 - 0.04 * depth) * (rate / 1e-3) ** 0.25
        row = {"representation": layer, "crossing": 1 - size, "size": size}
        rows.append(row | {"lowest": -0.1 * depth, "lowest_permuted": 0.05})
    return rows


def curve_cells(run: str, rate: float, step: int) -> Rows:
    similarities = np.linspace(0.05, 0.95, 20)
    shuffled = np.random.default_rng(step).permutation(20) / 100
    return [
        {"representation": name, "similarity": x, "stiffness": x**2, "stiffness_permuted": y, "pairs": 100}
        for name in ("pixels", "input", *stiffness_distance.LAYERS)
        for x, y in zip(similarities, shuffled, strict=True)
    ]


def starts() -> pd.DataFrame:
    known = {"within": 0.99, "between": -0.11, "within_permuted": 0.0, "between_permuted": 0.0}
    cases = itertools.product(SEEDS, ("glorot", "torch"), ("standardised", "unit sphere"), ("sign", "cosine"))
    return pd.DataFrame([{"seed": s, "run": FC, "initialisation": i, "scaling": c, "kind": k} | known for s, i, c, k in cases])


def cifar100_tables(classes: int = 20) -> dict[str, pd.DataFrame]:
    runs, steps = {CIFAR100_CNN: 1e-3}, (0, 50)

    def contrast_cells(run: str, rate: float, step: int) -> Rows:
        known = {"mode": "train_train", "permutations": 99}
        return [
            {"level": level, "grouping": grouping, "kind": kind, "difference": d, "p_value": p} | known
            for level in ("super_class", "kingdom")
            for kind in ("sign", "cosine")
            for grouping, d, p in (("true", 0.2, 0.001), ("random", 0.0, 0.6))
        ]

    def level_cells(run: str, rate: float, step: int) -> Rows:
        names = ("same class", "same super-class", "same kingdom", "rest")
        return [
            {"mode": "train_train", "kind": k, "level": n, "stiffness": 0.5 / (1 + i)}
            for k in ("sign", "cosine")
            for i, n in enumerate(names)
        ]

    groups = pd.DataFrame({"class": range(classes), "super_class": np.arange(classes) // 2, "kingdom": np.arange(classes) // 10})
    return {
        "classes": rows_of(runs=runs, steps=steps, cells=lambda **k: class_cells(**k, classes=classes)),
        "checkpoints": rows_of(runs=runs, steps=steps, cells=checkpoint_cells((0.5, 0.1))),
        "losses": rows_of(runs=runs, steps=steps, cells=loss_cells),
        "contrasts": rows_of(runs=runs, steps=steps, cells=contrast_cells),
        "levels": rows_of(runs=runs, steps=steps, cells=level_cells),
        "groups": pd.concat([groups.assign(seed=seed) for seed in SEEDS]),
    }


def all_tables() -> Tables:
    def common(runs: dict[str, float], targets: tuple[float, float]) -> dict[str, pd.DataFrame]:
        made = {"summary": summary_cells, "classes": class_cells, "losses": loss_cells, "checkpoints": checkpoint_cells(targets)}
        made |= {"lengths": length_cells, "domains": domain_cells, "curves": curve_cells}
        return {name: rows_of(runs=runs, cells=cells) for name, cells in made.items()}

    fc = common({FC: 1e-3, FC_RANDOM: 1e-3}, (0.15, 0.1)) | {"starts": starts()}
    rates = common(RATE_RUNS, (0.5, 0.1))
    return {MNIST: fc, CIFAR10: common({CNN: 1e-3}, (0.5, 0.1)), CIFAR100: cifar100_tables(), RATES: rates}


@pytest.fixture(scope="module")
def tables() -> Tables:
    return all_tables()


def values(module: object, tables: Tables) -> dict[str, float]:
    """Quantities, of which every seed of the made-up tables has the same, except where an order is drawn by seed."""
    return {name: float(by_seed.mean()) for name, by_seed in module.quantities(tables).items()}  # type: ignore[attr-defined]


def test_mnist_classes(tables: Tables) -> None:
    estimates = values(stiffness_classes_mnist, tables)
    assert estimates["oracle_between_cosine"] == pytest.approx(-0.11)
    assert estimates["within_cosine_fall"] == pytest.approx(0.9 - 0.6)
    assert estimates["between_sign_fade"] == pytest.approx(0.7)
    assert abs(estimates["within_cosine_fall_flipped"]) < 0.02


def test_cifar10_classes(tables: Tables) -> None:
    estimates = values(stiffness_classes_cifar10, tables)
    assert estimates["smallest_diagonal_start"] == 1
    assert estimates["off_diagonal_rise_early"] == pytest.approx(0.3)
    assert estimates["vehicles_early"] == pytest.approx(0.5)
    assert estimates["off_diagonal_spread_early"] == pytest.approx(np.std([0.5] * 12 + [-0.5] * 78))
    assert estimates["diagonal_end"] == 0.5
    assert estimates["off_diagonal_end"] == 0


def test_overfitting_is_counted_from_the_lowest_validation_loss(tables: Tables) -> None:
    estimates = values(stiffness_overfitting, tables)
    assert estimates["fc_mnist_onset_step"] == 100
    at_onset, at_end = within_cosine(FC, 100), within_cosine(FC, 800)
    assert estimates["fc_mnist_within_change_after_onset"] == pytest.approx(at_end / at_onset - 1)
    assert estimates["fc_mnist_within_trend_after_onset"] == -1
    assert estimates["fc_mnist_between_sign_onset"] == 0
    assert estimates["fc_mnist_between_sign_start"] == pytest.approx(-0.7)
    assert estimates["mode_gap"] == pytest.approx(0.02)
    assert estimates["mode_gap_random_labels"] == pytest.approx(0.12)


def test_random_labels_are_compared_at_equal_loss(tables: Tables) -> None:
    estimates = values(stiffness_random_labels, tables)
    expected = within_cosine(FC_RANDOM, 400) / within_cosine(FC, 200)
    assert estimates["within_cosine_random_over_true"] == pytest.approx(expected)
    assert estimates["within_cosine_true_over_true"] == pytest.approx(within_cosine(FC, 800) / within_cosine(FC, 200))
    assert estimates["between_sign_difference"] == pytest.approx(-0.3), "the steps at which the random labels' loss is above 1"


def test_superclasses_take_the_last_step(tables: Tables) -> None:
    estimates = values(stiffness_superclasses, tables)
    assert estimates["super_class_p_value"] == pytest.approx(0.001)
    assert estimates["kingdom_contrast"] == pytest.approx(0.2)
    assert estimates["super_class_p_value_random_grouping"] == pytest.approx(0.6)


def test_distance(tables: Tables) -> None:
    estimates = values(stiffness_distance, tables)
    length = 3.0 - 0.4 - 0.25  # at step 400, where the loss is nearest to 0.1
    assert estimates["within_slope"] == pytest.approx(-1 / length)
    assert estimates["length_over_largest_distance"] == pytest.approx(length)
    assert estimates["input_rise"] == pytest.approx(1)
    assert abs(estimates["input_rise_permuted"]) < 0.9
    assert estimates["crossing_by_depth"] == pytest.approx(1)
    assert estimates["crossing_by_depth_shuffled"] < 0.8
    assert estimates["lowest_last_hidden"] == pytest.approx(-0.5)
    ours = 1 - (0.3 - 0.04 * np.arange(6))
    assert estimates["crossing_less_published"] == pytest.approx(np.mean(ours[1:5] - [0.635, 0.74, 0.79, 0.82]))
    first = 3.0 - 0.05 - 0.25
    assert estimates["length_change_over_training"] == pytest.approx((first - 0.75) / first - 1), "step 0 is left out"


def test_learning_rate(tables: Tables) -> None:
    estimates = values(stiffness_learning_rate, tables)
    assert estimates["hidden_domain_rise"] == pytest.approx(0.25 * np.log(3))
    assert estimates["input_domain_rise"] == 0
    assert estimates["input_less_hidden_rise"] == pytest.approx(-0.25 * np.log(3))
    assert estimates["length_at_equal_loss_by_rate"] == pytest.approx(-1)
    assert estimates["length_at_equal_epoch_by_rate"] == pytest.approx(-1)
    assert abs(estimates["length_at_equal_loss_by_rate_shuffled"]) < 0.9
    assert np.isnan(estimates["within_cosine_at_equal_loss_by_rate"]), "no trend where nothing varies"
    table = stiffness_learning_rate.by_rate(tables, None)
    assert (table["step"] == 800).all()
    assert table["learning_rate"].tolist() == [*RATE_RUNS.values()] * len(SEEDS)


@pytest.mark.parametrize("module", FIGURES, ids=lambda module: module.__name__)
def test_every_claim_has_its_quantity_and_its_control_falls(module, tables: Tables) -> None:
    """On made-up tables that show the claimed effects, no claim also holds under its control."""
    name = module.__name__.rpartition(".")[2]
    figure = configs.load("reduced", ROOT / "paper_configs")["stiffness"].figures[name]
    quantities = {key: {int(str(s)): float(v) for s, v in by_seed.items()} for key, by_seed in module.quantities(tables).items()}
    for claim in figure.claims:
        if claim.withdrawn:
            continue
        assert claim.quantity in quantities, claim.id
        assert claim.control.quantity in quantities, claim.id
        verdict = claims.judge(claim, quantities)
        assert not (verdict.outcome == "error" and "also holds" in verdict.reason), claim.id


@pytest.mark.parametrize("module", FIGURES, ids=lambda module: module.__name__)
def test_drawings_have_labelled_axes(module, tables: Tables) -> None:
    figure = module.draw(tables)
    for axes in figure.axes:
        grid = axes.get_subplotspec()
        inner = grid is not None and not (grid.is_first_col() and grid.is_last_row())
        assert axes.get_ylabel() or axes.get_xlabel() or inner or axes.get_title(), "every axis is labelled, inner ones by the outer"
        assert axes.lines or axes.collections or axes.patches, "no panel is empty"
    plt.close(figure)


def test_a_figure_is_saved_alike_twice(tables: Tables, tmp_path) -> None:
    written = []
    for name in ("a", "b"):
        style.save(stiffness_superclasses.draw(tables), tmp_path / name, "figure", "a stamp")
        written.append([(tmp_path / name / f"figure.{extension}").read_bytes() for extension in style.FORMATS])
    assert written[0] == written[1]
    assert not plt.get_fignums()


@pytest.mark.parametrize("module", FIGURES, ids=lambda module: module.__name__)
def test_what_was_not_measured_is_said(module) -> None:
    assert module.quantities({}) == {}
    figure = module.draw({})
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    plt.close(figure)
    assert any("not recorded yet" in text for text in texts)


def test_published_matrices_are_whole() -> None:
    for matrix in stiffness_published.CNN_CIFAR10.values():
        cells = np.array(matrix)
        assert cells.shape == (10, 10)
        assert (np.abs(cells) <= 1).all()
    assert np.array(stiffness_published.CNN_CIFAR10[0]).diagonal().mean() == pytest.approx(0.993, abs=0.002)
    off = stiffness_tables.off_diagonal(np.array(stiffness_published.CNN_CIFAR10[1600]))
    assert off.mean() == pytest.approx(-0.185, abs=0.002)
    assert off.std() == pytest.approx(0.536, abs=0.002)
    assert all(len(sizes) == len(stiffness_published.RATES) for sizes in stiffness_published.DOMAIN_SIZES.values())
