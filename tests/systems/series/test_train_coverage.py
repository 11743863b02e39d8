"""Bands of short tables hold what they say, whatever the law; no network is trained, so the noise is normal."""

import numpy as np
import pandas as pd
import pytest
import torch

from inkwash.systems.series import transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.regression import simple_errors
from inkwash.systems.series.train import new_forecaster

ROWS, LEVELS = (12, 24, 36), np.array([0.8, 0.9])
CLOCKS = {"MS": (12, 12), "QS": (4, 8)}  # the season, and how far ahead


def walk(rows, season, rng):
    return rng.normal(0, 1, rows).cumsum()


def season(rows, season, rng):
    return rng.normal(0, 3, season)[np.arange(rows) % season] + rng.normal(0, 1, rows)


def trend(rows, season, rng):
    return rng.normal(0, 0.5) * np.arange(rows) + rng.normal(0, 1, rows)


def ar(rows, season, rng):
    x = rng.normal(0, 1, rows + 40)
    for k in range(1, len(x)):
        x[k] += 0.7 * x[k - 1]
    return x[40:]


def table(values, freq):
    return read_series(pd.DataFrame({"x": values}, pd.date_range("2001-01-01", periods=len(values), freq=freq)))


def inside(law, freq, rows, number):
    """(2,): the share of what came that lay in the bands of 80 and of 90 %."""
    rng = np.random.default_rng([2, number, rows])
    season, horizon = CLOCKS[freq]
    values = 100 + law(rows + horizon, season, rng)
    series = table(values[:rows], freq)
    forecaster = new_forecaster(series, transforms.make_config(series, horizon))
    paths = forecaster.paths(series, [rows], horizon, 100)[0, :, :, 0]
    low, high = (np.quantile(paths, 0.5 + sign * LEVELS / 2, axis=0) for sign in (-1, 1))
    return ((low <= values[rows:]) & (values[rows:] <= high)).mean(1)


@pytest.fixture
def normal_steps(monkeypatch):
    """What the sampler makes of an untrained network, without its calls."""

    def step_sampler(self, sampler, steps):
        generator = torch.Generator().manual_seed(0)
        return lambda seeds, *_: torch.randn(len(seeds), len(self.config.names), generator=generator)

    monkeypatch.setattr("inkwash.systems.series.rollout.Rollout.step_sampler", step_sampler)


@pytest.mark.slow
@pytest.mark.parametrize("law", [walk, season, trend, ar])
def test_bands_of_short_tables_hold_what_came(law, normal_steps):
    """40 series of each length, 20 a clock. Of twelve rows a law that comes back is not told from a walk: those bands
    may be wide."""
    held = {
        rows: np.mean([inside(law, freq, rows, k) for freq in CLOCKS for k in range(20)], axis=0) for rows in ROWS
    }
    assert all((share > LEVELS - 0.06).all() for share in held.values()), held
    assert (np.mean([held[24], held[36]], axis=0) < LEVELS + 0.08).all(), held


@pytest.mark.parametrize(("law", "rule", "others"), [(season, 2, (0, 1)), (trend, 1, (0,)), (ar, 0, (1,))])
def test_the_rule_that_fits_is_the_best(law, rule, others):
    values = np.stack([law(48, 12, np.random.default_rng(k)) for k in range(40)], axis=1)
    errors = np.median(simple_errors(values, 12, 6), axis=1)
    assert errors[rule] < 0.9 and all(errors[rule] < errors[other] for other in others)


def test_simple_errors_are_those_of_the_rules():
    """0, 1, 0, 1...: a season ago is exact; the last value is off by 1 every other step; a line is exact on lines."""
    errors = simple_errors(np.stack([np.arange(12.0) % 2, np.arange(12.0)], axis=1), 2, 1)
    assert errors[2, 0] == 0 and errors[1, 1] == pytest.approx(0, abs=1e-12)
    assert errors[2, 1] == pytest.approx(4)  # two steps behind, for one
    assert np.isinf(simple_errors(np.arange(12.0)[:, None], 12, 1)[2]).all()  # no two seasons


def test_a_month_of_two_seasons_is_no_walk():
    for number in range(10):
        series = table(season(24, 12, np.random.default_rng(number)) * 10, "MS")
        assert not new_forecaster(series, transforms.make_config(series, 12)).config.random_walk


def test_a_regression_that_explains_nothing_out_of_sample_widens_its_bands():
    """Normal noise about a season, 36 rows: its residuals out of sample are larger than those it was fitted to."""
    series = table(season(36, 12, np.random.default_rng(0)), "MS")
    config = new_forecaster(series, transforms.make_config(series, 12)).config
    assert config.drift[0] > 0.2 and config.inflation[0] == pytest.approx((17 / 15) ** 0.5)


def test_a_long_table_widens_nearly_nothing():
    series = table(season(600, 12, np.random.default_rng(0)), "MS")
    config = new_forecaster(series, transforms.make_config(series, 12)).config
    assert config.drift[0] < 0.25 and config.inflation[0] < 1.03
