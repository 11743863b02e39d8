"""The scores against gluonts' own evaluator, and by hand."""

import numpy as np
import pandas as pd
import pytest

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
