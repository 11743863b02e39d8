"""Windows of tables of any length: short ones too have seasons, and what lies before a table is not learned."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series import transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.train import IMPROVED, fit_forecaster, new_forecaster
from tests.follower import Follower


def seasonal(steps, freq, season, noise=1.0):
    t = np.arange(steps)
    values = 100 + 20 * np.sin(2 * np.pi * t / season) + np.random.default_rng(0).normal(0, noise, steps)
    return pd.DataFrame({"x": values}, pd.date_range("2001-01-01", periods=steps, freq=freq))


@settings(max_examples=60, deadline=None)
@given(st.integers(12, 400), st.integers(1, 60), st.sampled_from(["D", "W-MON", "MS", "QS"]))
def test_from_twelve_rows_on_there_are_windows_to_learn_from(steps, horizon, freq):
    config = transforms.make_config(read_series(seasonal(steps, freq, 4)), horizon)
    assert config.context + max(config.lags) - config.padding + 2 * config.ahead <= steps
    assert config.horizon == horizon and config.ahead <= horizon and config.history < steps
    assert all(lag <= 2 or 2 * lag <= steps for lag in config.lags)


@pytest.mark.parametrize(("freq", "season"), [("MS", 12), ("W-MON", 52), ("D", 7)])
def test_two_seasons_give_a_lag_of_a_season(freq, season):
    steps = 2 * season
    assert season in transforms.make_config(read_series(seasonal(steps, freq, season)), 4).lags
    assert season not in transforms.make_config(read_series(seasonal(steps - 1, freq, season)), 4).lags


def test_fewer_than_twelve_rows_are_refused():
    with pytest.raises(UserError, match="the series have 11 steps, but training needs 12: bring more data"):
        transforms.make_config(read_series(seasonal(11, "MS", 12)), 3)


def test_lags_before_the_table_say_nothing_and_are_not_learned():
    series = read_series(seasonal(36, "MS", 12))
    config = transforms.make_config(series, 12)
    assert config.padding == 8 and max(config.lags) == 12
    forecaster = new_forecaster(series, config)
    window = transforms.window_reader(series, config, torch.device("cpu"))(torch.tensor([-config.padding]))
    inputs, _, learned = transforms.training_example(forecaster.config, forecaster.network, window)
    rows = torch.arange(inputs.shape[1]) + max(config.lags) - config.padding  # of the table
    assert (learned[0, :, 0] == (rows >= 12)).all()
    assert not inputs[0, rows < 12, 1].any() and inputs[0, rows >= 12, 1].any()  # lag 12 is the second input
    values = series.values["x"].to_numpy()
    torch.testing.assert_close(window[0][0, config.padding :, 0], torch.from_numpy(values[: len(window[0][0]) - 8]))


@pytest.mark.parametrize(("freq", "steps", "season"), [("QS", 16, 4), ("MS", 36, 12)])
def test_a_season_is_seen_in_a_short_table(freq, steps, season, tmp_path):
    frame = seasonal(steps + season, freq, season)
    known, truth = frame.iloc[:steps], frame.iloc[steps:]
    how = replace(IMPROVED, steps=2, batch_size=8)
    forecaster = fit_forecaster(known, season, tmp_path, settings=how, monitor=Follower())
    median = forecaster.forecast(known, samples=40).quantile(0.5)
    assert np.abs(median - truth).to_numpy().mean() < 0.4 * np.abs(known.iloc[-1] - truth).to_numpy().mean()
