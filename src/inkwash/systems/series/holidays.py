"""Public holidays as covariates that are known in advance, by the package `holidays`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BusinessHour, Tick, Week

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.series.features import unit

DAY = pd.Timedelta(days=1)
AROUND = (0, 1, -1)  # days from the holiday that are looked at


def holiday_features(index: pd.Index, freq: str, places: Sequence[str]) -> np.ndarray:
    """(T, C) of the steps of an index, for each place: a country (DE) or a part of one (DE-BY).

    Steps of a day or less have three columns of 0 and 1: whether their date is a holiday, whether the next day is
    one, and whether the last one was; of business days the next and the last business day. Longer steps have one: how
    many holidays lie in them (`spans`). UserError for unknown places, for steps of years or without stamps, and for
    years of which no holiday is known.
    """
    if not places:
        return np.zeros((len(index), 0))
    if not isinstance(index, pd.DatetimeIndex) or unit(freq) == "Y":
        steps = f"every {freq}" if freq else "without time stamps"
        raise UserError(f"holidays = {places[0]}: they say nothing of steps {steps}: leave them out")
    clock, step = index.tz_localize(None), to_offset(freq)
    columns: list[np.ndarray] = []
    for place in places:
        dates = holiday_dates(place, sorted(set(clock.year)))
        days = to_days(clock)
        if freq == "B":
            columns += [np.isin(np.busday_offset(days, ahead), dates) for ahead in AROUND]
        elif columns_each(freq) > 1:
            columns += [np.isin(days + ahead, dates) for ahead in AROUND]
        else:
            first, end = map(to_days, spans(clock, step))
            columns.append(np.searchsorted(dates, end) - np.searchsorted(dates, first))
    return np.stack(columns, axis=1).astype(np.float64)


def columns_each(freq: str) -> int:
    """Columns of one place."""
    if not freq:
        return 0
    step = to_offset(freq)
    is_short = freq == "B" or isinstance(step, BusinessHour) or (isinstance(step, Tick) and pd.Timedelta(step) <= DAY)
    return len(AROUND) if is_short else 1


def to_days(stamps: pd.DatetimeIndex) -> np.ndarray:
    return np.asarray(stamps.to_numpy().astype("datetime64[D]"))


def spans(stamps: pd.DatetimeIndex, step: pd.DateOffset) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The first days of steps longer than a day, and the days after their last ones. A step ends with its stamp if
    that is the end of a month or quarter, or the day of a week other than Monday, as pandas writes them; else it
    begins there."""
    if type(step).__name__.endswith("End") or (isinstance(step, Week) and step.weekday != 0):
        return stamps - step + DAY, stamps + DAY
    return stamps, pd.DatetimeIndex([stamp + step for stamp in stamps])  # of third Fridays, too


def holiday_dates(place: str, years: Sequence[int]) -> np.ndarray:
    """The dates of a place's holidays in these years, the year before and the year after, in order."""
    require("--holidays", "holidays")
    import holidays

    country, _, part = place.partition("-")
    parts = holidays.list_supported_countries().get(country)
    if parts is None:
        raise UserError(f"holidays = {place}: no such country; {near_countries(country)}")
    if "-" in place and part not in parts:
        near = get_close_matches(part, parts, cutoff=0.3) or parts
        has = f"take {country} or {country}-{f', {country}-'.join(near)}" if parts else f"it has none: take {country}"
        raise UserError(f"holidays = {place}: no such part of {country}; {has}")
    found = holidays.country_holidays(country, part or None, years=range(years[0] - 1, years[-1] + 2))
    if unknown := set(years) - {date.year for date in found}:
        raise UserError(
            f"holidays = {place}: none are known of {min(unknown)}; take rows of other years, or leave --holidays out"
        )
    return np.array(sorted(found), "datetime64[D]")


def near_countries(name: str) -> str:
    """What may have been meant, by codes and English names."""
    from holidays.registry import COUNTRIES

    codes = {key.replace("_", " "): names[1] for key, names in COUNTRIES.items()}
    near = get_close_matches(name.lower(), codes, cutoff=0.7)
    found = [f"{codes[key]} ({key})" for key in near]
    found += get_close_matches(name.upper(), {code for code in codes.values() if len(code) == 2}, cutoff=0.5)
    return f"did you mean {' or '.join(found)}?" if found else "take a code of ISO 3166, as DE or DE-BY"
