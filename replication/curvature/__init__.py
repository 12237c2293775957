"""Curvature of the loss from matrix-vector products: eigenvalues, spectral density, trace.

- ``ends``: the smallest and the largest eigenvalue, at a point or at the points of a plane.
- ``leading``: leading eigenvalues with their vectors; ``density``: the spectral density; ``traces``: the trace.
- ``operators``: the matrices (Hessian, Gauss-Newton, Fisher) as functions from vectors to vectors.
- ``lanczos``: Lanczos' process; ``bounds``: errors of eigenvalues, the arithmetic included.

It uses two leaf modules of ``replication.landscape``: ``grid`` (points of a plane as a table) and ``directions`` (the mask of
``ignore``). ``replication.landscape`` uses nothing from here.
"""

from replication.curvature.density import spectral_density
from replication.curvature.ends import Extremes, eigenvalue_map, extreme_eigenvalues, extremes
from replication.curvature.leading import Eigenpairs, eigenpairs
from replication.curvature.traces import Trace, trace

__all__ = [
    "Eigenpairs",
    "Extremes",
    "Trace",
    "eigenpairs",
    "eigenvalue_map",
    "extreme_eigenvalues",
    "extremes",
    "spectral_density",
    "trace",
]
