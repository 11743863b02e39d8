"""A model trained anew before each window."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.series import cross_validation
from inkwash.systems.series.cross_validation import cross_validate
from inkwash.systems.series.data import read_series
from inkwash.systems.series.train import FAITHFUL, IMPROVED, fit_forecaster
from tests.follower import Follower

FIT = {"mode": "faithful", "context": 8, "lags": [1], "settings": replace(FAITHFUL, steps=1, batch_size=4)}
HOW = FIT | {"steps": 2}  # of the sampler, so that it takes less time


@pytest.fixture
def walks():
    values = 50 + np.random.default_rng(0).normal(0, 1, (80, 2)).cumsum(0)
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=80), ["a", "b"])


@pytest.fixture
def measured(monkeypatch):
    """The starts, paths and truth of what is measured."""
    found, measure = [], cross_validation.measure

    def remember(series, starts, paths, seed, truth, **facts):
        found.append((starts, paths, truth))
        return measure(series, starts, paths, seed, truth, **facts)

    monkeypatch.setattr(cross_validation, "measure", remember)
    return found


@pytest.mark.parametrize(("mode", "starts_at"), [("faithful", [70, 76]), ("improved", [76])])
def test_each_window_is_forecast_by_a_model_of_what_lies_before(mode, starts_at, walks, measured):
    """As one trained by hand, noise and all."""
    settings = replace(FAITHFUL if mode == "faithful" else IMPROVED, steps=1, batch_size=4)
    how = FIT | {"mode": mode, "settings": settings}
    found = cross_validate(walks, 4, len(starts_at), 6, samples=6, seed=3, steps=2, monitor=Follower(), **how)
    ((starts, paths, truth),) = measured
    assert starts == starts_at
    for window, start in enumerate(starts):
        before = read_series(walks.iloc[:start])
        by_hand = fit_forecaster(before, 4, monitor=Follower(), **how)
        drawn = by_hand.paths(before, [start], 4, 6, 3, steps=2, window=window)[0]
        np.testing.assert_array_equal(paths[window], drawn)
        np.testing.assert_array_equal(truth[window], walks.iloc[start : start + 4])
    scored = {row["metric"] for row in found.scores_of_model()}
    assert {"MASE", "sMAPE", "WQL", "scaled CRPS", "within 80 %", "within 90 %"} == scored


def test_what_comes_later_changes_no_window(walks, measured):
    how = HOW | {"samples": 4, "monitor": Follower()}
    cross_validate(walks, 4, 2, **how)
    later = walks.copy()
    later.iloc[76:] *= 1000
    cross_validate(later, 4, 2, **how)
    (_, first, _), (_, second, truth) = measured
    np.testing.assert_array_equal(first, second)
    assert (truth[1] > 10_000).all()


def test_a_series_is_scored_from_the_window_on_before_which_it_has_a_value(walks, measured):
    walks.iloc[:73, 1] = np.nan
    follower = Follower()
    found = cross_validate(walks, 4, 2, samples=4, monitor=follower, **HOW | {"context": 2})
    counts = {row["series"]: row["n"] for row in found.scores_of_model()}
    assert counts == {"a": 8, "b": 4, "(all)": 12}
    assert [note.text for note in follower.of(Note)][1:] == ["window 1 does not score b: no value lies before it"]
    walks.iloc[:73] = np.nan
    with pytest.raises(UserError, match="window 1 of 2 begins at step 72, before any value: take fewer windows"):
        cross_validate(walks, 4, 2, samples=4, monitor=Follower(), **HOW)


def test_covariates_of_a_window_are_known(walks):
    """They lie in the table after its start."""
    walks["price"] = np.arange(80.0)
    found = cross_validate(walks, 4, 1, samples=4, monitor=Follower(), feat_dynamic_real=["price"], **HOW)
    assert {row["series"] for row in found.scores} == {"a", "b", "(all)"}
    walks.iloc[-1, 2] = np.nan
    with pytest.raises(UserError, match=r"price.*missing"):
        cross_validate(walks, 4, 1, samples=4, monitor=Follower(), feat_dynamic_real=["price"], **HOW)


def test_the_window_that_cannot_be_trained_for_is_named(walks):
    with pytest.raises(UserError, match="window 1 of 8, which begins at step 48: the series have 48 steps, but"):
        cross_validate(walks, 4, 8, samples=4, monitor=Follower(), **HOW | {"context": 45})
    with pytest.raises(UserError, match=r"30 windows reach back to step -40, .*at most 19 windows fit"):
        cross_validate(walks, 4, 30, samples=4, monitor=Follower(), **HOW)
    for wrong in ({"horizon": 0}, {"samples": 0}, {"stride": 0}, {"seed": -1}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            cross_validate(walks, **{"horizon": 4, "windows": 1, "monitor": Follower()} | HOW | wrong)


class Stopping(Follower):
    """Says stop from the time on that so many windows are done."""

    def __init__(self, windows):
        super().__init__()
        self.windows = windows

    def stopped(self):
        return any(event.done >= self.windows for event in self.of(Progress)) or self.windows == 0


def test_a_run_that_is_stopped_gives_the_windows_so_far(walks, measured):
    follower = Stopping(1)
    found = cross_validate(walks, 4, 3, samples=4, monitor=follower, **HOW)
    assert {row["n"] for row in found.rows} == {1} and measured[0][0] == [68]
    assert follower.of(Note)[-1].text == "stopped: these are 1 of 3 windows"
    with pytest.raises(UserError, match="stopped before the first window was forecast"):
        cross_validate(walks, 4, 3, samples=4, monitor=Stopping(0), **HOW)


def test_progress_counts_windows(walks):
    follower = Follower()
    cross_validate(walks, 4, 2, samples=4, monitor=follower, **HOW)
    counted = [(event.done, event.total) for event in follower.of(Progress)]
    assert counted == sorted(counted) and set(counted) == {(0, 2), (1, 2), (2, 2)}


def test_a_window_that_cannot_be_trained_for_ends_the_run_with_those_before_it(walks, monkeypatch):
    """Hours of trainings are not lost; the first one is refused."""
    train, follower = cross_validation.fit_forecaster, Follower()

    def refuse_long(series, *args, **how):
        if len(series.values) > 72:
            raise UserError("too long")
        return train(series, *args, **how)

    monkeypatch.setattr(cross_validation, "fit_forecaster", refuse_long)
    found = cross_validate(walks, 4, 3, samples=4, monitor=follower, **HOW)
    assert found.windows == 2
    notes = [event.text for event in follower.of(Note)]
    assert (
        "window 3 of 3, which begins at step 76: too long" in notes and "stopped: these are 2 of 3 windows" in notes
    )
    with pytest.raises(UserError, match="window 1 of 1, which begins at step 76: too long"):
        cross_validate(walks, 4, 1, samples=4, monitor=follower, **HOW)
