"""A block is the same walk as step by step."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import horizon_at_once
from inkwash.systems.series import train, transforms
from inkwash.systems.series.data import read_series


@pytest.fixture(scope="module")
def prepared():
    """A season and noise in two series that move together, and a forecaster that no network has learned for."""
    month, rng = np.arange(140), np.random.default_rng(0)
    season, noise = np.sin(np.pi * month / 6), rng.normal(0, 0.3, (2, 140))
    columns = {"a": 10 + season + noise[0], "b": 5 - season + noise[0] + noise[1]}
    series = read_series(pd.DataFrame(columns, pd.date_range("2000", periods=140, freq="MS")), freq="MS")
    forecaster = train.new_forecaster(series, transforms.make_config(series, 5))
    forecaster.network.eval()
    return series, forecaster


def test_the_regression_rolled_forward_with_what_it_leaves_is_the_truth(prepared):
    series, forecaster = prepared
    seen = type(forecaster)(forecaster.network, replace(forecaster.config, inflation=[]))  # as it was fitted
    windows = horizon_at_once.read_windows(seen, series, torch.arange(20))
    values, _ = horizon_at_once.roll(seen, *windows["before"], windows["target"])
    assert not forecaster.config.random_walk and not torch.allclose(windows["centre"], windows["truth"], atol=0.1)
    assert torch.allclose(values, windows["truth"], atol=1e-5)


def test_it_leads_where_the_forecaster_walks_with_the_same_steps(prepared):
    series, forecaster = prepared
    config, start, seeds = forecaster.config, 130, [1, 2, 3]
    y = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    first = start - config.context - max(config.lags)
    windows = horizon_at_once.read_windows(forecaster, series, torch.tensor([first] * 3))
    values, _ = horizon_at_once.roll(forecaster, *windows["before"], y, forecaster.path_drift(seeds))
    raw, net = series.values.to_numpy(np.float64), forecaster.network
    tables = (raw[None, first:start], ~np.isnan(raw), transforms.covariates(series, config, 0))
    history = forecaster.encode_history(*map(torch.from_numpy, tables), start, 5, net)
    walked = forecaster.unroll([history] * 3, seeds, 5, lambda seeds, condition, hooks, step: y[:, int(step)], net)
    assert values.numpy() == pytest.approx(walked, abs=1e-5)
