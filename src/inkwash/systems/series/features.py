"""What a network is given of a step: earlier values (lags), and where it lies in the day, the week and the year."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

# by the unit of the frequency, as TimeGrad takes them (gluonts' and pytorch-ts' choice for the paper)
LAGS = {"M": [1, 12], "D": [1, 7, 14], "B": [1, 2], "h": [1, 24, 168], "min": [1, 4, 12, 24, 48]}
FEATURES = {
    "M": ["weekofyear"],
    "W": ["daysinmonth", "weekofyear"],
    "D": ["dayofweek"],
    "B": ["dayofweek", "dayofyear"],
    "h": ["hour", "dayofweek"],
    "min": ["minute", "hour", "dayofweek"],
}
YEAR = {"M": ["month"], "D": ["dayofyear"], "h": ["dayofyear"], "min": ["dayofyear"]}  # what improved adds
PERIODS = {
    "month": 12,
    "minute": 60,
    "hour": 24,
    "dayofweek": 7,
    "daysinmonth": 31,
    "dayofyear": 366,
    "weekofyear": 53,
}
SEASONS = {"Y": 1, "Q": 4, "M": 12, "W": 52, "D": 7, "B": 5, "h": 24}
UNITS = {"BME": "M", "BMS": "M", "ME": "M", "MS": "M", "QE": "Q", "QS": "Q", "YE": "Y", "YS": "Y"}


def unit(freq: str) -> str:
    """The unit of a pandas frequency: Y, Q, M, W, D, B, h or min ("" for none of them)."""
    if not freq:
        return ""
    name = to_offset(freq).name.partition("-")[0]
    name = UNITS.get(name, name)
    return name if name in {*SEASONS, "min"} else ""


def seasonality(freq: str) -> int:
    """Steps after which a series of this frequency usually repeats: a day of hours, a week of days, a year of
    months; 1 if there is no such number."""
    kind = unit(freq)
    steps = to_offset(freq).n if freq else 1
    per = 24 * 60 if kind == "min" else SEASONS.get(kind, 1)
    return per // steps if per % steps == 0 and per >= steps else 1


def paper_lags(freq: str) -> list[int]:
    """The lags of TimeGrad."""
    return LAGS.get(unit(freq), [1])


def default_lags(freq: str) -> list[int]:
    """The last two steps, the last two seasons, and a week of days where a day is the season."""
    season = seasonality(freq)
    week = [7 * season] if unit(freq) in ("h", "min") else []
    return sorted({1, 2, season, 2 * season, *week})


def time_features(index: pd.Index, freq: str, year: bool = False) -> np.ndarray:
    """(T, 2 F): cosine and sine of each stamp's position in its hour, day or week, as TimeGrad has them; if `year`,
    also in the year."""
    if not isinstance(index, pd.DatetimeIndex):
        return np.zeros((len(index), 0))
    columns = []
    kind = unit(freq)
    for name in [*FEATURES.get(kind, []), *(YEAR.get(kind, []) if year else [])]:
        position = index.isocalendar().week if name == "weekofyear" else getattr(index, name)
        period = 5 if kind == "B" and name == "dayofweek" else PERIODS[name]
        angle = 2 * np.pi * np.asarray(position, np.float64) / period
        columns += [np.cos(angle), np.sin(angle)]
    return np.stack(columns, axis=1) if columns else np.zeros((len(index), 0))
