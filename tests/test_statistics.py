import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from replication.distributions import binomial_shares, fraction_holding, gaussian_share_beyond, gini, top_share, weibull_fit
from replication.statistics import LEVEL, mean_interval, seeds_to_decide

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
    assert seeds_to_decide(estimates, (0, 1)) is None


def test_equal_estimates_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_leaves_no_interval(bad: float) -> None:
    assert all(map(math.isnan, mean_interval([1.0, bad, 2.0])))
    assert all(map(math.isnan, mean_interval([bad])))


def with_mean_and_sd(n: int, mean: float, sd: float) -> list[float]:
    values = np.linspace(-1, 1, n)
    return list(mean + sd * values / values.std(ddof=1))


@pytest.mark.parametrize("region", [(0.0, math.inf), (-math.inf, 1.0), (0.0, 1.0)])
@given(mean=st.floats(-1, 2), sd=st.floats(0.05, 3), n=st.integers(2, 6))
def test_that_many_seeds_decide_and_one_fewer_do_not(region: tuple[float, float], mean: float, sd: float, n: int) -> None:
    def decided(seeds: int) -> bool:
        low, high = mean_interval(with_mean_and_sd(seeds, mean, sd))
        return (region[0] < low and high < region[1]) or high < region[0] or low > region[1]

    needed = seeds_to_decide(with_mean_and_sd(n, mean, sd), region, most=2000)
    if needed is None:
        assert not decided(2000)
    else:
        assert needed >= n
        assert decided(needed)
        assert needed == n or not decided(needed - 1)


def test_a_mean_on_the_edge_is_never_decided() -> None:
    assert seeds_to_decide([-1.0, 1.0], (0, math.inf)) is None
    assert seeds_to_decide([0.0, 0.0], (0, math.inf)) is None


# Weibull


def ones(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values))


@pytest.mark.parametrize("shape", [0.3, 0.53, 1.0, 2.0])
def test_the_fit_is_the_one_of_scipy(shape: float) -> None:
    sample = 5e-8 * np.random.default_rng(0).weibull(shape, 3000)
    expected_shape, _, expected_scale = stats.weibull_min.fit(sample / 5e-8, floc=0)
    found = weibull_fit(sample, ones(sample))
    assert found == pytest.approx((expected_shape, 5e-8 * expected_scale), rel=1e-3)
    assert found == pytest.approx((shape, 5e-8), rel=0.1)


@pytest.mark.parametrize("shape", [0.3, 0.53, 1.0, 2.0])
def test_no_other_parameters_are_likelier(shape: float) -> None:
    sample = np.random.default_rng(1).weibull(shape, 500)
    best_shape, best_scale = weibull_fit(sample, ones(sample))
    best = stats.weibull_min.logpdf(sample, best_shape, scale=best_scale).sum()
    for factor in (0.99, 1.01):
        assert stats.weibull_min.logpdf(sample, best_shape * factor, scale=best_scale).sum() < best
        assert stats.weibull_min.logpdf(sample, best_shape, scale=best_scale * factor).sum() < best


VALUES = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=20).filter(lambda values: max(values) > 1.001 * min(values))


@given(values=VALUES, exponent=st.integers(-30, 30))
def test_the_scale_follows_the_values_and_the_shape_does_not(values: list[float], exponent: int) -> None:
    x = np.array(values)
    shape, scale = weibull_fit(x, ones(x))
    moved_shape, moved_scale = weibull_fit(x * 10.0**exponent, ones(x))
    assert moved_shape == pytest.approx(shape, rel=1e-6)
    assert moved_scale == pytest.approx(scale * 10.0**exponent, rel=1e-6)


@given(values=VALUES, power=st.floats(0.2, 5))
def test_a_power_of_the_values_divides_the_shape(values: list[float], power: float) -> None:
    x = np.array(values)
    shape, scale = weibull_fit(x, ones(x))
    assert weibull_fit(x**power, ones(x)) == pytest.approx((shape / power, scale**power), rel=1e-6)


@given(values=VALUES, data=st.data())
def test_counts_are_repetitions_and_only_their_ratios_matter(values: list[float], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values)))
    x, w = np.array(values), np.array(counts)
    expected = weibull_fit(np.repeat(x, w), np.ones(w.sum()))
    assert weibull_fit(x, w) == pytest.approx(expected, rel=1e-6)
    assert weibull_fit(x, w / 1000) == pytest.approx(expected, rel=1e-6)


def test_a_half_normal_is_fitted_well_above_an_exponential() -> None:
    sample = np.abs(np.random.default_rng(0).normal(size=20_000))
    assert 1.2 < weibull_fit(sample, ones(sample))[0] < 1.4
    edges = np.logspace(-6, 1, 281)  # as the control of the histogram figure does it
    shape, _ = weibull_fit(np.sqrt(edges[1:] * edges[:-1]), np.diff(stats.halfnorm.cdf(edges)))
    assert 1.2 < shape < 1.4


def test_a_fit_to_bins_is_near_the_fit_to_the_sample() -> None:
    sample = np.random.default_rng(0).weibull(0.5, 50_000)
    counts, edges = np.histogram(sample, np.logspace(-12, 3, 600))
    binned = weibull_fit(np.sqrt(edges[1:] * edges[:-1]), counts)
    assert binned == pytest.approx(weibull_fit(sample, ones(sample)), rel=0.01)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], []),
        ([2.0], [5]),
        ([2.0, 2.0, 2.0], [1, 2, 3]),
        ([0.0, 2.0], [4, 5]),
        ([-1.0, 2.0], [4, 5]),
        ([1.0, 2.0], [0, 5]),
        ([1.0, math.inf], [1, 1]),
        ([math.nan, 1.0], [1, 1]),
    ],
    ids=["none", "one", "one repeated", "zero and one", "negative and one", "one counted", "infinite", "not a number and one"],
)
def test_a_fit_to_fewer_than_two_different_values_is_nan(values: list[float], counts: list[int]) -> None:
    assert all(map(math.isnan, weibull_fit(np.array(values), np.array(counts))))


@pytest.mark.parametrize(
    "values", [[1.0, 1.0 + 1e-6], [1e-300, 1e300], [5e-324, 1.0], [1.0, 1.001, 1.002]], ids=["close", "far", "subnormal", "narrow"]
)
def test_a_fit_to_any_two_different_values_is_found(values: list[float]) -> None:
    x = np.array(values)
    shape, scale = weibull_fit(x, ones(x))
    assert shape > 0
    assert x.min() <= scale <= x.max()
    logs = np.log(x) - np.log(x.max())
    weights = np.exp(shape * logs)
    assert weights @ logs / weights.sum() - 1 / shape == pytest.approx(logs.mean(), rel=1e-6)


# Tails


@pytest.mark.parametrize("sigmas", [0, 0.5, 1, 2, 3, 5])
def test_the_share_beyond_is_the_integral(sigmas: float) -> None:
    above, _ = integrate.quad(lambda x: x * math.exp(-(x**2) / 2), sigmas, 40)
    total, _ = integrate.quad(lambda x: x * math.exp(-(x**2) / 2), 0, 40)
    assert gaussian_share_beyond(sigmas) == pytest.approx(above / total, rel=1e-6)


def test_coins_are_expected_where_they_fall() -> None:
    edges = np.linspace(0, 100, 201)
    expected = binomial_shares(np.array([10] * 4000 + [40] * 6000), 0.5, edges)
    assert expected.sum() == pytest.approx(10_000)
    random = np.random.default_rng(0)
    drawn = np.concatenate([100 * random.binomial(n, 0.5, m) / n for n, m in ((10, 4000), (40, 6000))])
    counts = np.histogram(drawn, edges)[0]
    seen = expected > 5
    assert stats.chisquare(counts[seen], expected[seen] * counts[seen].sum() / expected[seen].sum()).pvalue > 1e-3


def test_concentration_of_equal_shares_and_of_one_owner() -> None:
    equal = (np.array([2.0]), np.array([100]))
    assert gini(*equal) == pytest.approx(0)
    assert top_share(*equal, 0.01) == pytest.approx(1)
    assert fraction_holding(*equal, 0.9) == pytest.approx(90)
    owner = (np.array([0.0, 5.0]), np.array([99, 1]))
    assert gini(*owner) == pytest.approx(0.99)
    assert top_share(*owner, 0.01) == pytest.approx(100)
    assert fraction_holding(*owner, 0.9) == pytest.approx(0.9, abs=0.11)
    assert np.isnan(gini(np.zeros(3), np.ones(3)))


def test_gini_is_half_the_relative_mean_difference() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    difference = np.abs(values[:, None] - values[None]).mean()
    assert gini(values, np.ones(300)) == pytest.approx(difference / (2 * values.mean()), rel=1e-10)
