"""Gaps, and series that end early: paths through them follow laws that are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inkwash.systems.series import impute, transforms
from inkwash.systems.series.data import Series
from inkwash.systems.series.train import IMPROVED, fit_forecaster
from tests.follower import Follower

STEPS = np.arange(400)


def fitted(values):
    frame = pd.DataFrame(values, pd.date_range("2020-01-01", periods=len(values))).rename(columns=str)
    how = replace(IMPROVED, steps=1, batch_size=8)
    forecaster = fit_forecaster(frame, 4, context=60, settings=how, monitor=Follower())
    torch.nn.init.zeros_(forecaster.network.noise.leave.weight)  # normal noise about the regression
    torch.nn.init.zeros_(forecaster.network.noise.leave.bias)
    return frame, forecaster


@pytest.fixture(scope="module")
def walks():
    """Long, as the past of a short walk may seem to tell where it goes."""
    steps = np.random.default_rng(0).normal(0, 1, (2000, 2)) @ np.array([[1, 1.6], [0, 1.2]])
    return fitted(100 + steps.cumsum(0))


def covariance(forecaster, frame, end):
    """Of the steps of the model's walk after `end`."""
    context = torch.from_numpy(frame.to_numpy()[None, end - 60 : end])
    scaler = transforms.fit_scaler(forecaster.config, forecaster.network, context, torch.ones_like(context) > 0)
    root = transforms.joint_factor(forecaster.config, forecaster.network, scaler)[0].double().numpy()
    return root @ root.T


def test_a_gap_in_a_walk_is_a_brownian_bridge(walks):
    frame, forecaster = walks
    assert forecaster.config.random_walk
    holes = frame.copy()
    holes.iloc[300:307] = np.nan
    paths = forecaster.impute(holes, samples=1500)[:, 300:307]
    share = np.arange(1, 8)[:, None] / 8
    before, after = frame.to_numpy()[[299, 307]]
    law = covariance(forecaster, frame, 300)
    deviation = np.sqrt(8 * share * (1 - share) * law.diagonal())
    np.testing.assert_allclose(paths.mean(0), before + share * (after - before), atol=0.2)
    np.testing.assert_allclose(paths.std(0), deviation, rtol=0.08)
    middle = np.corrcoef(paths[:, 3].T)[0, 1]  # they bridge the gap together
    assert middle == pytest.approx(law[0, 1] / np.sqrt(law[0, 0] * law[1, 1]), abs=0.06)


def test_a_series_that_ends_early_is_walked_to_today_with_the_others(walks):
    """Of b, k steps shorter than a: N(last + beta (what a did since), k (variance of b given a) + h (that of b))."""
    frame, forecaster = walks
    k, ended = 12, frame.copy()
    ended.iloc[-k:, 1] = np.nan
    values, law = frame.to_numpy(), covariance(forecaster, frame, 2000 - k)
    beta = law[0, 1] / law[0, 0]
    paths = forecaster.forecast(ended, 3, samples=1500, alone=True).samples
    mean = values[-k - 1, 1] + beta * (values[-1, 0] - values[-k - 1, 0])
    given_a = law[1, 1] - beta * law[0, 1]
    np.testing.assert_allclose(paths[..., 1].mean(0), mean, atol=0.3)
    now = covariance(forecaster, frame, 2000)[1, 1]
    spread = np.sqrt(k * given_a + np.arange(1, 4) * (law[1, 1] + now) / 2)  # what is new of b's scale is not seen
    np.testing.assert_allclose(paths[..., 1].std(0), spread, rtol=0.1)
    np.testing.assert_allclose(paths[:, 0, 0].mean(), values[-1, 0], atol=0.1)


def test_the_band_of_a_series_that_ends_early_covers_what_came():
    frame, forecaster = fitted(np.random.default_rng(1).normal(0, 1, (600, 12)).cumsum(0))
    inside = []
    for start in range(200, 596, 33):
        values = frame.iloc[:start].copy()
        values.iloc[-20:, :6] = np.nan
        paths = forecaster.paths(Series(values, values[[]], "D"), [start], 4, 100)[0]
        low, high = np.quantile(paths, [0.05, 0.95], axis=0)
        inside.append((low <= frame.iloc[start : start + 4]) & (frame.iloc[start : start + 4] <= high))
    early, others = np.mean(inside, axis=(0, 1)).reshape(2, 6).mean(1)
    assert 0.82 < early < 0.98 and 0.82 < others < 0.98


def ar(values, phi):
    for k in range(1, len(values)):
        values[k] += phi * values[k - 1]
    return values


@pytest.mark.parametrize(
    ("law", "less"),
    [("walk", 1.001), ("season", 0.3), ("ar", 1.0), ("slow ar", 1.0)],
)
def test_a_gap_is_filled_no_worse_than_by_a_ruler(law, less):
    """The mean error of the median; and its bands of 90 % hold most of what is missing."""
    noise = np.random.default_rng(2).normal(0, 1, (400, 12))
    values = {
        "walk": noise.cumsum(0),
        "season": 10 * np.sin(2 * np.pi * STEPS / 7)[:, None] + noise,
        "ar": ar(noise.copy(), 0.6),
        "slow ar": ar(noise.copy(), 0.8),
    }[law]
    frame, forecaster = fitted(values)
    holes = frame.copy()
    holes[(STEPS % 20 < 5) & (STEPS >= 100)] = np.nan
    paths, gone = forecaster.impute(holes, samples=100), holes.isna().to_numpy()
    error = np.abs(np.median(paths, 0) - values)[gone].mean()
    assert error < less * np.abs(holes.interpolate().to_numpy() - values)[gone].mean()
    low, high = np.quantile(paths, [0.05, 0.95], axis=0)
    assert 0.85 < ((low <= values) & (values <= high))[gone].mean() < 0.95


def test_the_median_of_a_bridge_is_the_straight_line(walks):
    frame, forecaster = walks
    holes = frame.copy()
    holes.iloc[300:307] = np.nan
    median = np.median(forecaster.impute(holes, samples=20)[:, 300:307], 0)
    np.testing.assert_allclose(median, holes.interpolate()[300:307], atol=1e-9)
    odd = forecaster.impute(holes, samples=5)[:, 300:307]
    assert len(np.unique(odd.round(9), axis=0)) == 5


def test_a_gap_of_one_series_ends_where_it_goes_on(walks):
    """Neither at its start nor at its end there is a jump, also where another one is still missing."""
    frame, forecaster = walks
    holes = frame.copy()
    holes.iloc[300:320, 0] = np.nan
    holes.iloc[310:330, 1] = np.nan
    paths = forecaster.impute(holes, samples=200)
    for rows, series in ((slice(299, 321), 0), (slice(309, 331), 1)):
        jumps = np.abs(np.diff(paths[:, rows, series], axis=1)).mean(0)
        assert max(jumps[0], jumps[-1]) < 2 * np.median(jumps)


@settings(max_examples=200, deadline=None)
@given(arrays(bool, st.tuples(st.integers(5, 25), st.integers(1, 3))), st.integers(1, 4))
def test_every_gap_is_in_a_chunk_and_every_return_ends_one(missing, first):
    rows, ends = np.zeros(len(missing), int), set()
    for start, end, back in impute.chunks(missing, first):
        assert first <= start <= end
        rows[start : end + 1] += 1
        if end < len(missing):
            ends.add(end)
            assert (back == missing[end - 1] & ~missing[end]).all() and back.any()
        else:
            assert not back.any()
    assert rows.max(initial=0) <= 1 and rows[first:][missing[first:].any(1)].all()
    returned = np.flatnonzero((missing[:-1] & ~missing[1:]).any(1)) + 1
    assert {int(row) for row in returned if row > first} == ends
