"""Values of the past that lie outside of a one-step band: of exponential smoothing, fitted to these same values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from inkwash.systems.series.baselines import spans
from inkwash.systems.series.data import Series
from inkwash.systems.series.effects import Covariates, remove_effects
from inkwash.systems.series.ets import (
    LONGEST,
    LONGEST_SEASON,
    SERIES_AT_ONCE,
    Grid,
    Posterior,
    as_columns,
    expected,
    fit,
    flat_prior,
    log_posterior,
    make_grid,
    step,
)
from inkwash.systems.series.features import seasonality

SHARE = 0.01  # of the values that a correct model has outside
QUANTILE = 2.5758293035489004  # of the normal law: so much lies between -QUANTILE and QUANTILE but for SHARE


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
    """What lies outside, covariates and gaps heeded (`one_step_bands`)."""
    values, season = series.values.to_numpy(np.float64), seasonality(series.freq)
    past, _ = remove_effects(values, covariates, season)
    low, high = (np.full(values.shape, np.nan) for _ in range(2))
    for first, end, columns in spans(past):
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


class Bands(NamedTuple):
    """The least and the largest ordinary value of each step, (T, D)."""

    low: np.ndarray
    high: np.ndarray


def one_step_bands(history: np.ndarray, season: int) -> Bands:
    """One-step bands of 99 % of series (T, D) that begin and end with a value and may have gaps: of each block of at
    most `LONGEST` rows by a law that is fitted to it."""
    bands = Bands(*np.full((2, *history.shape), np.nan))
    for rows in np.array_split(np.arange(len(history)), -(-len(history) // LONGEST)):
        for first in range(0, history.shape[1], SERIES_AT_ONCE):
            block = slice(rows[0], rows[-1] + 1), slice(first, first + SERIES_AT_ONCE)
            if len(rows) > 2:  # of fewer nothing can be told
                bands.low[block], bands.high[block] = bands_of_block(history[block], season)
    return bands


def bands_of_block(values: np.ndarray, season: int) -> Bands:
    """By the likeliest law of the grid. Gaps are first straight lines, then what the law says, and it is fitted
    again."""
    gaps, filled = np.isnan(values), np.array(pd.DataFrame(values).interpolate(limit_direction="both"))
    grid = make_grid(season if season <= min(len(values), LONGEST_SEASON) else 1)
    bands = Bands(*np.empty((2, *values.shape)))
    for _ in range(2 if gaps.any() else 1):
        columns = as_columns(filled)
        found = fit(grid, columns.y)
        evidence = log_posterior(flat_prior(grid), found, columns)
        for d in range(values.shape[1]):
            which, point = np.unravel_index(evidence[..., d].argmax(), evidence.shape[:2])
            column = values.shape[1] + int(columns.positive.searchsorted(d)) if which else d
            middle, half = one_step(grid, found, int(point), columns.y[:, column], column, ~gaps[:, d])
            edges = columns.middle[column] + columns.size[column] * (middle + np.outer([-1, 0, 1], half))
            bands.low[:, d], inside, bands.high[:, d] = np.exp(edges) if which else edges
            filled[gaps[:, d], d] = inside[gaps[:, d]]
    return bands


def one_step(
    grid: Grid, found: Posterior, point: int, y: np.ndarray, column: int, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The middle and the half width (T,) of the band of a column y (T,) at a point of the grid.

    What lies outside moves no state, so that the steps after it are not blamed for it; nor does a gap. The level is
    then known the less: by P sigma^2, which grows by alpha^2 there and shrinks to (1 - alpha)^2 P at other steps. If
    the next value is off by as much, as two draws of one law are, that is a new level: the band goes there at once,
    for this second value too."""
    half = QUANTILE * np.sqrt(found.squares[point, column] / there.sum().clip(1))
    state = (grid.deviation[point] * found.mean[point, :, column])[None, :, None]
    parameters = tuple(each[point, None] for each in grid[:4])
    alpha, unknown, before = float(grid.alpha[point, 0]), 0.0, np.nan
    middle, width = np.empty((2, len(y)))
    for t, value in enumerate(y):
        middle[t], width[t] = expected(parameters, state, t)[0, 0], half * (1 + unknown) ** 0.5
        error = value - middle[t]
        outside = bool(there[t] and abs(error) > width[t])
        if outside and abs(error - before) < 2**0.5 * half:
            state[:, 0] += error
            middle[t], error, outside = value, 0.0, False
        counts = there[t] and not outside
        step(parameters, state, t, np.array([[error if counts else 0.0]]))
        unknown = (1 - alpha) ** 2 * unknown if counts else unknown + alpha**2
        if there[t]:
            before = error if outside else np.nan
    return middle, width
