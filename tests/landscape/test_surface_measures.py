from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from replication.errors import ReplicationError
from replication.landscape import surface_measures as sm
from replication.landscape.surface_grid import Surface

AXIS = np.linspace(-1, 1, 21)


def surface_of(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Surface:
    x, y = np.meshgrid(AXIS, AXIS)
    return Surface(function(x, y), AXIS, AXIS)


def table_of(surface: Surface) -> pd.DataFrame:
    x, y = np.meshgrid(surface.alphas, surface.betas)
    return pd.DataFrame({"alpha": x.ravel(), "beta": y.ravel(), "loss": surface.loss.ravel()})


BOWL = surface_of(lambda x, y: 4 * (x**2 + y**2))
SADDLE = surface_of(lambda x, y: x**2 - y**2)
WAVES = surface_of(lambda x, y: np.sin(8 * x) + np.sin(8 * y) + 4)


def test_a_bowl_is_what_a_bowl_should_be() -> None:
    by_measure = sm.measures(table_of(BOWL)).set_index("measure")["value"]
    assert by_measure["centre"] == 0
    assert by_measure["non_finite_points"] == 0
    assert by_measure["maximum"] == pytest.approx(8)
    assert by_measure["negative_curvature"] == by_measure["negative_curvature_in_basin"] == 0
    assert by_measure["ray_decreases"] == 0
    assert by_measure["monotone_rays"] == 1
    assert by_measure["strict_minima"] == 1
    assert by_measure["away_from_centre"] == 0
    assert by_measure["area_below_centre_plus_1"] == pytest.approx(np.pi / 4 / 4.41, rel=0.1)  # a disc of radius 1/2; 441 points
    assert by_measure["rise_0.5"] == pytest.approx(1, rel=0.02)
    assert by_measure["rise_0.25"] == pytest.approx(0.25, rel=0.06)


def test_curvatures_of_quadratics_are_exact() -> None:
    smaller, larger = surface_of(lambda x, y: x**2 + 3 * y**2 + x * y).curvatures()
    expected = np.linalg.eigvalsh([[2, 1], [1, 6]])
    np.testing.assert_allclose(smaller, expected[0])
    np.testing.assert_allclose(larger, expected[1])


def test_a_saddle_curves_down_everywhere_and_half_of_it_leads_away() -> None:
    assert sm.negative_curvature_share(SADDLE) == 1
    assert sm.strict_minima(SADDLE) == 0
    assert sm.away_from_centre_share(SADDLE) == pytest.approx(0.5, abs=0.06)
    rays = sm.ray_decreases(surface_of(lambda x, y: 5 + x**2 - y**2))
    assert rays[0] == 0  # along x it rises
    assert rays[8] > 0.5  # along y it falls, at first by less than a per cent


def test_waves_have_many_minima_and_are_rough() -> None:
    assert sm.strict_minima(WAVES) == 4
    assert sm.roughness(WAVES) > sm.roughness(surface_of(lambda x, y: np.sin(x) + np.sin(y) + 4))
    assert sm.measures(table_of(WAVES)).set_index("measure")["value"]["monotone_rays"] < 1


def test_negative_curvature_is_counted_within_the_basin_alone() -> None:
    """A well in a plateau: curved up inside of the inflection, down outside."""
    well = surface_of(lambda x, y: 5 * (1 - np.exp(-4 * (x**2 + y**2))))
    assert sm.negative_curvature_share(well, below=1) == 0
    assert sm.negative_curvature_share(well) > 0.5
    assert np.isnan(sm.negative_curvature_share(well, below=-1))


def test_a_threshold_separates_tiny_negative_curvature() -> None:
    slight = surface_of(lambda x, y: x**2 - 0.02 * y**2)
    assert sm.negative_curvature_share(slight) == 0
    assert sm.negative_curvature_share(slight, threshold=0.01) == 1


@pytest.mark.parametrize("points", [9, 21])
@pytest.mark.parametrize(("ratio", "angle"), [(1, 0), (4, 0.3), (25, 1.2), (300, np.pi / 4)])
def test_a_convex_surface_is_convex_up_to_its_largest_loss(points: int, ratio: float, angle: float) -> None:
    axis = np.linspace(-1, 1, points)
    x, y = np.meshgrid(axis, axis)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    convex = Surface(along**2 + ratio * across**2, axis, axis)
    assert sm.convexity_level(convex) == convex.loss.max()


def test_convexity_ends_where_a_second_basin_joins_and_where_a_valley_bends() -> None:
    two = surface_of(lambda x, y: np.minimum(x**2 + y**2, (x - 0.8) ** 2 + y**2))
    assert sm.convexity_level(two) == pytest.approx(0.16)  # the saddle at (0.4, 0)
    straight = surface_of(lambda x, y: 10 * y**2 + 0.2 * x**2)
    bent = surface_of(lambda x, y: 10 * (y - x**2) ** 2 + 0.2 * x**2)
    assert sm.convexity_level(bent) < 0.1 < sm.convexity_level(straight)
    star = surface_of(lambda x, y: np.abs(x * y) + 0.05 * (x**2 + y**2))
    assert sm.convexity_level(star) < 0.2


def test_convexity_forgives_one_point_and_no_more() -> None:
    dented = BOWL.loss.copy()
    dented[10, 12] = 6
    assert sm.convexity_level(Surface(dented, AXIS, AXIS)) == 8
    dented[12, 10] = dented[10, 8] = np.inf
    assert sm.convexity_level(Surface(dented, AXIS, AXIS)) < 1
    broken = BOWL.loss.copy()
    broken[10, 10] = np.nan
    assert np.isnan(sm.convexity_level(Surface(broken, AXIS, AXIS)))
    flat = surface_of(lambda x, y: 2.3 + 0 * x)
    assert sm.convexity_level(flat) == pytest.approx(2.3)


def test_one_missing_point_is_allowed_even_in_the_smallest_regions_and_two_are_not() -> None:
    """Beside the centre, so that the regions of nine points have a hole: 8 + 1 of 9 fill their hull, 7 + 1 do not."""
    dented = BOWL.loss.copy()
    dented[10, 11] = np.inf
    assert sm.convexity_level(Surface(dented, AXIS, AXIS)) == 8
    dented[10, 9] = np.inf
    assert sm.convexity_level(Surface(dented, AXIS, AXIS)) == pytest.approx(4 * (0.1**2 + 0.1**2))


def test_values_that_are_not_finite_are_counted_and_lie_in_no_basin() -> None:
    loss = BOWL.loss.copy()
    loss[0, 0], loss[-1, -1], loss[3, 4] = np.nan, np.inf, np.inf
    broken = Surface(loss, AXIS, AXIS)
    by_measure = sm.measures(table_of(broken)).set_index("measure")["value"]
    assert by_measure["non_finite_points"] == 3
    assert np.isfinite(by_measure).all()
    assert by_measure["strict_minima"] == 1
    assert sm.basin_area(broken, 100) == pytest.approx(438 / 441)
    assert sm.basin_area(broken, np.inf) == pytest.approx(438 / 441)


def test_grids_that_are_not_square_and_lie_askew() -> None:
    alphas, betas = AXIS[5:], AXIS[8:13]
    x, y = np.meshgrid(alphas, betas)
    part = Surface(4 * (x**2 + y**2), alphas, betas)
    assert part.centre == 0
    assert sm.rise(part, 0.2) == pytest.approx(0.16, rel=0.1)
    with pytest.raises(ReplicationError, match="leaves the grid"):
        sm.rise(part, 0.5)
    assert np.isnan(sm.measures(table_of(part)).set_index("measure")["value"]["rise_0.5"])


def test_grids_that_cannot_be_judged() -> None:
    even = np.linspace(-1, 1, 4)
    with pytest.raises(ReplicationError, match=r"no point at \(0, 0\)"):
        Surface(np.zeros((4, 4)), even, even)
    with pytest.raises(ReplicationError, match="too small or uneven"):
        Surface(np.zeros((2, 21)), AXIS[10:12], AXIS)
    with pytest.raises(ReplicationError, match="too small or uneven"):
        Surface(np.zeros((3, 3)), np.array([-1.0, 0, 2]), np.array([-1.0, 0, 1]))
