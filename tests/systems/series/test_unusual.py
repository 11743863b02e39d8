"""Unusual values of the past: the rate of ordinary ones, and an outlier that is found while its follower is not."""

import numpy as np
import pandas as pd
import pytest

from inkwash.systems.series import transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.effects import Covariates
from inkwash.systems.series.unusual import find_unusual, one_step_bands

SERIES = 30


def simulated(kind, steps):
    """(T, 30), whose one-step errors have deviation 1 (0.1 in logarithms)."""
    noise, t = np.random.default_rng(0).standard_normal((steps, SERIES)), np.arange(steps)[:, None]
    autoregression = np.zeros_like(noise)
    for step in range(1, steps):
        autoregression[step] = 0.7 * autoregression[step - 1] + noise[step]
    return {
        "walk": 50 + noise.cumsum(0),
        "noise": 10 + noise,
        "season": 100 + 10 * np.sin(2 * np.pi * t / 7) + noise,
        "walk of logarithms": np.exp(0.1 * noise.cumsum(0)),
        "line": 0.3 * t + noise,
        "autoregression": autoregression,
    }[kind]


KINDS = ["walk", "noise", "season", "walk of logarithms", "line", "autoregression"]


def outside(values, season=7):
    bands = one_step_bands(values, season)
    return (values < bands.low) | (values > bands.high)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [200, 700])
def test_one_ordinary_value_in_a_hundred_lies_outside(kind, steps):
    """Of 6,000 and 21,000 values, 0.13 and 0.07 % is a standard error."""
    assert outside(simulated(kind, steps)).mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outlier_of_eight_deviations_is_found_and_no_follower_is_blamed(kind):
    """Neither the next step nor that a week later is, more often than any other."""
    values, at = simulated(kind, 200), 100
    values[at] = values[at] * np.exp(0.8) if kind == "walk of logarithms" else values[at] + 8
    found = outside(values)
    assert found[at].all()
    assert found[at + 1].mean() <= 1 / SERIES and found[at + 7].mean() <= 1 / SERIES
    assert found[at + 1 :].mean() < 0.012


def test_of_a_new_level_the_first_step_is_unusual_and_what_follows_is_not():
    values = simulated("noise", 200)
    values[100:] += 15
    found = outside(values, 1)
    assert found[100].mean() > 0.9 and found[101:].mean() < 0.02


def test_two_outliers_of_other_sizes_are_both_found():
    values = simulated("noise", 200)
    values[100] += 8
    values[101] -= 8
    assert outside(values, 1)[100:102].mean() > 0.95


def test_gaps_constants_and_few_rows_are_no_outliers():
    values = simulated("season", 200)
    values[50:60], values[120:140, 3] = np.nan, np.nan
    found = outside(values)
    assert not found[np.isnan(values)].any() and found.mean() == pytest.approx(0.01, abs=0.005)
    assert not outside(np.full((50, 2), 3.0)).any() and not outside(np.arange(4.0).reshape(2, 2)).any()
    blip = np.full((50, 1), 3.0)
    blip[20] = 4
    assert np.flatnonzero(outside(blip)).tolist() == [20]


def test_what_a_covariate_explains_is_not_unusual_and_the_band_is_in_the_units_of_the_data():
    rng, steps = np.random.default_rng(1), 400
    promo = (rng.random(steps) < 0.05).astype(float)
    promo[300] = 0
    frame = pd.DataFrame(
        {"sales": 100 + 40 * promo + rng.normal(0, 2, steps), "promo": promo},
        pd.date_range("2024-01-01", periods=steps),
    )
    frame.iloc[300, 0] = 130
    series = read_series(frame, target=["sales"], feat_dynamic_real=["promo"])
    config = transforms.make_config(series, 7)
    found = find_unusual(series, transforms.known_to_experts(series, config, 0))
    assert found.table["time"].tolist().count(series.values.index[300]) == 1
    assert len(found.table) <= 12 and found.looked_at == steps
    row = found.table.set_index("time").loc[series.values.index[300]]
    assert row["value"] == 130 and row["low"] == pytest.approx(95, abs=4) and row["high"] == pytest.approx(105, abs=4)
    blind = find_unusual(series, Covariates(np.zeros((steps, 0)), np.zeros((1, 0), bool)))
    marked = lambda each: promo[each.values["sales"].notna().to_numpy()].sum()  # noqa: E731
    assert marked(found) <= 3 < 10 < marked(blind)
    assert found.in_words().startswith(f"unusual: {len(found.table)} of 400 values lie outside")
    assert "about 4)" in found.in_words()


def test_a_series_that_begins_late_and_ends_early_is_judged_where_it_is():
    values = simulated("walk", 200)[:, :2]
    values[:150, 1], values[190:, 1] = np.nan, np.nan
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=200), ["a", "b"])
    series = read_series(frame)
    found = find_unusual(series, Covariates(np.zeros((200, 0)), np.zeros((2, 0), bool)))
    alone = outside(values[150:190, 1:])
    stamps = found.table.query("series == 'b'")["time"].tolist()
    assert stamps == series.values.index[150:190][alone[:, 0]].tolist() and found.looked_at == 240
    assert found.values.notna().sum().sum() == len(found.table)
