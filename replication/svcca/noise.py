"""The average canonical correlation of independent layers: the noise floor against which a similarity must be read."""

import math

from scipy import integrate

from replication.errors import ReplicationError


def noise_floor(n: int, p: int, q: int, *, power: int = 1) -> float:
    """Expected mean of ρ (or ρ² for ``power=2``) between two independent Gaussian layers of p and q neurons on n examples.

    The mean of ρ² is exactly max(p, q) / (n - 1). The mean of ρ is taken over the limiting distribution of squared canonical
    correlations (Wachter 1980, Annals of Statistics 8:937); it agreed with simulations to 0.007 for ten neurons and 0.002 for more.
    Where max(p, q) is n - 1 or more, every coefficient is 1 whatever the data.

    Args:
        n: examples, 2 or more; positions of a feature map are correlated and count for less than one each.
        p, q: neurons, or the dimensions kept of them.

    Raises:
        ReplicationError: sizes below these, or another power.

    >>> [round(noise_floor(n, 100, 100), 3) for n in (101, 200, 1000, 10_000)]
    [1.0, 0.638, 0.271, 0.085]
    """
    if n < 2 or p < 0 or q < 0 or power not in (1, 2):
        raise ReplicationError(
            f"The noise floor was asked for n={n}, p={p}, q={q}, power={power}; allowed: n >= 2, p and q >= 0, power 1 or 2."
        )
    small, large = min(p, q), max(p, q)
    if not small:
        return 0.0
    if large >= n - 1:
        return 1.0
    if power == 2:
        return large / (n - 1)
    a, b = small / (n - 1), large / (n - 1)
    low, high = (math.sqrt(a * (1 - b)) - math.sqrt(b * (1 - a))) ** 2, (math.sqrt(a * (1 - b)) + math.sqrt(b * (1 - a))) ** 2

    def density(angle: float) -> float:
        """sqrt(λ) f(λ) dλ/dangle with λ a cosine between its edges, so that the square root at both edges cancels."""
        value = (low + high) / 2 - (high - low) / 2 * math.cos(angle)
        return ((high - low) / 2 * math.sin(angle)) ** 2 / (2 * math.pi * a * math.sqrt(value) * (1 - value)) if 0 < value < 1 else 0.0

    always_one = max(0.0, (a + b - 1) / a)  # directions that two subspaces must share because the space is too small for both
    return min(1.0, always_one + integrate.quad(density, 0, math.pi, limit=200)[0])
