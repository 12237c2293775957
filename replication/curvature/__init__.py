"""Curvature of the loss from Hessian-vector products: eigenvalues, spectral density, trace.

- ``spectrum``: the measures, at one point or on a plane.
- ``lanczos``: Lanczos' process, and bounds on the error of its eigenvalues.
"""

from replication.curvature.spectrum import Extremes, Trace, eigenvalue_map, extreme_eigenvalues, extremes, spectral_density, trace

__all__ = ["Extremes", "Trace", "eigenvalue_map", "extreme_eigenvalues", "extremes", "spectral_density", "trace"]
