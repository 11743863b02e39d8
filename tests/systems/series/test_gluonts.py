"""The real evaluator of gluonts on a forecaster."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("gluonts")

import pickle
from dataclasses import replace

from gluonts.dataset.common import ListDataset
from gluonts.evaluation import Evaluator, MultivariateEvaluator, make_evaluation_predictions
from gluonts.model.predictor import Predictor

from inkwash.errors import UserError
from inkwash.systems.series import metrics
from inkwash.systems.series.gluonts import InkwashPredictor
from inkwash.systems.series.train import IMPROVED, fit_forecaster
from inkwash.systems.series.transforms import ForeignSeries


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


def windows(frame, count):
    """Of the same values, so that only the noise differs."""
    start = pd.Period("2024-01-01", freq="D")
    return ListDataset([{"start": start, "target": frame.to_numpy().T}] * count, freq="D", one_dim_target=False)


def test_windows_have_noise_of_their_own(forecaster):
    frame, model = forecaster
    one, two = (each.samples[:, -1, 0] for each in InkwashPredictor(model).predict(windows(frame, 2), 100))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.35  # 100 paths: 3.5 standard errors
    again = [each.samples for each in InkwashPredictor(model).predict(windows(frame, 2), 100)]
    np.testing.assert_array_equal(again[1][:, -1, 0], two)


def test_it_survives_gluonts_own_files_and_pickle(forecaster, tmp_path):
    frame, model = forecaster
    predictor = InkwashPredictor(model, seed=4, steps=3)
    predictor.serialize(tmp_path)
    before = next(predictor.predict(windows(frame, 1), 10)).samples
    loaded = Predictor.deserialize(tmp_path)
    assert (loaded.seed, loaded.options) == (4, {"steps": 3})
    np.testing.assert_allclose(next(loaded.predict(windows(frame, 1), 10)).samples, before, rtol=1e-3)  # float16
    pickled = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(next(pickled.predict(windows(frame, 1), 10)).samples, before)


def test_another_clock_is_refused(forecaster):
    frame, model = forecaster
    target = frame.to_numpy().T
    hourly = [{"start": pd.Period("2024-01-01", freq="h"), "target": target}]
    with pytest.raises(UserError, match="the entry has the frequency 'h', the model was trained on 'D'"):
        list(InkwashPredictor(model).predict(hourly))
    start = pd.Period("2024-01-01", freq="D")
    for other in ({"start": start + 1, "target": target[1]}, {"start": start, "target": target[1][:-1]}):
        with pytest.raises(UserError, match="must begin and end alike"):
            list(InkwashPredictor(model).predict([{"start": start, "target": target[0]}, other]))


def test_covariates_are_taken_from_the_entry(tmp_path):
    shop = np.random.default_rng(0).integers(0, 2, 300).astype(float)
    sales = 10 * shop + np.random.default_rng(1).normal(0, 0.3, 300)
    frame = pd.DataFrame({"sales": sales, "shop": shop}, pd.date_range("2024-01-01", periods=300))
    frame.loc[frame.index[295:], "sales"] = np.nan
    how = replace(IMPROVED, steps=2, batch_size=8)
    predictor = InkwashPredictor(fit_forecaster(frame, 5, tmp_path, settings=how, feat_dynamic_real=["shop"]))
    entry = {"start": pd.Period("2024-01-01", freq="D"), "target": sales[None, :295]}
    found = next(predictor.predict([entry | {"feat_dynamic_real": shop[None]}], 40)).samples
    np.testing.assert_allclose(np.median(found, 0)[:, 0], 10 * shop[295:], atol=2.5)
    with pytest.raises(UserError, match="the model takes 1 covariates, feat_dynamic_real of the entry has 0"):
        next(predictor.predict([entry]))


def test_another_scale_is_a_warning_and_infinity_is_refused(forecaster):
    frame, model = forecaster
    (entry,) = entries(frame, True)
    with pytest.warns(ForeignSeries, match="it is forecast in its own scale"):
        next(InkwashPredictor(model).predict([entry | {"target": entry["target"] * 1e4}], num_samples=2))
    for wrong in ({"target": np.full_like(entry["target"], np.inf)}, {"start": pd.Timestamp("2024-01-01")}):
        with pytest.raises(UserError, match="its start must be a Period, its target finite or NaN"):
            next(InkwashPredictor(model).predict([entry | wrong]))
