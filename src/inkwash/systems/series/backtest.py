"""What forecasts of rolling windows of the past have shown: of all series together, of each, and how calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.systems.report import Report, Row, keys, markdown_table, row
from inkwash.systems.series import baselines, metrics, transforms
from inkwash.systems.series.data import Series, shortened
from inkwash.systems.series.evaluate import MODEL, comparison, truths
from inkwash.systems.series.features import seasonality

ALL = "(all)"  # the values of all series together
FEW = 10  # series of which each has a line of the printed table, and of the chart


@dataclass(frozen=True, kw_only=True)
class Backtest(Report):
    """A report, and beside it

    scores       rows of `metrics.series_scores`, by forecast and series
    calibration  rows of `metrics.shares_below`, of the model's forecasts, by series and level
    windows      how many windows there would be if they did not overlap
    notes        which scores leave something out, or are not defined, and why
    """

    scores: list[Row]
    calibration: list[Row]
    windows: float
    notes: list[str]

    def table(self) -> pd.DataFrame:
        """A row for each forecast and series: the number of values, and a column for each score."""
        lines: dict[tuple[str, str], Row] = {}
        for each in self.scores:
            line = lines.setdefault((each["forecast"], each["series"]), keys(each) | {"n": each["n"]})
            line[each["metric"]] = each["value"]
        return pd.DataFrame(list(lines.values()))

    def markdown(self) -> str:
        """The report, the model's scores of each series if there are at most ten, and the notes."""
        own = [{name: value for name, value in each.items() if name != "forecast"} for each in self.scores_of_model()]
        few = len({each["series"] for each in own} - {ALL}) <= FEW
        table = markdown_table(own if few else [each for each in own if each["series"] == ALL])
        return "\n\n".join([super().markdown(), table, *self.notes])

    def scores_of_model(self) -> list[Row]:
        return [each for each in self.scores if each["forecast"] == MODEL]

    def plot(self, file: str | Path) -> None:
        """A reliability diagram, as PNG or SVG; see `plot.reliability`."""
        from inkwash.systems.series.plot import reliability

        names = [name for name in dict.fromkeys(each["series"] for each in self.calibration) if name != ALL]
        shares = {
            name: [each for each in self.calibration if each["series"] == name]
            for name in (ALL, *(names if 1 < len(names) <= FEW else ()))
        }
        reliability(shares.pop(ALL), shares, self.windows, Path(file))


def rolling_starts(length: int, horizon: int, windows: int, stride: int | None, history: int) -> list[int]:
    """Where the last `windows` windows of a table begin, `stride` steps apart (the horizon if left out). UserError
    where less than `history` steps lie before the first."""
    stride = horizon if stride is None else stride
    if windows < 1 or stride < 1 or horizon < 1:
        raise UserError(f"windows = {windows}, stride = {stride}, horizon = {horizon}: each must be at least 1")
    last = length - horizon
    starts = sorted(last - stride * k for k in range(windows))
    if starts[0] < history:
        most = max((last - history) // stride + 1, 0)
        raise UserError(
            f"{windows} windows reach back to step {starts[0]}, but {history} steps must lie before "
            f"a forecast: at most {most} windows fit in this table"
        )
    return starts


def measure(
    series: Series, starts: list[int], paths: np.ndarray, seed: int, truth: np.ndarray | None = None, **facts: Any
) -> Backtest:
    """Of the model's paths (W, S, H, D) from `starts`, and of simple forecasts. truth (W, H, D): the table's, or NaN
    where something is not to be scored. facts: the rest of the report."""
    _, samples, horizon, _ = paths.shape
    values, season = series.values.to_numpy(np.float64), seasonality(series.freq)
    filled = transforms.fill_gaps(values)
    forecasts = {MODEL: paths} | {
        name: baselines.rolling_forecasts(rule, filled, starts, horizon, samples, seed)
        for name, rule in baselines.default_baselines(season if season < starts[0] else 1).items()
    }
    truth = truths(series, starts, horizon) if truth is None else truth
    scale = np.stack([metrics.seasonal_scale(values[:start], season) for start in starts])
    stride = starts[1] - starts[0] if len(starts) > 1 else horizon
    notes = left_out(series.names, paths, truth, scale)
    if 1 < season >= starts[0]:
        notes.append(f"No forecast repeats the season: of {season} steps {starts[0]} lie before the first window.")
    return Backtest(
        title=f"{len(starts)} windows of {horizon} steps, {samples} paths.",
        system="series",
        seeds=[seed],
        rows=comparison(forecasts, truth),
        scores=[each for name, drawn in forecasts.items() for each in score(name, series.names, drawn, truth, scale)],
        calibration=calibrate(series.names, paths, truth),
        windows=1 + (len(starts) - 1) * min(stride / horizon, 1),
        notes=notes,
        **facts,
    )


def score(name: str, names: Sequence[str], paths: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> list[Row]:
    """The scores of one forecast, by series, and of all values if there are several series."""
    each, n = metrics.series_scores(paths, truth, scale), (~np.isnan(truth)).sum((0, 1))
    rows = [
        row(metric, value, n=int(count), forecast=name, series=one)
        for metric, by_series in each.items()
        for one, value, count in zip(names, by_series, n, strict=True)
    ]
    if len(names) > 1:
        together = metrics.series_scores(one_series(paths), one_series(truth), scale.T.reshape(-1, 1))
        rows += [
            row(metric, value[0], n=int(n.sum()), forecast=name, series=ALL) for metric, value in together.items()
        ]
    return rows


def calibrate(names: Sequence[str], paths: np.ndarray, truth: np.ndarray) -> list[Row]:
    """The share of the truth below each quantile, by series, and of all values."""
    n = (~np.isnan(truth)).sum((0, 1))
    parts = [(*part,) for part in zip(names, metrics.shares_below(paths, truth).T, n, strict=True)]
    (together,) = metrics.shares_below(one_series(paths), one_series(truth)).T
    return [
        row("share below", value, n=int(count), series=name, level=round(float(level), 9))
        for name, shares, count in [*parts, (ALL, together, n.sum())]
        for level, value in zip(metrics.LEVELS, shares, strict=True)
    ]


def one_series(array: np.ndarray) -> np.ndarray:
    """(W, ..., D) as (D W, ..., 1): the windows of each series one after the other, as if of one."""
    return np.moveaxis(array, -1, 0).reshape(-1, *array.shape[1:-1], 1)


def left_out(names: Sequence[str], paths: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> list[str]:
    """What the scores of the model leave out, since they would divide by zero."""
    observed, median = ~np.isnan(truth), metrics.quantile(np.moveaxis(paths, 1, 0), 0.5)
    unscaled = observed & np.isnan(scale)[:, None]
    both_zero = (truth == 0) & (median == 0)
    parts = [
        ("MASE and scaled CRPS leave out {} of {} values of {}: nothing changes before them", unscaled),
        ("sMAPE leaves out {} of {} values of {}: they and their medians are 0", both_zero),
    ]
    notes = []
    for text, mask in parts:
        if (hit := mask.any((0, 1))).any():
            hit_names = shortened([name for name, is_hit in zip(names, hit, strict=True) if is_hit])
            notes.append(text.format(mask.sum(), observed[..., hit].sum(), hit_names) + ".")
    unscored = [name for name, is_there in zip(names, observed.any((0, 1)), strict=True) if not is_there]
    if unscored:
        notes.append(f"{shortened(unscored)}: no value in any window, so no score.")
    zero = [
        name
        for name, y in zip(names, np.moveaxis(truth, -1, 0), strict=True)
        if name not in unscored and not np.nansum(np.abs(y))
    ]
    if zero:
        notes.append(f"WQL of {shortened(zero)} is not defined: there is no value but 0.")
    return notes
