"""Values of the past that lie outside of a one-step band: of exponential smoothing, fitted to these same values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from inkwash.systems.series import combination
from inkwash.systems.series.data import Series
from inkwash.systems.series.effects import Covariates, remove_effects
from inkwash.systems.series.ets import one_step_bands
from inkwash.systems.series.features import seasonality

SHARE = 0.01  # of the values that a correct model has outside


class Unusual(NamedTuple):
    """A row for each value outside (time, series, value, low, high), these values among gaps (T, D), and how many
    were looked at."""

    table: pd.DataFrame
    values: pd.DataFrame
    looked_at: int

    def in_words(self, most: int = 5) -> str:
        rows = [
            f"{time} {series} {value:.6g} ({low:.6g} to {high:.6g})"
            for time, series, value, low, high in self.table.head(most).astype({"time": str}).itertuples(index=False)
        ]
        first = f", the first ones {'; '.join(rows)}" if rows else ""
        return (
            f"unusual: {len(self.table)} of {self.looked_at} values lie outside of their one-step band of 99 %, by "
            f"exponential smoothing fitted to them (if it were right, about {SHARE * self.looked_at:.0f}){first}"
        )


def find_unusual(series: Series, covariates: Covariates) -> Unusual:
    """What lies outside, covariates and gaps heeded (`ets.one_step_bands`)."""
    values, season = series.values.to_numpy(np.float64), seasonality(series.freq)
    past, _ = remove_effects(values, covariates, season)
    low, high = (np.full(values.shape, np.nan) for _ in range(2))
    for first, end, columns in combination.same_spans(past):
        found = one_step_bands(past[first:end, columns], season)
        low[first:end, columns], high[first:end, columns] = found.low, found.high
    outside = (past < low) | (past > high)
    low, high = low + values - past, high + values - past
    steps, which = np.nonzero(outside)
    table = pd.DataFrame(
        {
            "time": series.values.index[steps],
            "series": np.array(series.names, dtype=object)[which],
            "value": values[outside],
            "low": low[outside],
            "high": high[outside],
        }
    )
    return Unusual(table, series.values.where(outside), int(np.isfinite(values).sum()))
