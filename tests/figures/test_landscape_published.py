"""The landscape paper's published numbers: read as the file has them, consistent, and reproduced where theory gives them."""

import numpy as np
import pandas as pd
import pytest
from golden import golden
from test_landscape_figures import Net, surface_tables
from test_landscape_vgg_figures import interpolation_tables, lines_tables
from test_landscape_vgg_figures import surface_tables as vgg_tables

from figures import landscape_contours, landscape_interpolation, landscape_pca_trajectory, landscape_published, landscape_sharpness
from figures.line_widths import low_loss_width
from figures.vgg9 import LARGE, LARGE_DECAY, SGD, SMALL, SMALL_DECAY
from replication import models
from replication.pipeline import dag


def test_the_file_is_the_one_that_was_read() -> None:
    assert landscape_published.published() == golden("landscape_published.json")


def test_runs_have_the_numbers_that_the_paper_prints() -> None:
    errors = landscape_published.error_percents()
    assert len(errors) == 6 + 8 + 4
    assert errors["resnet56_noshort"] == errors["wide_k1_noshort"] == 13.31
    assert (errors[SMALL], errors[LARGE], errors[SMALL_DECAY], errors[LARGE_DECAY]) == (7.37, 11.07, 6.0, 10.19)
    runs = [run for row in landscape_pca_trajectory.LAYOUT for run in row]
    sums = [sum(landscape_published.components(run)) for run in runs]
    assert (min(sums), max(sums)) == (pytest.approx(39.61), pytest.approx(94.11))
    assert runs[int(np.argmin(sums))] == SMALL_DECAY


def test_norms_cross_twice_with_weight_decay() -> None:
    small, large = (landscape_published.weight_norms(run) for run in (SMALL_DECAY, LARGE_DECAY))
    assert small[0] == large[0] == 59.5
    assert small[50] < large[50]
    assert small[150] > large[150]
    assert small[225] < large[225]


def test_half_widths_at_loss_1_have_the_order_of_the_errors_and_radii_at_a_tenth_do_not() -> None:
    errors, radii = landscape_published.error_percents(), landscape_published.contour_radii()
    by_error = sorted(SGD, key=errors.__getitem__)
    assert by_error == sorted(SGD, key=lambda run: -landscape_published.half_width(run))
    assert by_error != sorted(SGD, key=lambda run: -radii[run])


def test_deep_nets_without_shortcuts_have_no_contour_and_others_have() -> None:
    radii = landscape_published.contour_radii()
    assert {run for run, radius in radii.items() if radius == 0} == {"resnet56_noshort", "resnet110_noshort"}
    assert len(radii) == 6 + 7 + 4


@pytest.mark.parametrize("run", landscape_published.curvature_runs())
def test_maps_agree_with_the_shares_read_from_them(run: str) -> None:
    """Cells are rounded to three digits, so that shares agree within a few cells of 961."""
    cells, shares = landscape_published.curvature_map(run), landscape_published.curvature_shares(run)
    assert cells.shape == (31, 31)
    assert (cells >= 0.5).mean() == pytest.approx(shares["at_least_.5"], abs=0.005)
    assert (cells < 0.05).mean() == pytest.approx(shares["below_.05"], abs=0.03)
    assert np.median(cells) == pytest.approx(shares["median"], abs=0.001)


def test_maps_stand_with_beta_rising() -> None:
    top = landscape_published.published()["figure7"]["read"]["maps_top_row_is_y_plus_1"]["resnet56"][0]
    assert landscape_published.curvature_map("resnet56")[-1].tolist() == top


def test_vgg9_starts_at_the_published_norm() -> None:
    """Filters have an expected squared norm of 2, scales of batch norm 1, those of the dense layer (uniform in [0, 1]) 1/3."""
    stages = {64: 2, 128: 2, 256: 3}
    filters = sum(width * count for width, count in stages.items())
    expected = np.sqrt(2 * filters + filters + 256 / 3)
    start = landscape_published.weight_norms(SMALL)[0]
    assert filters == 1152
    assert expected == pytest.approx(start, abs=0.05)
    for seed in range(3):
        model = models.build("vgg9", classes=10, channels=3, seed=seed)
        norm = np.sqrt(sum(float(parameter.detach().double().square().sum()) for parameter in model.parameters()))
        assert norm == pytest.approx(start, abs=landscape_published.published()["figure2"]["read"]["weight_norm"]["reading_error"])
        today = models.build("vgg9", classes=10, channels=3, seed=seed, uniform_scale=False)
        norm_today = np.sqrt(sum(float(parameter.detach().double().square().sum()) for parameter in today.parameters()))
        assert norm_today > norm + 1  # today's start of 1 would not give the published norm


def test_radii_of_known_surfaces_become_the_claims_quantities() -> None:
    """Cones whose loss is 0.1 at the published radii give the published ratio; a net above 0.1 at its centre has radius 0."""

    def cone(radius: float, centre: float = 0.01):
        return lambda x, y: centre + (0.1 - 0.01) * np.hypot(x, y) / radius

    radii = landscape_published.contour_radii()
    nets = {run: Net(cone(radii[run])) for run in ("resnet20", "resnet20_noshort", "resnet56", "resnet110")}
    nets |= {run: Net(cone(0.1, centre=0.3)) for run in ("resnet56_noshort", "resnet110_noshort")}
    estimates = landscape_contours.quantities({"depth_surfaces": surface_tables(nets, 201, seeds=(0,))})
    assert estimates["contour_ratio_with_shortcuts"][0] == pytest.approx(0.215 / 0.16, rel=0.05)
    assert estimates["contour_ratio_shallow_noshort"][0] == pytest.approx(0.146 / 0.16, rel=0.05)
    assert estimates["contour_ratio_deepest_noshort"][0] == 0
    assert estimates["centre_resnet56_noshort"][0] == pytest.approx(0.3)
    for claim in dag.figure_of("full", "landscape", "landscape_contours").claims:
        if claim.id.startswith("LAND-R-"):
            low, high = claim.expect.region
            assert low < estimates[claim.quantity][0] < high
            assert not low < estimates[claim.control.quantity][0] < high


def test_half_widths_of_parabolas() -> None:
    """0.02 + s x^2 is 1 at sqrt(0.98 / s); ten directions vary around it."""
    tables = {"vgg9_lines": lines_tables(201, 3), "vgg9_surfaces": vgg_tables(dict.fromkeys(SGD, 8.0), 9, 1)}
    widths = landscape_sharpness.half_widths(tables)
    assert widths.loc[0, SMALL] == pytest.approx(np.sqrt(0.98 / 8), rel=0.03)
    estimates = landscape_sharpness.quantities(tables)
    assert (estimates["half_width_ratio"] > 0.3).all()
    assert (estimates["half_width_ratio_permuted"] == 0).all()


def test_a_basin_below_no_level_has_no_width() -> None:
    alphas = np.linspace(-1, 1, 21)
    assert low_loss_width(alphas, 2 + alphas**2, 0.0, 1.0, (-1, 1)) == 0
    assert np.isnan(low_loss_width(alphas, np.full(21, np.inf), 0.0, 1.0, (-1, 1)))


def test_growth_and_crossing_are_read_at_the_first_drop() -> None:
    """Norms that stop at the drop have none of their growth after it; the published curves neither, and these cross."""
    tables = interpolation_tables(21)
    estimates = landscape_interpolation.quantities({"vgg9_interpolation": tables})
    assert estimates["growth_share_after_drop"].to_numpy() == pytest.approx(0)
    assert estimates["growth_share_before_drop"].to_numpy() == pytest.approx(1)
    theirs = {run: landscape_published.weight_norms(run) for run in SGD}
    rows = []
    for run, curve in theirs.items():
        kept = tables["norms"][(tables["norms"]["run"] == run) & (tables["norms"]["seed"] == 0)]
        epochs = landscape_published.EPOCHS * kept["step"] / kept["step"].max()
        rows.append(kept.assign(norm=np.interp(epochs, curve.index, curve)))
    published = tables | {"norms": pd.concat(rows)}
    estimates = landscape_interpolation.quantities({"vgg9_interpolation": published})
    for claim in dag.figure_of("full", "landscape", "landscape_interpolation").claims:
        if claim.id.startswith(("LAND-C3", "LAND-N")):
            low, high = claim.expect.region
            assert low < estimates[claim.quantity][0] < high, claim.id
            assert not low < estimates[claim.control.quantity][0] < high, claim.id
            if claim.published.drawn is not None:
                assert estimates[claim.quantity][0] == pytest.approx(claim.published.drawn, abs=0.01)


def test_every_published_number_lies_in_the_region_of_its_claim() -> None:
    """A region that would reject the paper's own figure says nothing of a replication."""
    numbers = 0
    for figure in dag.paper_of("full", "landscape").figures.values():
        for claim in figure.claims:
            number = claim.published.drawn
            if claim.expect is None or number is None or claim.published.trust == "recalled":
                continue
            low, high = claim.expect.region
            assert low <= number <= high, claim.id
            numbers += 1
    assert numbers >= 20
