"""The loss landscape (Li et al. 2018, arXiv 1712.09913): the loss on lines and planes through parameter space.

- ``directions``: random directions, normalised filter by filter.
- ``slices``: the loss along a line, on a plane, and between two networks.
- ``trajectories``: the plane of largest variance through a training path, and paths projected on planes.
- ``surface_measures``: numbers for what the eye sees on a surface; ``contours``: how far a contour lies from the minimiser.
- ``surface_grid``: a surface as these two read it.
- ``heights``: how losses become heights; ``export``: surfaces as a page that turns them in a browser, and as files for ParaView.
- ``grid``: the points of a line or plane as a table that can be filled in several calls; ``replication.curvature`` uses it too.

Everything is built on ``replication.objective``; nothing here imports ``replication.curvature``.
"""

from replication.landscape import export
from replication.landscape.contours import contour_radii, contour_radius
from replication.landscape.directions import axis_generator, kept_parameters, normalised, random_direction
from replication.landscape.grid import as_grid
from replication.landscape.slices import interpolation, line, surface
from replication.landscape.surface_grid import Surface
from replication.landscape.surface_measures import measures
from replication.landscape.trajectories import TrajectoryPlane, captured_variance, project, random_walk_control, trajectory_plane

__all__ = [
    "Surface",
    "TrajectoryPlane",
    "as_grid",
    "axis_generator",
    "captured_variance",
    "contour_radii",
    "contour_radius",
    "export",
    "interpolation",
    "kept_parameters",
    "line",
    "measures",
    "normalised",
    "project",
    "random_direction",
    "random_walk_control",
    "surface",
    "trajectory_plane",
]
