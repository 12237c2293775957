"""Plots of what the instruments return: each function draws one panel and returns its axes.

- ``learning``: ``layers``, the loss change allocated to each layer.
- ``matrices``: ``similarity`` of layers, ``stiffness`` of classes.
- ``slices``: ``line``, ``surface`` and ``surface_3d`` of the loss; ``spectrum`` of the Hessian.
- ``panels``: what they share. Their colours are those of ``replication.palette``, as are the papers' figures'.

Every function takes ``ax``, the axes to draw in, and makes a figure of its own by default. None of them changes matplotlib's settings.
"""

from replication.plots.learning import layers
from replication.plots.matrices import similarity, stiffness
from replication.plots.slices import line, spectrum, surface, surface_3d

__all__ = ["layers", "line", "similarity", "spectrum", "stiffness", "surface", "surface_3d"]
