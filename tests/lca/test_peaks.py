"""Peaks and coincidences counted by hand, nulls against their exact means, and p values that are as often small as they say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ReplicationError
from replication.lca import peaks


def random_marks(seed: int = 0, shape: tuple[int, int, int] = (3, 4, 60), share: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


def test_peaks_are_strict_minima_below_zero() -> None:
    series = np.array([-9.0, -1, -3, -2, -2, -2, -5, 1, 0.5, 1, -4, -4, 0, -1, -9])
    assert np.flatnonzero(peaks.peaks(series)).tolist() == [2, 6]


def test_only_the_deepest_are_kept_and_the_earlier_of_equals() -> None:
    series = np.array([0, -1, 0, -3, 0, -2, 0, -3, 0, -2.0, 0])
    assert np.flatnonzero(peaks.peaks(series, most=2)).tolist() == [3, 7]
    assert np.flatnonzero(peaks.peaks(series, most=3)).tolist() == [3, 5, 7]
    assert np.flatnonzero(peaks.peaks(series, most=0)).tolist() == []


def test_what_is_not_finite_is_no_peak() -> None:
    series = np.array([0, -1, 0, -np.inf, 0, -1, np.nan, -1, 0, -1, 0])
    assert np.flatnonzero(peaks.peaks(series)).tolist() == [1, 9]
    assert not peaks.peaks(np.zeros((2, 0))).any()
    assert not peaks.peaks(np.array([-1.0])).any()


@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_peaks_agree_with_a_loop(seed: int, dtype: type) -> None:
    series = np.random.default_rng(seed).normal(size=(2, 3, 40)).astype(dtype)
    marked = peaks.peaks(series, most=4)
    for place in np.ndindex(2, 3):
        values = series[place].tolist()
        minima = [t for t in range(1, 39) if values[t] < min(values[t - 1], values[t + 1], 0)]
        assert np.flatnonzero(marked[place]).tolist() == sorted(sorted(minima, key=lambda t: values[t])[:4])


def test_coincidences_need_every_layer_and_the_same_class() -> None:
    marks = np.zeros((3, 2, 10), dtype=bool)
    marks[:, 0, 4] = True
    marks[:2, 1, 7] = True
    marks[2, 0, 7] = True
    assert peaks.coincidences(marks) == 1


@pytest.mark.parametrize("null", [peaks.shifted, peaks.shuffled])
def test_shifts_and_shuffles_have_their_exact_mean(null) -> None:
    """Of n_l peaks in T steps, a step of layer l is one with probability n_l / T, and layers are independent."""
    marks = random_marks(share=0.3)
    per_class = marks.sum(axis=2)
    expected = (per_class.prod(axis=0) / 60.0**2).sum()
    counts = null(marks, 6000, np.random.default_rng(1))
    assert counts.mean() == pytest.approx(expected, abs=5 * counts.std() / np.sqrt(6000))


def test_all_shifts_are_drawn_alike() -> None:
    marks = random_marks(shape=(2, 3, 7), share=0.4)
    every = [peaks.coincidences(np.stack([marks[0], np.roll(marks[1], shift, axis=-1)])) for shift in range(7)]
    counts = peaks.shifted(marks, 7000, np.random.default_rng(0))
    for value in set(every):
        assert np.mean(counts == value) == pytest.approx(every.count(value) / 7, abs=0.03)


def test_other_classes_have_their_exact_mean() -> None:
    marks = random_marks(shape=(3, 5, 60), share=0.3)
    triples = list(itertools.permutations(range(5), 3))
    expected = 5 * np.mean([(marks[0, a] & marks[1, b] & marks[2, c]).sum() for a, b, c in triples])
    counts = peaks.of_other_classes(marks, 4000, np.random.default_rng(1))
    assert counts.mean() == pytest.approx(expected, abs=5 * counts.std() / np.sqrt(4000))


def test_each_null_keeps_what_it_should() -> None:
    """Layers in step: without reach nothing moves; peaks shared by all classes survive another class, and no shift or shuffle."""
    random = np.random.default_rng(0)
    one = random.random(300) < 0.05
    common = np.broadcast_to(one, (3, 4, 300)).copy()
    observed = peaks.coincidences(common)
    assert (peaks.shifted(common, 50, random, reach=0) == observed).all()
    assert (peaks.of_other_classes(common, 50, random) == observed).all()
    assert peaks.ratio(observed, peaks.shifted(common, 500, random)) > 20
    assert peaks.ratio(observed, peaks.shuffled(common, 500, random)) > 20
    special = np.broadcast_to(random.random((4, 300)) < 0.05, (3, 4, 300)).copy()
    assert peaks.ratio(peaks.coincidences(special), peaks.of_other_classes(special, 500, random)) > 20


def test_near_shifts_keep_the_course_of_training() -> None:
    """Independent layers, all busy early on: far shifts call that synchrony, near ones do not."""
    random = np.random.default_rng(3)
    share = np.where(np.arange(400) < 60, 0.3, 0.0)
    marks = random.random((3, 10, 400)) < share
    observed = peaks.coincidences(marks)
    assert peaks.ratio(observed, peaks.shifted(marks, 1000, random)) > 10
    assert peaks.ratio(observed, peaks.shifted(marks, 1000, random, reach=10)) < 1.5


def test_p_values_of_independent_layers_are_rarely_small() -> None:
    p_values = []
    for seed in range(60):
        marks = random_marks(seed, (3, 4, 40), 0.3)
        p_values.append(peaks.p_value(peaks.coincidences(marks), peaks.shifted(marks, 200, np.random.default_rng(seed))))
    assert np.mean(np.array(p_values) <= 0.1) < 0.25
    assert min(p_values) >= 1 / 201


def test_ratio_and_p_value() -> None:
    null = np.array([0, 1, 2, 1])
    assert peaks.ratio(3, null) == 3
    assert peaks.p_value(2, null) == pytest.approx(2 / 5)
    assert peaks.ratio(1, np.zeros(3)) == np.inf
    assert np.isnan(peaks.ratio(0, np.zeros(3)))


def test_the_same_generator_gives_the_same_draws_and_marks_are_not_changed() -> None:
    marks = random_marks()
    before = marks.copy()
    for null in (peaks.shifted, peaks.shuffled, peaks.of_other_classes):
        assert (null(marks, 300, np.random.default_rng(5)) == null(marks, 300, np.random.default_rng(5))).all()
    assert (marks == before).all()


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(ReplicationError, match=r"reach of a shift is 60 steps; allowed: from 0 to 59\."):
        peaks.shifted(random_marks(), 10, np.random.default_rng(0), reach=60)
    with pytest.raises(ReplicationError, match="need as many classes, and there are 2; leave layers out"):
        peaks.of_other_classes(random_marks(shape=(3, 2, 60)), 10, np.random.default_rng(0))
