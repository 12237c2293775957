"""Radii and irregularity of contours on surfaces whose contours are known."""

import numpy as np
import pytest

from replication.landscape.contours import contour_irregularity, contour_radii, contour_radius
from replication.landscape.surface_grid import Surface


def surface(function, points: int = 51) -> Surface:
    axis = np.linspace(-1, 1, points)
    x, y = np.meshgrid(axis, axis)
    return Surface(loss=function(x, y), alphas=axis, betas=axis)


@pytest.mark.parametrize("radius", [0.16, 0.245, 0.65])
def test_a_cone_has_the_radius_of_its_level(radius: float) -> None:
    cone = surface(lambda x, y: 0.01 + 3 * np.hypot(x, y), points=101)
    assert contour_radius(cone, 0.01 + 3 * radius) == pytest.approx(radius, abs=0.003)
    assert contour_irregularity(contour_radii(cone, 0.01 + 3 * radius)) < 0.01


def test_an_ellipse_has_the_mean_of_its_radii() -> None:
    """x^2 / a^2 + y^2 / b^2 = 1 in polar coordinates."""
    a, b = 0.8, 0.4
    ellipse = surface(lambda x, y: (x / a) ** 2 + (y / b) ** 2, points=201)
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    radii = 1 / np.sqrt((np.cos(angles) / a) ** 2 + (np.sin(angles) / b) ** 2)
    assert contour_radius(ellipse, 1) == pytest.approx(radii.mean(), rel=0.01)
    assert contour_irregularity(contour_radii(ellipse, 1)) == pytest.approx(radii.std() / radii.mean(), rel=0.03)


def test_the_first_crossing_counts_and_not_a_second_basin_behind_it() -> None:
    rings = surface(lambda x, y: np.sin(np.hypot(x, y) * 2 * np.pi) + 0 * x, points=101)
    assert contour_radius(rings, 0.5) == pytest.approx(1 / 12, abs=0.01)


def test_there_is_no_contour_below_the_loss_at_the_centre() -> None:
    bowl = surface(lambda x, y: 0.6 + x**2 + y**2)
    assert contour_radius(bowl, 0.1) == 0
    assert contour_radius(bowl, 0.6) == 0
    assert np.isnan(contour_irregularity(contour_radii(bowl, 0.1)))


def test_a_contour_outside_the_grid_counts_up_to_the_edge() -> None:
    flat = surface(lambda x, y: 0 * x)
    radii = contour_radii(flat, 0.1)
    assert (radii.min(), radii.max()) == (pytest.approx(1), pytest.approx(np.sqrt(2)))


def test_losses_that_are_not_finite_end_the_region() -> None:
    cliff = surface(lambda x, y: np.where(np.hypot(x, y) > 0.5, np.inf, 0.0))
    assert contour_radius(cliff, 0.1) == pytest.approx(0.48, abs=0.03)
    assert np.isnan(contour_radius(surface(lambda x, y: np.where(np.hypot(x, y) < 0.1, np.nan, 1.0)), 0.1))
