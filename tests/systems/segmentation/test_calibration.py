"""Temperatures and intervals on data whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.segmentation import calibration


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.2, (4, 1, 200, 200))
    truths = rng.random(z.shape) < 1 / (1 + np.exp(-z / temperature))
    means = 1 / (1 + np.exp(-z))
    assert calibration.fit_temperature(list(means), list(truths)) == pytest.approx(temperature, rel=0.03)


@given(st.floats(0.1, 10), st.floats(0, 1))
def test_calibration_keeps_the_side_and_the_order(temperature, p):
    found = float(calibration.calibrated(np.array([p]), temperature)[0])
    assert 0 <= found <= 1 and ((found - 0.5) * (p - 0.5) >= 0)
    assert calibration.calibrated(np.array([0.2, 0.7]), 1.0) == pytest.approx([0.2, 0.7])


@given(st.integers(19, 120), st.integers(0, 1000))
@settings(max_examples=30)
def test_the_interval_of_samples_covers_nine_tenths_of_new_ones(n, seed):
    """Exactly (k of n + 1 ranks) for continuous values; so the ranks are looked at."""
    values = np.random.default_rng(seed).permutation(n) + 1
    low, high = calibration.sample_interval(values.tolist())
    assert 0.9 - 1e-9 <= (high - low) / (n + 1) <= 0.9 + 2 / (n + 1)


def test_fewer_than_nineteen_samples_have_none():
    assert calibration.sample_interval([1.0] * 18) is None
    assert calibration.sample_interval(list(range(1, 20))) == (1, 19)
    assert calibration.sample_interval(list(range(1, 40))) == (2, 38)


def test_conformal_intervals_cover_new_counts():
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        true = rng.poisson(30, 32)
        found = true + rng.normal(0, 3, 32)
        q = calibration.fit_counts(found[:31].tolist(), true[:31].tolist())
        low, high = found[31] - q * (found[31] + 1) ** 0.5, found[31] + q * (found[31] + 1) ** 0.5
        covered.append(low <= true[31] <= high)
    assert 0.87 <= np.mean(covered) <= 0.95  # 29 of 32 ranks, 0.906
    assert calibration.fit_counts([1.0] * 8, [1.0] * 8) is None
    assert calibration.fit_counts([3.0] * 9, [3.0] * 9) == 0


def test_an_interval_of_counts_is_whole_and_never_below_nothing():
    assert calibration.count_interval(3, 1.0) == (1, 5)
    assert calibration.count_interval(1, 5.0) == (0, 8)
    assert calibration.count_interval(0, 0.0) == (0, 0)


def test_entropy_is_one_where_nothing_is_known():
    np.testing.assert_allclose(calibration.entropy(np.array([[[0.5, 0.0, 1.0]]])), [[1, 0, 0]], atol=1e-6)
    assert calibration.entropy(np.full((2, 1, 1), 1 / 3)) == pytest.approx(1)
