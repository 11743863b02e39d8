"""The scores against gluonts' own evaluator, and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.systems.series import metrics

pytest.importorskip("gluonts")


@pytest.mark.parametrize("samples", [1, 7, 100])
def test_scores_are_those_of_gluonts(samples):
    from gluonts.evaluation import MultivariateEvaluator
    from gluonts.model.forecast import SampleForecast

    rng = np.random.default_rng(samples)
    truth = rng.normal(2, 1, (4, 6, 3))
    paths = truth[:, None] + rng.normal(0.2, 1.5, (4, samples, 6, 3))
    start = pd.Period("2020-01-01", freq="D")
    evaluator = MultivariateEvaluator(quantiles=metrics.LEVELS, target_agg_funcs={"sum": np.sum}, num_workers=0)
    stamps = pd.period_range(start, periods=6, freq="D")
    found, _ = evaluator(
        [pd.DataFrame(window, stamps) for window in truth], [SampleForecast(window, start) for window in paths]
    )
    own = metrics.scores(paths, truth)
    assert own["crps"] == pytest.approx(found["mean_wQuantileLoss"], rel=1e-6)
    assert own["crps_sum"] == pytest.approx(found["m_sum_mean_wQuantileLoss"], rel=1e-6)
    assert own["nd"] == pytest.approx(found["ND"], rel=1e-6)
    assert own["nd_sum"] == pytest.approx(found["m_sum_ND"], rel=1e-6)


def test_a_point_forecast_scores_its_absolute_error():
    truth, paths = np.full((1, 2, 1), 4.0), np.full((1, 5, 2, 1), 3.0)
    assert metrics.scores(paths, truth) == pytest.approx({"crps": 0.25, "nd": 0.25, "crps_sum": 0.25, "nd_sum": 0.25})


def test_missing_truth_counts_nothing():
    truth, paths = np.array([[[4.0], [np.nan]]]), np.full((1, 5, 2, 1), 3.0)
    assert metrics.scores(paths, truth)["crps"] == pytest.approx(0.25)


def test_window_scores_average_to_the_score():
    rng = np.random.default_rng(0)
    truth, paths = rng.normal(5, 1, (6, 4, 3)), rng.normal(5, 1, (6, 20, 4, 3))
    assert metrics.window_scores(paths, truth).mean() == pytest.approx(metrics.scores(paths, truth)["crps_sum"])


def test_scores_of_each_series_are_those_of_gluonts():
    """MASE, sMAPE, WQL, scaled CRPS, and the share below each quantile, of three series in four windows."""
    from gluonts.evaluation import Evaluator
    from gluonts.model.forecast import SampleForecast

    rng, horizon, starts, season = np.random.default_rng(0), 6, [40, 46, 52, 60], 7
    values = rng.normal(20, 3, (70, 3))
    truth = np.stack([values[start : start + horizon] for start in starts])
    paths = truth[:, None] + rng.normal(0.3, 2, (4, 50, horizon, 3))
    scale = np.stack([metrics.seasonal_scale(values[:start], season) for start in starts])
    stamps = pd.period_range("2024-01-01", periods=70, freq="D")
    items = [(window, d) for d in range(3) for window in range(4)]
    evaluator = Evaluator(metrics.LEVELS, seasonality=season, num_workers=0)
    whole, found = evaluator(
        [pd.DataFrame(values[: starts[w] + horizon, d], stamps[: starts[w] + horizon]) for w, d in items],
        [SampleForecast(paths[w, ..., d], stamps[starts[w]]) for w, d in items],
    )
    own = metrics.series_scores(paths, truth, scale)
    by_series = found.assign(series=np.repeat(range(3), 4)).groupby("series")
    np.testing.assert_allclose(own["MASE"], by_series["MASE"].mean())
    np.testing.assert_allclose(own["sMAPE"], by_series["sMAPE"].mean())
    names = [f"QuantileLoss[{level}]" for level in metrics.LEVELS]
    sums = by_series[[*names, "abs_target_sum"]].sum()
    np.testing.assert_allclose(own["WQL"], sums[names].mean(axis=1) / sums["abs_target_sum"])
    scaled = (found[names].mean(axis=1) / found["seasonal_error"] / horizon).groupby(np.repeat(range(3), 4)).mean()
    np.testing.assert_allclose(own["scaled CRPS"], scaled)
    below = by_series[[f"Coverage[{level}]" for level in metrics.LEVELS]].mean().to_numpy().T
    np.testing.assert_allclose(metrics.shares_below(paths, truth), below)
    assert own["within 90 %"].mean() == pytest.approx(metrics.coverage(paths, truth))
    assert whole["MASE"] == pytest.approx(own["MASE"].mean())


def test_bands_hold_what_lies_between_their_quantiles():
    """Of the paths 0, 1, ..., 20 the bands of 80 and 90 % are from 2 to 18 and from 1 to 19, ends included."""
    paths = np.arange(21.0)[None, :, None, None] * np.ones((1, 1, 5, 2))
    truth = np.array([[0, 1], [1, 2], [2, 18], [18, 19], [19.5, np.nan]])[None]
    own = metrics.series_scores(paths, truth, np.ones((1, 2)))
    np.testing.assert_allclose(own["within 80 %"], [2 / 5, 2 / 4])
    np.testing.assert_allclose(own["within 90 %"], [3 / 5, 4 / 4])


def test_zero_denominators_are_no_number_and_what_is_left_counts():
    scale = metrics.seasonal_scale(np.array([[0.0, 5, 1], [0, 5, 3], [0, 5, 3]]), 1)
    np.testing.assert_array_equal(scale, [np.nan, np.nan, 1])
    np.testing.assert_array_equal(metrics.seasonal_error(np.zeros((3, 1)), 1), [1])
    truth, paths = np.array([[[0.0, 0, 2], [0, 4, np.nan]]]), np.zeros((1, 5, 2, 3))
    own = metrics.series_scores(paths, truth, scale[None])
    np.testing.assert_allclose(own["MASE"], [np.nan, np.nan, 2])
    np.testing.assert_allclose(own["sMAPE"], [np.nan, 2, 2])  # the step where both are 0 is left out
    np.testing.assert_allclose(own["WQL"], [np.nan, 1, 1])
    np.testing.assert_allclose(own["scaled CRPS"], [np.nan, np.nan, 2])


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_scores_of_a_series_do_not_depend_on_its_unit(seed, unit):
    rng = np.random.default_rng(seed)
    values, paths = rng.normal(5, 2, (20, 2)), rng.normal(5, 2, (2, 9, 4, 2))
    truth = np.stack([values[12:16], values[16:20]])

    def scores(unit):
        scale = np.stack([metrics.seasonal_scale(unit * values[:start], 3) for start in (12, 16)])
        return metrics.series_scores(unit * paths, unit * truth, scale)

    for name, expected in scores(1.0).items():
        np.testing.assert_allclose(scores(unit)[name], expected, rtol=1e-9)


def test_calibrated_forecasts_have_each_share_below_its_level():
    """Of the paths 0, 1, ..., 20 the quantile of level k / 20 is k; of a truth between two each, k lie below."""
    paths = np.arange(21.0)[None, :, None, None] * np.ones((1, 1, 20, 1))
    truth = np.arange(20)[None, :, None] + 0.5
    np.testing.assert_allclose(metrics.shares_below(paths, truth)[:, 0], metrics.LEVELS)
    np.testing.assert_array_equal(metrics.shares_below(paths, truth + 100), np.zeros((19, 1)))
