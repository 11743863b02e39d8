"""Public holidays as covariates: known years, moved ones, and what steps of another length have of them."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from dateutil.easter import easter
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series import transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.holidays import holiday_features
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.train import IMPROVED, fit_forecaster


def days(first, last):
    return pd.date_range(first, last)


def dates_of(index, column):
    return [str(stamp.date()) for stamp in index[column > 0]]


def test_the_german_ones_of_thirty_years_by_the_rule_of_easter():
    """Fixed days and days from Easter; Reformation Day of 2017 alone was one in all of Germany."""
    index = days("1996-01-01", "2030-12-31")
    fixed = [(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)]
    expected = {date(year, *day) for year in range(1996, 2031) for day in fixed} | {date(2017, 10, 31)}
    expected |= {easter(year) + timedelta(days=by) for year in range(1996, 2031) for by in (-2, 1, 39, 50)}
    found = holiday_features(index, "D", ["DE"])[:, 0]
    assert dates_of(index, found) == sorted(map(str, expected))


def test_the_american_ones_of_2021_and_where_they_were_moved_to():
    """Juneteenth, Independence Day and Christmas lay on weekends, and so did New Year's Day of 2022."""
    index = days("2021-01-01", "2021-12-31")
    known = "01-01 01-18 02-15 05-31 06-18 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-24 12-25 12-31"
    found = holiday_features(index, "D", ["US"])[:, 0]
    assert dates_of(index, found) == [f"2021-{day}" for day in known.split()]


def test_a_part_of_a_country_has_its_own_and_places_stand_side_by_side():
    """What holds in all of Bavaria: 15 August does in most of its towns."""
    index = days("2024-01-01", "2024-12-31")
    both = holiday_features(index, "D", ["DE", "DE-BY"])
    more = dates_of(index, both[:, 3] - both[:, 0])
    assert both.shape == (366, 6) and more == ["2024-01-06", "2024-05-30", "2024-11-01"]


def test_the_day_before_and_the_day_after_reach_beyond_the_table():
    index = days("2023-12-24", "2024-01-02")
    holiday, before, after = holiday_features(index, "D", ["DE"]).T
    np.testing.assert_array_equal(before[:-1], holiday[1:])
    np.testing.assert_array_equal(after[1:], holiday[:-1])
    assert holiday.sum() == 3 and before[0] == 1 and after[-1] == 1
    assert holiday_features(days("2023-12-31", "2023-12-31"), "D", ["DE"]).tolist() == [[0, 1, 0]]


def test_of_business_days_the_next_and_the_last_one_count():
    index = pd.date_range("2024-03-27", "2024-04-03", freq="B")  # Good Friday is 29 March, Easter Monday 1 April
    holiday, before, after = holiday_features(index, "B", ["DE"]).T
    assert dates_of(index, holiday) == ["2024-03-29", "2024-04-01"]
    assert dates_of(index, before) == ["2024-03-28", "2024-03-29"]
    assert dates_of(index, after) == ["2024-04-01", "2024-04-02"]


@pytest.mark.parametrize("freq", ["h", "30min"])
def test_all_hours_of_the_day_are_those_of_the_local_clock(freq):
    index = pd.date_range("2024-07-03", "2024-07-06", freq=freq, tz="America/New_York", inclusive="left")
    holiday, before, after = holiday_features(index, freq, ["US"]).T
    for column, day in ((holiday, "2024-07-04"), (before, "2024-07-03"), (after, "2024-07-05")):
        assert {*dates_of(index, column)} == {day} and column.sum() == len(index) / 3


@pytest.mark.parametrize(
    ("freq", "stamp", "count"),
    [
        ("MS", "2024-03-01", 1), ("ME", "2024-03-31", 1), ("MS", "2024-05-01", 3), ("QS", "2024-01-01", 2),
        ("QE", "2024-06-30", 4), ("W-SUN", "2024-03-31", 1), ("W-SUN", "2024-04-07", 1), ("W-MON", "2024-03-25", 1),
        ("W-MON", "2024-04-01", 1), ("W-FRI", "2024-03-29", 1), ("W-FRI", "2024-04-05", 1), ("7D", "2024-03-29", 2),
    ],
)  # fmt: skip
def test_longer_steps_have_their_number(freq, stamp, count):
    """Good Friday of 2024 is 29 March, Easter Monday 1 April: a week each."""
    index = pd.date_range(stamp, periods=1, freq=freq)
    assert holiday_features(index, freq, ["DE"]).tolist() == [[count]]


@given(st.sampled_from(["MS", "ME", "W-SUN", "W-MON", "W-FRI", "QS", "2MS", "10D"]), st.integers(0, 3000))
def test_steps_share_all_holidays_among_them(freq, first):
    """The numbers of steps that follow each other add up to that of all their days."""
    index = pd.date_range(pd.Timestamp("2001-01-01") + pd.Timedelta(days=first), periods=20, freq=freq)
    begins = freq in ("MS", "W-MON", "QS", "2MS", "10D")
    step = pd.tseries.frequencies.to_offset(freq)
    edges = (index[0], index[-1] + step) if begins else (index[0] - step, index[-1])
    inside = pd.date_range(*edges, inclusive="left" if begins else "right")
    assert holiday_features(index, freq, ["DE"]).sum() == holiday_features(inside, "D", ["DE"])[:, 0].sum()


@pytest.mark.parametrize(
    ("index", "freq", "place", "says"),
    [
        (pd.date_range("2000", periods=3, freq="YS"), "YS", "DE", "DE: they say nothing of steps every YS"),
        (pd.RangeIndex(3), "", "DE", "nothing of steps without time stamps"),
        (days("2024-01-01", "2024-01-03"), "D", "Germany", r"no such country; did you mean DE \(germany\)"),
        (days("2024-01-01", "2024-01-03"), "D", "de", r"no such country; did you mean.* DE"),
        (days("2024-01-01", "2024-01-03"), "D", "", "take a code of ISO 3166, as DE or DE-BY"),
        (days("2024-01-01", "2024-01-03"), "D", "DE-BYE", r"no such part of DE; take DE or DE-B"),
        (days("2024-01-01", "2024-01-03"), "D", "DE-", r"no such part of DE; take DE or DE-B"),
        (days("1985-01-01", "1991-01-03"), "D", "DE", "none are known of 1985; take rows of other years"),
        (days("2099-12-01", "2101-01-03"), "D", "DE", "none are known of 2101"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(index, freq, place, says):
    with pytest.raises(UserError, match=says):
        holiday_features(index, freq, [place])


@pytest.fixture(scope="module")
def shop():
    """Of a shop that is shut on holidays, up to the last day before Easter 2024."""
    index = days("2022-01-01", "2024-03-28")
    shut = holiday_features(index, "D", ["DE"])[:, 0]
    week = 10 * np.sin(2 * np.pi * np.arange(len(index)) / 7)
    values = 100 + week - 60 * shut + np.random.default_rng(0).normal(0, 2, len(index))
    return pd.DataFrame({"sales": values}, index)


@pytest.mark.parametrize("alone", [True, False])
def test_a_saved_forecaster_knows_the_holidays_to_come(shop, alone, tmp_path):
    """Good Friday and Easter Monday are the first and the fourth step; it is told nothing but the table."""
    settings = replace(IMPROVED, steps=2, batch_size=8)
    made = fit_forecaster(shop, 7, context=28, settings=settings, alone=True, holidays=["DE", "DE"])
    weights = {} if alone else {"exponential smoothing": 1.0}
    Forecaster(made.network, replace(made.config, weights=weights)).save(tmp_path)
    model = Forecaster.load(tmp_path)
    assert model.config.holidays == ["DE"]
    median = model.forecast(shop, samples=60).quantile(0.5)["sales"].to_numpy()
    usual = 100 + 10 * np.sin(2 * np.pi * np.arange(len(shop), len(shop) + 7) / 7)
    holiday = np.isin(np.arange(7), [0, 3])
    np.testing.assert_allclose(median[~holiday], usual[~holiday], atol=12)
    assert (median[holiday] < usual[holiday] - 15).all()  # the diffusion model alone knows a part of the 60
    if not alone:
        np.testing.assert_allclose(median, usual - 60 * holiday, atol=4)


def test_a_single_place_needs_no_list(shop):
    assert transforms.make_config(read_series(shop), 7, holidays="DE-BY").holidays == ["DE-BY"]


def test_holidays_that_cannot_be_are_refused_before_a_training(shop):
    with pytest.raises(UserError, match="no such country"):
        transforms.make_config(read_series(shop), 7, holidays=["XX"])
    yearly = shop[-40:].set_axis(pd.date_range("1980", periods=40, freq="YS"))
    with pytest.raises(UserError, match="every YS"):
        transforms.make_config(read_series(yearly), 1, holidays=["DE"])


def test_business_hours_have_the_holidays_of_their_days():
    hours = pd.date_range("2024-12-23 09:00", "2024-12-27 16:00", freq="bh")
    holiday = holiday_features(hours, "bh", ["DE"])
    assert holiday.shape == (40, 3) and {*hours[holiday[:, 0] > 0].day} == {25, 26} and holiday[:, 0].sum() == 16


def test_steps_of_third_fridays_count_their_holidays():
    fridays = pd.date_range(
        "2024-03-01", periods=3, freq="WOM-3FRI"
    )  # Good Friday and Easter Monday, then three days
    assert holiday_features(fridays, "WOM-3FRI", ["DE"])[:2, 0].tolist() == [2, 2]
