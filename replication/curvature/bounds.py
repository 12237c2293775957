"""Bounds on the errors of eigenvalues that hold for the arithmetic that was done, and a sentence where they do not."""

from dataclasses import dataclass

import numpy as np

SAFETY = 4.0  # the rounding of one product is measured once; others may be larger
TINY = float(np.finfo(np.float32).tiny)  # smaller products underflow in the arithmetic of most networks


@dataclass(frozen=True)
class Checked:
    """Errors of eigenvalues with all that contributes to them.

    Attributes:
        errors: bounds ``[k]``.
        converged: whether every error meets the tolerance and the operator is symmetric.
        message: why not, in a sentence; empty if converged.
    """

    errors: np.ndarray
    converged: bool
    message: str


def allowed_errors(values: np.ndarray, tolerance: float) -> np.ndarray:
    """``tolerance`` times each value's magnitude, or times a hundredth of the largest magnitude for values near zero ``[k]``.

    Example:
        >>> allowed_errors(np.array([-50.0, 0.0, 1000.0]), 1e-3)
        array([0.05, 0.01, 1.  ])
    """
    return tolerance * np.maximum(np.abs(values), np.abs(values).max() / 100)


def check(values: np.ndarray, residuals: np.ndarray, *, asymmetry: float, rounding: float, epsilon: float, tolerance: float) -> Checked:
    """Judge eigenvalues by their residuals and by what was measured of the operator.

    Args:
        values: eigenvalues ``[k]``.
        residuals: the norms of A v - lambda v, as the computed products have them ``[k]``.
        asymmetry: the largest abs(u.Av - v.Au) for unit vectors u and v.
        rounding: how far a product may be from the exact one, as measured by one that was computed again with other roundings.
        epsilon: the rounding unit of the products.
        tolerance: of the errors, relative.

    Example:
        >>> check(np.array([2.0]), np.array([1e-5]), asymmetry=0.0, rounding=1e-7, epsilon=1e-7, tolerance=1e-3).converged
        True
        >>> check(np.array([2.0]), np.array([1e-5]), asymmetry=0.5, rounding=1e-7, epsilon=1e-7, tolerance=1e-3).message
        'The products are not those of a symmetric matrix: u.Av and v.Au differ by 0.5 for unit vectors, where the largest eigenvalue is 2.'
    """
    errors = residuals + SAFETY * rounding + TINY
    scale, allowed = float(np.abs(values).max()), allowed_errors(values, tolerance) + TINY
    message = ""
    if not np.isfinite(values).all() or not np.isfinite(rounding):
        message = "A matrix-vector product has a value that is not finite."
    elif not is_symmetric(asymmetry, scale, epsilon) and asymmetry > SAFETY * rounding:
        message = (
            f"The products are not those of a symmetric matrix: u.Av and v.Au differ by {asymmetry:.2g} for unit vectors, "
            f"where the largest eigenvalue is {scale:.2g}."
        )
    elif (SAFETY * rounding > allowed).any() or ((errors > allowed).any() and (residuals <= allowed).all()):
        message = (
            f"Rounding changes a matrix-vector product by {rounding:.1g}, more than the tolerance {tolerance:g} allows; "
            "use Objective(..., dtype=torch.float64), or a larger tolerance."
        )
    elif (errors > allowed).any():
        message = f"The error of an eigenvalue is still {errors.max():.1g}; allow more products with max_products."
    return Checked(errors=np.where(np.isfinite(values), errors, np.nan), converged=not message, message=message)


def is_symmetric(asymmetry: float, scale: float, epsilon: float) -> bool:
    """Whether the largest abs(u.Av - v.Au) is as small as rounding may make it for a matrix of this scale.

    Example:
        >>> is_symmetric(1e-6, scale=1.0, epsilon=1.2e-7), is_symmetric(1e-2, scale=1.0, epsilon=1.2e-7)
        (True, False)
    """
    return not asymmetry > epsilon**0.5 * scale
