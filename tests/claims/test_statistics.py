import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from replication.claims.statistics import LEVEL, mean_interval

ESTIMATES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


# Intervals over seeds


@given(estimates=ESTIMATES, level=st.floats(0.5, 0.999))
def test_the_interval_is_students(estimates: list[float], level: float) -> None:
    error = stats.sem(estimates)
    assume(error > 1e-9)
    expected = stats.t.interval(level, len(estimates) - 1, loc=np.mean(estimates), scale=error)
    assert mean_interval(estimates, level) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_interval_is_at_ninety_per_cent() -> None:
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0], 0.90)
    assert LEVEL == 0.90


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [low < 0.3 < high for low, high in (mean_interval(random.normal(0.3, 2, 4)) for _ in range(2000))]
    assert abs(np.mean(held) - 0.90) < 3 * math.sqrt(0.9 * 0.1 / 2000)


@given(estimates=ESTIMATES, shift=st.floats(-10, 10), factor=st.floats(0.1, 10))
def test_the_interval_moves_and_stretches_with_the_estimates(estimates: list[float], shift: float, factor: float) -> None:
    low, high = mean_interval(estimates)
    moved = mean_interval([factor * x + shift for x in estimates])
    assert moved == pytest.approx((factor * low + shift, factor * high + shift), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("estimates", [[], [1.0]])
def test_fewer_than_two_seeds_bound_nothing(estimates: list[float]) -> None:
    assert mean_interval(estimates) == (-math.inf, math.inf)


def test_equal_estimates_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_leaves_no_interval(bad: float) -> None:
    assert all(map(math.isnan, mean_interval([1.0, bad, 2.0])))
    assert all(map(math.isnan, mean_interval([bad])))
