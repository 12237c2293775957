"""Curvature of the loss from Hessian-vector products: eigenvalues, spectral density, trace.

- ``spectrum``: extreme eigenvalues, at a point or at the points of a plane; spectral density; trace.
- ``lanczos``: Lanczos' process, and bounds on the errors of its eigenvalues.

It uses two leaf modules of ``replication.landscape``: ``grid`` (points of a plane as a table) and ``directions`` (the mask of
``ignore``). ``replication.landscape`` uses nothing from here.
"""

from replication.curvature.spectrum import Extremes, Trace, eigenvalue_map, extreme_eigenvalues, extremes, spectral_density, trace

__all__ = ["Extremes", "Trace", "eigenvalue_map", "extreme_eigenvalues", "extremes", "spectral_density", "trace"]
