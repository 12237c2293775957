"""How many seeds decide a claim: against simulated runs, and at the ends."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.claims.power import POWER, chance_to_hold, decision_probability, seeds_for_power
from replication.claims.statistics import mean_interval

ABOVE, BELOW, BETWEEN = (0.0, math.inf), (-math.inf, 1.0), (0.0, 1.0)


def with_mean_and_sd(mean: float, sd: float, n: int = 4) -> list[float]:
    values = np.linspace(-1, 1, n)
    return list(mean + sd * values / values.std(ddof=1))


def share_of_runs(mean: float, sd: float, region: tuple[float, float], n: int, *, inside: bool) -> float:
    """The share of simulated runs whose interval lies wholly inside, or wholly outside, of the region."""
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.normal(mean, sd, n)) for _ in range(4000)]
    if inside:
        return float(np.mean([region[0] < low and high < region[1] for low, high in intervals]))
    return float(np.mean([high <= region[0] or low >= region[1] for low, high in intervals]))


@pytest.mark.parametrize("n", [2, 3, 6, 12])
@pytest.mark.parametrize(
    ("mean", "region", "inside"),
    [(0.4, ABOVE, True), (-0.4, ABOVE, False), (0.4, BELOW, True), (1.6, BELOW, False), (1.6, BETWEEN, False)],
)
def test_the_probability_is_the_share_of_simulated_runs_that_are_decided(
    mean: float, region: tuple[float, float], inside: bool, n: int
) -> None:
    expected = share_of_runs(mean, 0.5, region, n, inside=inside)
    assert decision_probability(with_mean_and_sd(mean, 0.5), region, n) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("sd", "n"), [(0.1, 2), (0.2, 4), (0.3, 9), (0.5, 12)])
def test_inside_of_two_edges_it_is_a_lower_bound(sd: float, n: int) -> None:
    expected = share_of_runs(0.4, sd, BETWEEN, n, inside=True)
    stated = decision_probability(with_mean_and_sd(0.4, sd), BETWEEN, n)
    assert stated <= expected + 0.03
    assert expected < 0.9 or stated == pytest.approx(expected, abs=0.03), "tight where it matters"


@pytest.mark.parametrize("region", [ABOVE, BELOW, BETWEEN])
@given(mean=st.floats(-1, 2), sd=st.floats(0.05, 3))
def test_that_many_seeds_have_the_power_and_one_fewer_does_not(region: tuple[float, float], mean: float, sd: float) -> None:
    estimates = with_mean_and_sd(mean, sd)
    needed = seeds_for_power(estimates, region)
    if needed is None:
        assert decision_probability(estimates, region, 1000) < POWER
    else:
        assert decision_probability(estimates, region, needed) >= POWER
        assert needed == 2 or decision_probability(estimates, region, needed - 1) < POWER


def test_a_textbook_case() -> None:
    """A one-sided t test at 5 % of an effect of half a standard deviation needs 36 observations for a power of 0.9 (Cohen, table 2.4.1)."""
    assert seeds_for_power(with_mean_and_sd(0.5, 1.0), ABOVE) == pytest.approx(36, abs=1)


@pytest.mark.parametrize("estimates", [[], [1.0], [1.0, math.nan], [0.0, math.inf]])
def test_without_two_finite_estimates_nothing_is_said(estimates: list[float]) -> None:
    assert seeds_for_power(estimates, ABOVE) is None


def test_a_mean_on_the_edge_is_never_decided() -> None:
    assert seeds_for_power([-1.0, 1.0], ABOVE) is None
    assert seeds_for_power([0.0, 0.0, 0.0], ABOVE) == 2, "equal values on the edge lie outside of the open region"


@pytest.mark.parametrize(("estimates", "least", "most"), [([1, 1, 1], 4, 8), ([1, 1, 0.5], 12, 20), ([1] * 8, 3, 6)])
def test_ranks_are_resampled_and_equal_ones_do_not_exclude_others(estimates: Sequence[float], least: int, most: int) -> None:
    """Rank correlations over three widths are 1, 0.5, -0.5 or -1."""
    needed = seeds_for_power(estimates, (0.6, math.inf))
    assert needed is not None
    assert least <= needed <= most
    assert seeds_for_power(estimates, (0.6, math.inf)) == needed, "the same samples each time"


@pytest.mark.parametrize("n", [3, 8, 30])
def test_a_control_on_the_edge_holds_by_chance_once_in_twenty(n: int) -> None:
    assert chance_to_hold(with_mean_and_sd(0.0, 1.0), ABOVE, n) == pytest.approx(0.05, abs=0.001)
    assert chance_to_hold(with_mean_and_sd(-1.0, 1.0), ABOVE, n) < 0.01
    assert chance_to_hold([0.5, 0.5], BETWEEN, n) == 1
    assert chance_to_hold([1.5, 1.5], BETWEEN, n) == 0
    assert chance_to_hold(with_mean_and_sd(-1.0, 0.5), BETWEEN, n) < 0.01
