"""The loss landscape (Li et al. 2018, arXiv 1712.09913): slices of the loss through parameter space.

- ``slices``: lines, surfaces and interpolation; ``directions``: random and filter-normalised directions.
- ``grid``: points of a line or plane that are computed in several sittings.
- ``trajectories``: planes through training trajectories.
- ``surface_measures``: a surface as numbers; ``export``: a surface as a page or a file for ParaView.
"""

from replication.landscape.directions import axis_generator, normalised, random_direction
from replication.landscape.slices import interpolation, line, surface
from replication.landscape.surface_measures import as_grid
from replication.landscape.trajectories import captured_variance, project, random_walk_control, trajectory_plane

__all__ = [
    "as_grid",
    "axis_generator",
    "captured_variance",
    "interpolation",
    "line",
    "normalised",
    "project",
    "random_direction",
    "random_walk_control",
    "surface",
    "trajectory_plane",
]
