"""The verbs of forecasting: from requests to results."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context, Result, on_progress
from inkwash.systems.series import combination, hierarchy, metrics, transforms
from inkwash.systems.series.data import Series, column_options, read_rolling_archive, read_series, refuse_columns
from inkwash.systems.series.forecast import LEVELS
from inkwash.systems.series.forecast import Forecast as Paths
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.request import Backtest, Evaluate, Forecast, Impute
from inkwash.systems.series.train import (
    Recipe,
    default_settings,
    fit_forecaster,
    say_what_was_read,
    without_empty_items,
)
from inkwash.systems.train import Task, on_machine
from inkwash.systems.train import train as run_training

DEFAULT_HORIZON = 30
TASKS = {"series": Task("inkwash.systems.series.train")}


def forecast(requests: list[Forecast], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        if request.model is None:
            series = without_empty_items(read_series(context.open(request.data), **column_options(request)))
            check_sums(request, series)
            folder, lags = context.folder / "forecaster", None if request.lags is None else list(request.lags)
            horizon, mode = request.horizon or DEFAULT_HORIZON, request.mode or "improved"
            forecaster = fit_forecaster(
                series, horizon, folder / "run", mode=mode, context=request.context, lags=lags,
                settings=on_machine(default_settings(mode), context), monitor=context, alone=request.alone,
            )  # fmt: skip
        else:
            forecaster = context.model(request.model)
            series = load_series(request, forecaster, context)
            check_sums(request, series)
        sampler, steps = request.sampler, request.steps
        if request.model is None and not forecaster.diffuses and (sampler or steps):
            context.tell(Note("the diffusion model has no weight here: sampler and steps change nothing"))
            sampler = steps = None
        with say_what_is_foreign(forecaster, series, context):
            predicted = forecaster.forecast(
                series, request.horizon, request.samples, request.seed,
                sampler=sampler, steps=steps, integer=request.integer, minimum=request.minimum,
                progress=on_progress(context), alone=request.alone,
            )  # fmt: skip
        levels = sorted(set(request.levels or LEVELS))
        files = {".csv": context.folder / f"{of}.csv", ".png": context.folder / f"{of}.png"}
        layout, history = series.layout, series.values
        if request.sums:
            predicted, layout = hierarchy.with_sums(predicted, layout)
            history = hierarchy.history_with_sums(history, series.layout)
        layout.write(predicted.to_dataframe(levels)).to_csv(files[".csv"], index=False)
        predicted.plot(files[".png"], history, levels=levels)
        rows = [] if request.alone else forecaster.config.backtest
        facts = {"text": combination.markdown(rows, request.sums), "rows": rows} if rows else {}
        yield Result(of, 0, files, facts, recipe=request.facts() | {"hash": forecaster.hash})
        if request.model is None:
            forecaster.save(folder)
            yield Result(of, None, {}, model=folder)


def backtest(requests: list[Backtest], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        forecaster = context.model(request.model)
        series = load_series(request, forecaster, context)
        with say_what_is_foreign(forecaster, series, context):
            measured = forecaster.backtest(
                series, request.windows, request.stride, request.horizon, request.samples, request.seed,
                sampler=request.sampler, steps=request.steps, progress=on_progress(context), alone=request.alone,
            )  # fmt: skip
        yield Result(of, None, {}, {"text": measured.markdown(), "rows": measured.rows})


def impute(requests: list[Impute], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        forecaster = context.model(request.model)
        series = load_series(request, forecaster, context)
        with say_what_is_foreign(forecaster, series, context):
            paths = forecaster.impute(
                series, request.samples, request.seed,
                sampler=request.sampler, steps=request.steps, integer=request.integer, minimum=request.minimum,
                progress=on_progress(context),
            )  # fmt: skip
        filled = pd.DataFrame(median(paths, request.integer), series.values.index, series.values.columns)
        files = {ending: context.folder / f"{of}{ending}" for ending in (".csv", "-quantiles.csv")}
        series.layout.write_values(filled).to_csv(files[".csv"], index=False)
        levels = sorted(set(request.levels or LEVELS))
        quantiles = Paths(paths, series.values.index, series.names).to_dataframe(levels)
        missing = series.values.isna().to_numpy().ravel()
        series.layout.write(quantiles[missing]).to_csv(files["-quantiles.csv"], index=False)
        yield Result(of, 0, files, recipe=request.facts() | {"hash": forecaster.hash})


def check_sums(request: Forecast, series: Series) -> None:
    """UserError, before anything is trained, where its sums are refused."""
    if request.sums:
        hierarchy.sums(series.names, series.layout)


def say_what_is_foreign(forecaster: Forecaster, series: Series, context: Context) -> warnings.catch_warnings:
    """A note of each series that is not like the one of training; within the context that is returned, the model
    does not warn of it again."""
    for line in transforms.warnings_of(forecaster.config, forecaster.network, series):
        context.tell(Note(line))
    return warnings.catch_warnings(action="ignore", category=transforms.ForeignSeries)


def median(paths: np.ndarray, integer: bool) -> np.ndarray:
    """(T, D) of paths (S, T, D): a whole number between two of them where they are whole numbers."""
    found: np.ndarray = metrics.quantile(paths, 0.5) if integer else np.median(paths, axis=0)
    return found


def load_series(request: Any, forecaster: Forecaster, context: Context) -> Series:
    """The table of a request as a model knows it; what was understood is said."""
    series = forecaster.load_series(context.open(request.data), column_options(request))
    say_what_was_read(series, context)
    return series


def measure(request: Evaluate, forecaster: Forecaster, context: Context) -> report.Report:
    data, horizon = context.open(request.data), forecaster.config.horizon
    if data.name.endswith((".tar.gz", ".tgz")):
        refuse_columns(data.name, column_options(request))
        series, starts, _ = read_rolling_archive(data)
    else:
        series = load_series(request, forecaster, context)
        starts = [len(series.values) - horizon * k for k in range(10, 0, -1)]
    with say_what_is_foreign(forecaster, forecaster.load_series(series, {}), context):
        return forecaster.evaluate(
            series, starts, request.seed,
            sampler=request.sampler, steps=request.steps, alone=request.alone, progress=on_progress(context),
        )  # fmt: skip


def default_recipe(data: Path) -> Recipe:
    """For a table without a recipe."""
    return Recipe("series", data, DEFAULT_HORIZON, default_settings("improved"))


train = partial(run_training, tasks=TASKS, default=default_recipe)
evaluate = partial(report.evaluate, measure=measure)
