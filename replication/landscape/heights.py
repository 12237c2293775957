"""How losses become heights in three dimensions: clipped at a ceiling and on a logarithmic scale, or as they are."""

from dataclasses import dataclass

import numpy as np

from replication.errors import ReplicationError

CEILING, OFFSET = 10.0, 0.1


@dataclass(frozen=True)
class HeightScale:
    """A rising function of the loss: log(min(loss, ceiling) + 0.1), without the logarithm, or without the ceiling.

    Attributes:
        ceiling: losses above it are drawn at it; None for no ceiling.
        logarithmic: whether the logarithm is taken.
        low, high: heights of the lower and upper end of the axis.

    Example:
        >>> scale = height_scale(np.array([0.0, 0.9, 50.0]))
        >>> scale.heights(np.array([0.9, 10.0, 50.0, np.inf, np.nan])).round(3)
        array([0.   , 2.313, 2.313, 2.313,   nan])
        >>> scale.formula("loss")
        'log(min(loss, 10) + 0.1)'
    """

    ceiling: float | None
    logarithmic: bool
    low: float
    high: float

    def heights(self, values: np.ndarray) -> np.ndarray:
        """The heights of ``values``, in their shape. Infinite values lie at the ends of the axis; nan stays nan."""
        clipped = np.asarray(values, dtype=np.float64) if self.ceiling is None else np.minimum(values, self.ceiling)
        with np.errstate(invalid="ignore", divide="ignore"):
            heights = np.log(np.maximum(clipped, -OFFSET) + OFFSET) if self.logarithmic else clipped
        return np.clip(heights, self.low, self.high)

    def is_clipped(self, values: np.ndarray) -> np.ndarray:
        """Which values lie above the ceiling, infinite ones included."""
        return np.zeros(np.shape(values), dtype=bool) if self.ceiling is None else np.asarray(values) > self.ceiling

    def formula(self, name: str) -> str:
        """The height in symbols."""
        clipped = name if self.ceiling is None else f"min({name}, {self.ceiling:g})"
        return f"log({clipped} + {OFFSET:g})" if self.logarithmic else clipped

    def sentence(self, values: np.ndarray, name: str) -> str:
        """What the heights do not show of ``values``: how many are clipped, how many are not finite."""
        n_clipped, n_not_finite = int(self.is_clipped(values).sum()), int((~np.isfinite(values)).sum())
        above = f"{n_clipped} of {np.size(values)} points lie above {self.ceiling:g} and are drawn at it" if n_clipped else ""
        gaps = f"{n_not_finite} points have no finite {name}" if n_not_finite else ""
        return "; ".join(filter(None, [above, gaps])) + "." if above or gaps else ""

    def ticks(self) -> list[float]:
        """Values for the marks of an axis, rising."""
        if not self.logarithmic:
            step = 10.0 ** np.floor(np.log10(max(self.high - self.low, 1e-300)))
            step *= next((factor for factor in (1, 0.5) if (self.high - self.low) / (factor * step) >= 3), 0.2)
            return [float(f"{tick:.6g}") + 0.0 for tick in np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step]
        top = np.exp(self.high) - OFFSET if self.ceiling is None else self.ceiling
        factors = (1, 3) if top <= 100 else (1,)
        marks = [factor * 10.0**power for power in range(-1, 300) if 10.0**power <= top for factor in factors]
        return [0.0, *(float(f"{mark:.6g}") for mark in marks if mark <= top * (1 + 1e-9))]


def height_scale(values: np.ndarray, *, ceiling: float | None = CEILING, logarithmic: bool | None = None) -> HeightScale:
    """The scale on which ``values`` are drawn.

    The defaults are those of the paper's renderings: the official export clips the loss at 10 (``--zmax``) and takes the logarithm of the
    loss plus 0.1 (``--log``).

    Args:
        values: of all surfaces that share the scale, of any shape.
        ceiling: values above it are drawn at it; None for no ceiling.
        logarithmic: None takes the logarithm unless a value is -0.1 or less.

    Raises:
        ReplicationError: a logarithm of values at or below -0.1, or a ceiling that is not above the lowest value.

    Example:
        >>> height_scale(np.array([-5.0, 2.0])).formula("loss")
        'min(loss, 10)'
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if logarithmic and lowest <= -OFFSET:
        raise ReplicationError(f"The lowest value is {lowest:g}, and the logarithm needs values above {-OFFSET:g}; give logarithmic=False.")
    if ceiling is not None and not ceiling > (-OFFSET if logarithmic else -np.inf):
        raise ReplicationError(f"The ceiling is {ceiling}; allowed: a number{' above -0.1' if logarithmic else ''}, or None.")
    takes_log = lowest > -OFFSET and (ceiling is None or ceiling > -OFFSET) if logarithmic is None else logarithmic
    if takes_log:
        low, high = (float(np.log(end + OFFSET)) for end in (min(lowest, 0.0), highest if ceiling is None else ceiling))
    else:
        low, high = (end if ceiling is None else min(end, ceiling) for end in (lowest, highest))
    return HeightScale(ceiling=ceiling, logarithmic=takes_log, low=low, high=high if high > low else low + 1)
