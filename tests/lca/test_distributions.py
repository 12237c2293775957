import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from replication.lca.distributions import binomial_shares, fraction_holding, gaussian_share_beyond, gini, top_share, weibull_fit

# Weibull


def ones(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values))


@pytest.mark.parametrize("shape", [0.3, 0.53, 1.0, 2.0])
def test_the_fit_is_the_one_of_scipy(shape: float) -> None:
    sample = 5e-8 * np.random.default_rng(0).weibull(shape, 3000)
    expected_shape, _, expected_scale = stats.weibull_min.fit(sample / 5e-8, floc=0)
    fitted = weibull_fit(sample, ones(sample))
    assert fitted == pytest.approx((expected_shape, 5e-8 * expected_scale), rel=1e-3)
    assert fitted == pytest.approx((shape, 5e-8), rel=0.1)


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
