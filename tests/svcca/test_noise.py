"""The noise floor against simulations."""

import math

import pytest
from svcca_layers import layers

from replication import svcca
from replication.errors import ReplicationError


@pytest.mark.parametrize(
    ("n", "p", "q", "expected"),  # means over seeds of the official code and of our simulations
    [
        (101, 100, 100, 1),
        (200, 100, 100, 0.638),
        (1000, 100, 100, 0.2714),
        (2000, 100, 100, 0.1904),
        (10000, 100, 100, 0.0842),
        (60, 50, 40, 0.895),
    ],
)
def test_noise_floor(n: int, p: int, q: int, expected: float) -> None:
    assert svcca.noise_floor(n, p, q) == pytest.approx(expected, abs=0.005)
    assert svcca.noise_floor(n, q, p) == svcca.noise_floor(n, p, q)


def test_noise_floor_of_squares_is_exact_on_average() -> None:
    squares = [svcca.cca(*layers(50, 10, 6, seed, shared=0)).coefficients.square().mean().item() for seed in range(200)]
    assert sum(squares) / 200 == pytest.approx(svcca.noise_floor(50, 10, 6, power=2), abs=4 * 0.03 / math.sqrt(200))
    assert svcca.noise_floor(50, 0, 6) == 0


def test_sizes_that_no_layer_has() -> None:
    with pytest.raises(ReplicationError, match="n >= 2"):
        svcca.noise_floor(1, 2, 3)
