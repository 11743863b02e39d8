"""Plans: the covariates of the steps to come in a table of their own, and what one plan changes beside another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.systems.series.cells import is_missing
from inkwash.systems.series.data import Series, read_series
from inkwash.systems.series.files import SOURCE, as_table
from inkwash.systems.series.forecast import Forecast

BAND = (0.05, 0.95)


def with_future(
    series: Series, plan: Any, feat_dynamic_real: Sequence[str], *, time: str | None = None,
    dates: str | None = None, decimal: str | None = None, missing: Sequence[Any] = (), **_: Any,
) -> Series:  # fmt: skip
    """A series whose covariates of the steps to come are those of a plan, a table of these columns (by their names in
    the data), read as the data are (`sheet` is of the data alone); its rows in any order. The series' own covariates
    of these steps, if it has any, no longer count.

    Raises UserError for a plan whose steps are not the next ones, that lacks a column, or that has values of what is
    to be forecast.
    """
    table, columns = as_table(plan, decimal), series.feat_dynamic_real.columns
    source = table.attrs.get(SOURCE, "the plan")
    if not len(columns):
        raise UserError(f"{source}: no column is known in advance; name those of the plan with --feat-dynamic-real")
    items = series.layout.items if {*series.layout.items} <= {*table.columns} else ()
    targets = [series.layout.value] if series.layout.items else series.names
    if filled := [name for name in targets if name in table and not table[name].map(is_missing).all()]:
        raise UserError(f"{source}: '{filled[0]}' is what is to be forecast: leave its cells empty in a plan")
    clock = time or (series.layout.time if series.layout.time in table else None)
    options: dict[str, Any] = {
        "time": clock, "freq": series.freq or None, "dates": dates, "decimal": decimal, "missing": missing
    }  # fmt: skip
    if items:
        each = {name: read_series(table, target=[name], item=items, **options).values for name in feat_dynamic_real}
        future = pd.concat([by_item(name, wide, columns, source) for name, wide in each.items()], axis=1)
        note = f"read {source}: {', '.join(feat_dynamic_real)} of the steps to come"
    else:
        read = read_series(table, target=feat_dynamic_real, **options)
        future, note = read.values, read.note
    if missing := [name for name in columns if name not in future]:
        raise UserError(f"{source}: '{missing[0]}' is not there, which is known in advance in the data: add it")
    future = future[list(columns)].set_axis(next_steps(series, future.index, source))
    past = series.feat_dynamic_real.iloc[: len(series.values)]
    return replace(series, feat_dynamic_real=pd.concat([past, future]), note=note)


def by_item(name: str, wide: pd.DataFrame, columns: pd.Index, source: str) -> pd.DataFrame:
    """A covariate of a long table (H, items) under the names that it has in the data: its own, or one an item."""
    if name not in columns:
        return wide.add_prefix(f"{name} of ")
    if (differs := wide.nunique(axis=1) > 1).any():
        raise UserError(
            f"{source}: '{name}' differs between the series at {wide.index[int(differs.argmax())]}, but in the data "
            "it is the same for all: give one value a step"
        )
    return wide.bfill(axis=1).iloc[:, :1].set_axis([name], axis=1)


def next_steps(series: Series, index: pd.Index, source: str) -> pd.Index:
    """The stamps of the steps after a series, which those of a plan must be."""
    expected = series.future_index(len(index))
    if not series.freq:
        if isinstance(index, pd.DatetimeIndex):
            raise UserError(f"{source}: it has time stamps, the data have none: leave them out")
        return expected
    if index.tz is not None and expected.tz is None:
        raise UserError(f"{source}: its time stamps have an offset from UTC, those of the data have none")
    same_clock = expected.tz_localize(None) if index.tz is None else expected
    if index[0] < same_clock[0]:
        raise UserError(f"{source}: {index[0]} is no step to come, as the data end at {series.values.index[-1]}")
    if not (index == same_clock).all():
        row = int((index != same_clock).argmax())
        raise UserError(f"{source}: the step of {same_clock[row]} is missing: a plan has each of the next steps")
    return expected


def differences(forecasts: dict[str, Forecast]) -> list[dict[str, Any]]:
    """Of each plan and series, what it is above the first plan: the mean over the steps, and the band of 90 % of that
    over paths, whose noise is the same under each plan."""
    (first, base), *others = forecasts.items()
    rows = []
    for name, forecast in others:
        above = (forecast.samples - base.samples).mean(1)  # (S, D)
        low, high = np.quantile(above, BAND, axis=0)
        rows += [
            {"plan": name, "beside": first, "series": one, "mean": float(mean), "low": float(a), "high": float(b)}
            for one, mean, a, b in zip(base.names, above.mean(0), low, high, strict=True)
        ]
    return rows


def in_words(rows: Sequence[dict[str, Any]], most: int = 8) -> str:
    line = "{series}: {plan} is {mean:+.4g} a step beside {beside} (90 % of paths: {low:+.4g} to {high:+.4g})"
    more = [f"and {len(rows) - most} more: --json has them"] if len(rows) > most else []
    return "\n".join([*(line.format(**row) for row in rows[:most]), *more])


def plot_plans(
    forecasts: dict[str, Forecast], file: Path, history: pd.DataFrame, unusual: pd.DataFrame | None, **how: Any
) -> None:
    """A fan chart; of several plans each series under one beside that under the next, of one scale."""
    (first, *_), plans = forecasts.values(), list(forecasts)
    if len(plans) == 1:
        return first.plot(file, history, unusual=unusual, **how)
    titles = [f"{name}, {plan}" for name in first.names for plan in plans]
    samples = np.stack([forecast.samples for forecast in forecasts.values()], axis=-1)

    def repeat(table: pd.DataFrame | None) -> pd.DataFrame | None:
        if table is None:
            return None
        return pd.DataFrame(np.repeat(table.to_numpy(), len(plans), axis=1), table.index, titles)

    both = Forecast(samples.reshape(*samples.shape[:2], -1), first.index, titles)
    both.plot(file, repeat(history), unusual=repeat(unusual), alike=len(plans), **how)
