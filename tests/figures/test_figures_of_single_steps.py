"""Figures 1, 2 and 8 of LCA from made-up tables: quantities with known answers, controls that fall, drawings that are the same twice."""

import functools
import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from figures import lca_frames, lca_synchrony, lca_toy, style
from figures.style import Tables
from replication import claims
from replication.measurements import lca_toy as toy_measurement
from replication.measurements.lca_frames import COUNTS, WHITE
from replication.pipeline import configs
from replication.schema.lca import LcaToyConfig

STEPS = (0, 4, 99, 500)


@functools.cache
def toy_tables() -> Tables:
    config = LcaToyConfig(instrument="lca_toy", seeds=2, steps=8, oscillation_steps=90, delays=[0, 5])
    arrays = [toy_measurement.measure(config, [], seed=seed, part=0, progress=lambda *_: None) for seed in range(2)]
    parts = [toy_measurement.tables(config, [each]) for each in arrays]
    return {"lca_toy": {name: pd.concat([part[name].assign(seed=seed) for seed, part in enumerate(parts)]) for name in parts[0]}}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lca_synchrony, "DRAWS", 600)


def synchrony_tables(layers_share_steps: bool, seeds: int = 2) -> Tables:
    """Three layers, ten classes, 200 steps of noise; all layers the same, or independent."""
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        common = random.normal(size=(200, 10))
        for layer in ("fc1", "fc2", "fc3"):
            values = common if layers_share_steps else random.normal(size=(200, 10))
            index = pd.MultiIndex.from_product([range(200), range(10)], names=["step", "class"])
            rows.append(pd.DataFrame({"lca": values.ravel()}, index=index).reset_index().assign(seed=seed, layer=layer))
    return {"mnist_fc_lca": {"classes": pd.concat(rows, ignore_index=True)}}


def frames_tables(seeds: int = 2) -> Tables:
    """Layers of 2 x 9 and 2 x 2: of 22 weights ten help and five hurt in the first ten iterations, later nearly all are white."""
    early, late = dict(zip(COUNTS, (22, 10, 5, 7, 3, 0), strict=True)), dict(zip(COUNTS, (22, 1, 1, 20, 3, 0), strict=True))
    shares, pixels, frames = [], [], []
    for seed in range(seeds):
        for step in STEPS:
            one = early if step < 10 else late
            shuffled = {f"{key}_shuffled": value for key, value in (one | {"helping": 7, "hurting": 8}).items()}
            own = {f"{key}_own_scale": value for key, value in early.items()}
            for layer, size in (("fc1", 18), ("fc2", 4)):
                about = {"seed": seed, "step": step, "layer": layer, "colour_scale": 2.0}
                shares.append({**about, **one, **shuffled, **own})
                if seed == 0:
                    width = size // 2
                    pixels += [
                        {"seed": 0, "step": step, "layer": layer, "unit": u, "input": i, "lca": -2.0 * u + i}
                        for u in range(2)
                        for i in range(width)
                    ]
            frames.append({"seed": seed, "step": step, "loss_start": 2.0, "error": -1e-5 * (step + 1)})
    return {"mnist_fc_frames": {"shares": pd.DataFrame(shares), "pixels": pd.DataFrame(pixels), "frames": pd.DataFrame(frames)}}


def test_toy_quantities_and_their_controls() -> None:
    estimates = lca_toy.quantities(toy_tables())
    assert (estimates["toy_sum_error_percent"] < 1e-10).all()
    assert (estimates["idle_allocation_percent"] == 0).all()
    assert (estimates["idle_path_length"] > 0.5).all()
    assert (estimates["toy_sum_error_percent_shuffled"] > 1).all()
    assert (estimates["idle_allocation_percent_shuffled"] > 1).all()
    assert (estimates["lagging_total"] > 0).all()
    assert (estimates["leading_total"] < estimates["lagging_total_uncoupled"]).all(), "the other one makes up for it"
    assert (estimates["lagging_total_uncoupled"] < 0).all()
    assert (estimates["total_with_least_momentum"] < 0).all()


def test_layers_in_step_are_in_synchrony_and_independent_ones_are_not() -> None:
    together = lca_synchrony.quantities(synchrony_tables(True, seeds=3))
    assert together["synchrony_count"].tolist() == [200] * 3  # 20 peaks in each of ten classes
    for null in lca_synchrony.NULLS:
        assert (together[f"synchrony_ratio_{null}"] > 5).all()
    assert (together["synchrony_p_shifted"] < 0.005).all()
    assert (together["synchrony_count_other_seeds"] < 12).all()
    assert (together["non_finite"] == 0).all()
    assert "synchrony_count_other_seeds" not in lca_synchrony.quantities(synchrony_tables(True)), "two seeds are too few for three layers"
    apart = lca_synchrony.quantities(synchrony_tables(False))
    assert (apart["synchrony_count"] < 10).all()
    assert (apart["synchrony_p_shifted"] > 0.01).all()
    for estimates in (together, apart):
        for null in ("shifted", "near"):
            assert estimates[f"synchrony_ratio_{null}_control"].between(0.6, 1.6).all()
            assert (estimates[f"synchrony_p_{null}_control"] > 0.3).all()


def test_a_non_finite_allocation_is_counted_and_is_no_peak() -> None:
    tables = synchrony_tables(True, seeds=1)
    classes = tables["mnist_fc_lca"]["classes"]
    classes.loc[(classes["step"] == 50) & (classes["class"] == 3), "lca"] = np.nan
    estimates = lca_synchrony.quantities(tables)
    assert estimates["non_finite"].tolist() == [3]
    assert estimates["synchrony_count"].iloc[0] == 200


def test_shares_of_green_red_and_white() -> None:
    estimates = lca_frames.quantities(frames_tables())
    assert estimates["helping_of_coloured_percent_1_to_10"].tolist() == pytest.approx([200 / 3] * 2)
    assert estimates["helping_of_coloured_percent_1_to_10_shuffled"].tolist() == pytest.approx([140 / 3] * 2)
    assert estimates["white_percent_1_to_10"].iloc[0] == pytest.approx(100 * 7 / 22)
    assert estimates["white_percent_11_to_100"].iloc[0] == pytest.approx(100 * 20 / 22)
    assert estimates["white_gain_percent"].iloc[0] == pytest.approx(100 * 13 / 22)
    assert estimates["white_gain_percent_own_scale"].iloc[0] == 0
    assert estimates["exactly_zero_percent_101_on"].iloc[0] == pytest.approx(100 * 3 / 22)
    assert estimates["worst_frame_error"].tolist() == pytest.approx([501e-5] * 2)


def test_a_run_of_sixty_steps_has_no_late_frames() -> None:
    tables = frames_tables()
    shares = tables["mnist_fc_frames"]["shares"]
    tables["mnist_fc_frames"]["shares"] = shares[shares["step"] < 60]
    estimates = lca_frames.quantities(tables)
    assert estimates["white_gain_percent"].isna().all()
    assert estimates["white_percent_1_to_10"].notna().all()


def test_images_are_scaled_and_hidden_units_are_tiles() -> None:
    images = lca_frames.images_of(frames_tables())
    assert list(images["fc1"]) == list(STEPS)
    first = images["fc1"][0]
    assert first.shape == (3, 19)  # two of five places of 3 x 3 with a line between them
    np.testing.assert_array_equal(first[:, :3], np.arange(9).reshape(3, 3) / 2)
    np.testing.assert_array_equal(first[:, 4:7], np.arange(9).reshape(3, 3) / 2 - 1)
    assert np.isnan(first[:, 3]).all()
    np.testing.assert_array_equal(images["fc2"][0], [[0, 0.5], [-1, -0.5]])


def test_colours_are_green_for_help_red_for_harm_and_white_below_the_limit() -> None:
    figure, axes = plt.subplots()
    lca_frames._draw_image(axes, np.array([[-1, 1, WHITE / 2]]))
    image = axes.images[0]
    helps, hurts, white = image.cmap(image.norm(image.get_array()))[0, :, :3]
    plt.close(figure)
    assert helps.argmax() == 1
    assert hurts.argmax() == 0
    np.testing.assert_allclose(white, 1, atol=0.01)


def test_the_animation_has_every_frame_and_the_same_bytes_twice() -> None:
    tables = frames_tables()
    made = lca_frames.extras(tables)
    assert list(made) == [".gif"]
    animation = Image.open(io.BytesIO(made[".gif"]))
    assert animation.is_animated
    assert animation.n_frames == len(STEPS)
    assert made == lca_frames.extras(tables)
    assert lca_frames.extras({}) == {}
    assert not plt.get_fignums()


MODULES = {lca_toy: toy_tables, lca_frames: frames_tables, lca_synchrony: lambda: synchrony_tables(True, seeds=4)}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_drawings_are_saved_alike_twice(module, tmp_path) -> None:
    tables, written = MODULES[module](), []
    for name in ("a", "b"):
        style.save(module.draw(tables), tmp_path / name, "figure", "a stamp")
        written.append({extension: (tmp_path / name / f"figure.{extension}").read_bytes() for extension in style.FORMATS})
    assert [extension for extension in style.FORMATS if written[0][extension] != written[1][extension]] == []
    assert not plt.get_fignums()


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_what_is_not_recorded_is_said_and_has_no_quantities(module) -> None:
    for tables in ({}, {"mnist_fc_lca": {}}):
        assert module.quantities(tables) == {}
        figure = module.draw(tables)
        assert any("not recorded yet" in text.get_text() for axes in figure.axes for text in axes.texts)
        plt.close(figure)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_claims_hold_where_the_mechanism_is_there_and_fall_where_it_is_broken(module) -> None:
    """On made-up tables; that a control falls on measured ones is judged with every verdict."""
    estimates = module.quantities(MODULES[module]())
    quantities = {key: {int(seed): float(value) for seed, value in values.items()} for key, values in estimates.items()}
    for scale in ("reduced", "full"):
        for claim in configs.load(scale, ROOT / "paper_configs")["lca"].figures[module.__name__.removeprefix("figures.")].claims:
            verdict = claims.judge(claim, quantities)
            if claim.expect is None:
                assert verdict.outcome == "not_evaluated"
                assert quantities[claim.quantity].keys() == quantities[claim.control.quantity].keys()
            else:
                assert (verdict.outcome, verdict.control != "reproduced") == ("reproduced", True), f"{claim.id}: {verdict.reason}"
