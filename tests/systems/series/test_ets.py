"""Exponential smoothing against statsmodels' own, laws that are known, and what units must not change."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.series import ets, metrics


def sampled(history, horizon=6, samples=4000, season=1, seed=0):
    return ets.ets(history, horizon, samples, np.random.default_rng(seed), season)


def seasonal(steps=200, season=4, seed=0):
    rng = np.random.default_rng(seed)
    return (
        np.tile([3.0, -1, 0, -2], steps // season) + rng.normal(0, 0.2, steps).cumsum() + rng.normal(0, 1, steps)
    )[:, None]


def test_of_one_point_of_the_grid_it_is_the_forecast_of_statsmodels(monkeypatch):
    """Mean and band of ETS(A, Ad, A); of so many rows the first state is forgotten."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    y = seasonal()
    monkeypatch.setattr(ets, "WIDER", 0.0)
    monkeypatch.setattr(ets, "ALPHAS", (0.5,))
    monkeypatch.setattr(ets, "TRENDS", ((0.2, 0.9, 0.3),))
    monkeypatch.setattr(ets, "SEASONS", ((0.2, 3.0),))
    series = pd.Series(y[:, 0], pd.date_range("1970-01-01", periods=len(y), freq="QS"))
    model = ETSModel(series, trend="add", damped_trend=True, seasonal="add", seasonal_periods=4,
                     initialization_method="heuristic")  # fmt: skip
    theirs = model.smooth([0.5, 0.1, 0.2, 0.9]).get_prediction(len(y), len(y) + 7).summary_frame(alpha=0.1)
    paths = sampled(y, 8, 20_000, 4)[..., 0]
    width = (theirs.pi_upper - theirs.pi_lower).to_numpy()
    np.testing.assert_allclose(paths.mean(0), theirs["mean"], atol=0.01)
    low, high = np.quantile(paths, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(high - low, width, rtol=0.03)


def test_the_errors_are_those_of_statsmodels():
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    y = seasonal(40)
    grid = ets.make_grid(4)
    point = int(np.flatnonzero((grid.alpha == 0.4) & (grid.phi == 0.9) & (grid.gamma == 0.3))[0])
    alpha, beta, phi, gamma = (float(each[point, 0]) for each in grid[:4])
    model = ETSModel(y[:, 0], trend="add", damped_trend=True, seasonal="add", seasonal_periods=4,
                     initialization_method="known", initial_level=1.0, initial_trend=0.1,
                     initial_seasonal=[2.0, -1.0, 0.5, -1.5])  # fmt: skip
    errors, _ = ets.smooth(grid, y, np.array([[1.0], [0.1], [2.0], [-1.0], [0.5], [-1.5]]))
    np.testing.assert_allclose(errors[point, :, 0], model.smooth([alpha, beta, gamma, phi]).resid, atol=1e-12)


def test_the_evidence_is_that_of_the_normal_law(monkeypatch):
    """p(y) with sigma integrated out by 1 / sigma: a t density, up to a constant that all points have."""
    y, points = seasonal(12)[:5], []
    monkeypatch.setattr(ets, "ALPHAS", (0.2, 0.8))
    grid = ets.make_grid(4)
    found = ets.fit(grid, y)
    for k in range(len(grid.alpha)):
        one = ets.Grid(*(each[[k]] for each in grid))
        by_error = ets.smooth(one, np.eye(5), np.zeros((6, 5)))[0][0]  # errors by values: e = L y - A x
        by_state = ets.smooth(one, np.zeros((5, 6)), np.eye(6))[0][0] * grid.deviation[k]
        covariance = np.linalg.inv(by_error) @ (np.eye(5) + by_state @ by_state.T) @ np.linalg.inv(by_error).T
        square = float(y[:, 0] @ np.linalg.solve(covariance, y[:, 0]))
        points.append(-np.linalg.slogdet(covariance)[1] / 2 - 5 / 2 * np.log(square))
    np.testing.assert_allclose(found.evidence[:, 0] - found.evidence[0, 0], np.array(points) - points[0], atol=1e-6)


def test_autoregressions_are_foretold_nearly_as_well_as_by_their_law():
    """x_t = 0.8 x_{t-1} + e_t about 10: mean 10 + 0.8^h (x_T - 10), variance (1 - 0.64^h) / 0.36."""
    rng, x = np.random.default_rng(1), np.zeros((208, 60))
    for t in range(1, 208):
        x[t] = 0.8 * x[t - 1] + rng.standard_normal(60)
    ahead = np.arange(1, 9)[:, None]
    law = 0.8**ahead * x[199] + np.sqrt((1 - 0.64**ahead) / 0.36) * rng.standard_normal((400, 8, 60))
    losses = [metrics.quantile_loss(paths, x[200:]).mean() for paths in (sampled(10 + x[:200], 8, 400) - 10, law)]
    assert losses[0] < 1.05 * losses[1]


def test_the_season_is_found_in_two_of_them():
    """Two years of months: the third is foretold to the noise about it."""
    month = 5 * np.sin(np.arange(36) * np.pi / 6)
    history = month + np.random.default_rng(0).normal(0, 0.3, 36)
    paths = sampled(history[:24, None], 12, season=12)[..., 0]
    assert np.abs(np.median(paths, 0) - month[24:]).max() < 1.0


def test_bands_of_a_dozen_rows_hold_what_they_say():
    """Of 200 random walks of 12 rows: parameters and sigma are not known, and the band says so."""
    walks = np.random.default_rng(0).standard_normal((16, 200)).cumsum(0)
    paths = sampled(walks[:12], 4, 400)
    low, high = np.quantile(paths, [0.05, 0.95], axis=0)
    assert 0.85 < ((low <= walks[12:]) & (walks[12:] <= high)).mean() < 0.95


def test_growth_by_a_factor_goes_on_and_stays_positive():
    history = np.exp(0.05 * np.arange(100) + np.random.default_rng(0).normal(0, 0.1, 100))[:, None]
    paths = sampled(history, 5)
    np.testing.assert_allclose(np.median(paths, 0)[:, 0], np.exp(0.05 * np.arange(100, 105)), rtol=0.1)
    assert paths.min() > 0


def test_series_that_move_together_are_forecast_together():
    rng = np.random.default_rng(0)
    steps = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 200).cumsum(0)
    assert np.corrcoef(sampled(steps, 1)[:, 0].T)[0, 1] == pytest.approx(0.9, abs=0.06)


def test_what_never_moves_stays():
    np.testing.assert_allclose(
        sampled(np.full((30, 2), [7.0, 0.0]), 3, 5, season=12), np.full((5, 3, 2), [7.0, 0.0]), atol=1e-9
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-9, 1e-3, 10.0, 1e9]), st.sampled_from([1, 4]), st.booleans())
def test_units_change_nothing(seed, unit, season, positive):
    history = np.random.default_rng(seed).normal(50 if positive else 0, 1, (30, 2))
    first, other = (sampled(each, 3, 6, season, seed) for each in (history, history * unit))
    np.testing.assert_allclose(other / unit, first, rtol=1e-6, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 40), st.integers(1, 9))
def test_any_length_and_number_of_paths_is_finite_and_of_its_seed(seed, length, samples):
    history = np.random.default_rng(seed).normal(0, 1, (length, 2))
    paths = sampled(history, 5, samples, 12, seed)
    assert paths.shape == (samples, 5, 2) and np.isfinite(paths).all()
    np.testing.assert_array_equal(paths, sampled(history, 5, samples, 12, seed))
