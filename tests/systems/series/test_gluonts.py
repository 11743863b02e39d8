"""The real evaluator of gluonts on a forecaster."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("gluonts")

from dataclasses import replace

from gluonts.dataset.common import ListDataset
from gluonts.evaluation import Evaluator, MultivariateEvaluator, make_evaluation_predictions

from inkwash.errors import UserError
from inkwash.systems.series import metrics
from inkwash.systems.series.gluonts import InkwashPredictor
from inkwash.systems.series.train import IMPROVED, fit_forecaster


@pytest.fixture(scope="module")
def forecaster():
    values = 50 + np.random.default_rng(0).normal(0, 1, (300, 2)).cumsum(0)
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=300), ["a", "b"])
    settings = replace(IMPROVED, steps=2, batch_size=8)
    return frame, fit_forecaster(frame, 5, context=20, settings=settings)


def entries(frame, joint):
    start = pd.Period("2024-01-01", freq="D")
    if joint:
        return ListDataset([{"start": start, "target": frame.to_numpy().T}], freq="D", one_dim_target=False)
    return ListDataset([{"start": start, "target": column} for column in frame.to_numpy().T], freq="D")


def test_all_series_in_one_entry(forecaster):
    frame, model = forecaster
    drawn, truth = make_evaluation_predictions(entries(frame, True), InkwashPredictor(model, seed=3), 20)
    drawn, truth = list(drawn), list(truth)
    found, _ = MultivariateEvaluator(metrics.LEVELS, target_agg_funcs={"sum": np.sum}, num_workers=0)(truth, drawn)
    paths = model.forecast(frame.iloc[:-5], samples=20, seed=3).samples
    own = metrics.scores(paths[None], frame.to_numpy()[None, -5:])
    assert own["crps_sum"] == pytest.approx(found["m_sum_mean_wQuantileLoss"], rel=1e-5)


def test_one_series_an_entry(forecaster):
    frame, model = forecaster
    drawn, truth = make_evaluation_predictions(entries(frame, False), InkwashPredictor(model, seed=3), 20)
    found, by_series = Evaluator(metrics.LEVELS, num_workers=0)(list(truth), list(drawn))
    paths = model.forecast(frame.iloc[:-5], samples=20, seed=3).samples
    own = metrics.scores(paths[None], frame.to_numpy()[None, -5:])
    assert len(by_series) == 2 and own["crps"] == pytest.approx(found["mean_wQuantileLoss"], rel=1e-5)


def test_it_can_be_the_diffusion_model_alone(forecaster):
    frame, model = forecaster
    (pooled,), (alone,) = (
        list(InkwashPredictor(model, seed=3, **how).predict(entries(frame, True), 10))
        for how in ({}, {"alone": True})
    )
    np.testing.assert_allclose(
        alone.samples, model.forecast(frame, samples=10, seed=3, alone=True).samples, rtol=1e-5
    )
    np.testing.assert_allclose(pooled.samples, model.forecast(frame, samples=10, seed=3).samples, rtol=1e-5)
    assert not np.allclose(alone.samples, pooled.samples, rtol=1e-3)


def test_series_left_over_are_named(forecaster):
    frame, model = forecaster
    with pytest.raises(UserError, match="1 entries of the data set are left over"):
        list(InkwashPredictor(model).predict(entries(frame[["a"]], False)))
