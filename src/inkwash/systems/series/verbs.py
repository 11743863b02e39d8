"""The verbs of forecasting: from requests to results."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context, Result, on_progress
from inkwash.systems.series import combination, hierarchy, metrics, transforms
from inkwash.systems.series.cross_validation import cross_validate
from inkwash.systems.series.data import Series, column_options, read_rolling_archive, read_series, refuse_columns
from inkwash.systems.series.forecast import LEVELS, level_name
from inkwash.systems.series.forecast import Forecast as Paths
from inkwash.systems.series.future import differences, in_words, plot_plans, with_future
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.request import Backtest, Evaluate, Forecast, Impute, Tune
from inkwash.systems.series.tables import check_format, write_table
from inkwash.systems.series.train import (
    Recipe,
    default_settings,
    fit_forecaster,
    say_what_was_read,
    without_empty_items,
)
from inkwash.systems.series.unusual import find_unusual
from inkwash.systems.train import Task, on_machine
from inkwash.systems.train import train as run_training
from inkwash.systems.tune import tune as tune_by

DEFAULT_HORIZON = 30
PLAN = "plan"  # a column of the results of several plans
TASKS = {"series": Task("inkwash.systems.series.train")}


def forecast(requests: list[Forecast], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        if request.model is None:
            series = without_empty_items(read_series(context.open(request.data), **column_options(request)))
            check_sums(request, series)
            check_ids(request, series)
            horizon, mode = request.horizon or DEFAULT_HORIZON, request.mode or "improved"
            check_format(f".{request.format}", horizon * len(series.names))
            plans = read_plans(request, series, request.feat_dynamic_real or (), horizon, context)
            folder, lags = context.folder / "forecaster", None if request.lags is None else list(request.lags)
            forecaster = fit_forecaster(
                series, horizon, folder / "run", mode=mode, context=request.context, lags=lags,
                settings=on_machine(default_settings(mode), context), monitor=context, alone=request.alone,
                holidays=request.holidays or (),
            )  # fmt: skip
            series = forecaster.load_series(series, {})
        else:
            forecaster = context.model(request.model)
            series, horizon = load_series(request, forecaster, context), request.horizon or forecaster.config.horizon
            check_sums(request, series)
            check_ids(request, series)
            check_format(f".{request.format}", horizon * len(series.names))
            names = request.feat_dynamic_real or forecaster.config.feat_dynamic_real
            plans = read_plans(request, series, names, horizon, context)
        sampler, steps = request.sampler, request.steps
        if request.model is None and not forecaster.diffuses and (sampler or steps):
            context.tell(Note("the diffusion model has no weight here: sampler and steps change nothing"))
            sampler = steps = None
        with say_what_is_foreign(forecaster, plans.values(), context):
            predicted = {
                name: forecaster.forecast(
                    plan, request.horizon, request.samples, request.seed,
                    sampler=sampler, steps=steps, integer=request.integer, minimum=request.minimum,
                    progress=on_progress(context), alone=request.alone,
                )
                for name, plan in plans.items()
            }  # fmt: skip
        levels = sorted(set(request.levels or LEVELS))
        kind = f".{request.format}"
        files = {ending: context.folder / f"{of}{ending}" for ending in (kind, ".png")}
        layout, history = series.layout, series.values
        if request.sums:
            history = hierarchy.history_with_sums(history, layout)
            summed = {name: hierarchy.with_sums(each, layout) for name, each in predicted.items()}
            predicted, layout = {name: each for name, (each, _) in summed.items()}, next(iter(summed.values()))[1]
        tables = {name: layout.write(each.to_dataframe(levels)) for name, each in predicted.items()}
        rows = [] if request.alone else forecaster.config.backtest
        facts: dict[str, Any] = {"rows": rows} if rows else {}
        texts, circles = [combination.markdown(rows, request.sums)] if rows else [], None
        if rows and request.model is not None:
            texts[0] += f" That was measured in its training, {forecaster.config.horizon} steps ahead."
        if len(plans) > 1:
            facts["differences"] = differences(predicted)
            texts.append(in_words(facts["differences"]))
            tables = {name: table.assign(**{PLAN: name}) for name, table in tables.items()}
        write_table(pd.concat([*tables.values()]), files[kind], context)
        if request.unusual:
            found = find_unusual(series, transforms.known_to_experts(series, forecaster.config, 0))
            circles, files["-unusual.csv"] = (
                found.values.reindex(columns=history.columns),
                context.folder / f"{of}-unusual.csv",
            )
            series.layout.write(found.table).to_csv(files["-unusual.csv"], index=False)
            facts["unusual"] = len(found.table)
            texts.append(found.in_words())
        plot_plans(predicted, files[".png"], history, levels=levels, unusual=circles)
        facts |= {"text": "\n\n".join(texts)} if texts else {}
        yield Result(of, 0, files, facts, recipe=request.facts() | {"hash": forecaster.hash})
        if request.model is None:
            forecaster.save(folder)
            yield Result(of, None, {}, model=folder)


def backtest(requests: list[Backtest], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        facts = request.facts()
        if request.model is None:
            mode, lags = request.mode or "improved", None if request.lags is None else list(request.lags)
            measured = cross_validate(
                context.open(request.data), request.horizon or DEFAULT_HORIZON, request.windows, request.stride,
                request.samples, request.seed, mode=mode, context=request.context, lags=lags,
                settings=on_machine(default_settings(mode), context), sampler=request.sampler, steps=request.steps,
                monitor=context, alone=request.alone, holidays=request.holidays or (), **column_options(request),
            )  # fmt: skip
        else:
            forecaster = context.model(request.model)
            series = load_series(request, forecaster, context)
            with say_what_is_foreign(forecaster, [series], context):
                measured = forecaster.backtest(
                    series, request.windows, request.stride, request.horizon, request.samples, request.seed,
                    sampler=request.sampler, steps=request.steps, progress=on_progress(context), alone=request.alone,
                )  # fmt: skip
            facts |= {"hash": forecaster.hash}
        files = {ending: context.folder / f"{of}{ending}" for ending in (".txt", "-series.csv", "-calibration.png")}
        text = measured.markdown()
        files[".txt"].write_text(text + "\n", encoding="utf-8")
        measured.table().to_csv(files["-series.csv"], index=False)
        measured.plot(files["-calibration.png"])
        yield Result(of, 0, files, {"text": text, "rows": measured.rows}, recipe=facts)


def impute(requests: list[Impute], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        forecaster = context.model(request.model)
        series, history = load_series(request, forecaster, context), forecaster.config.history
        check_ids(request, series)
        if early := int(series.values.iloc[:history].isna().to_numpy().sum()):
            text = f"{early} gaps in the first {history} steps, which the model reads before it draws"
            context.tell(Note(f"{text}, are straight lines, or the nearest value, without a band"))
        with say_what_is_foreign(forecaster, [series], context):
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


def read_plans(
    request: Forecast, series: Series, names: Sequence[str], horizon: int, context: Context
) -> dict[str, Series]:
    """The series under each plan, by the plan's name, or alone under none. UserError, before any training, for plans
    of other steps or too few of them."""
    options, plans = column_options(request) | {"feat_dynamic_real": names}, {}
    for file in request.future or ():
        name = Path(file.name).stem
        if name in plans:
            raise UserError(f"two plans are called {name}: rename one of them")
        plans[name] = with_future(series, context.open(file), **options)
        say_what_was_read(plans[name], context)
    plans = plans or {"": series}
    for plan in plans.values():
        transforms.check_covariates(plan, len(plan.values) + horizon)
    return plans


def check_sums(request: Forecast, series: Series) -> None:
    """UserError, before anything is trained, where its sums are refused."""
    if request.sums:
        hierarchy.sums(series.names, series.layout)


def check_ids(request: Forecast | Impute, series: Series) -> None:
    """UserError, before any training, for columns of ids that are called as others of the results are."""
    names = {"mean", *map(level_name, request.levels or LEVELS)}
    names |= {PLAN} if getattr(request, "future", None) else set()
    names |= {"value", "low", "high"} if getattr(request, "unusual", False) else set()
    for name in series.layout.items:
        if name in names:
            raise UserError(f"a column of ids is called {name}, as that of the results is: rename it")


def say_what_is_foreign(
    forecaster: Forecaster, tables: Iterable[Series], context: Context
) -> warnings.catch_warnings:
    """A note of what is not as in training; within the context that is returned, the model does not warn of it
    again."""
    lines = [transforms.warnings_of(forecaster.config, forecaster.network, series) for series in tables]
    for line in dict.fromkeys(chain(*lines)):
        context.tell(Note(line))
    return warnings.catch_warnings(action="ignore", category=transforms.ForeignSeries)


def median(paths: np.ndarray, integer: bool) -> np.ndarray:
    """(T, D) of paths (S, T, D): a whole number between two of them where they are whole numbers."""
    found: np.ndarray = metrics.quantile(paths, 0.5) if integer else np.median(paths, axis=0)
    return found


def load_series(request: Any, forecaster: Forecaster, context: Context) -> Series:
    """The table of a request as a model knows it; what was understood is said."""
    if getattr(request, "feat_dynamic_real", None) and not forecaster.config.feat_dynamic_real:
        raise UserError(
            f"feat_dynamic_real means nothing with {request.model}, which has no covariates: leave it out"
        )
    series = forecaster.load_series(context.open(request.data), column_options(request))
    say_what_was_read(series, context)
    return series


def tune(requests: list[Tune], context: Context) -> Iterator[Result]:
    for request in requests:
        load_series(request, context.model(request.model), context)  # to say what was understood
    return tune_by(requests, context)


def measure(request: Evaluate, forecaster: Forecaster, context: Context) -> report.Report:
    data, horizon = context.open(request.data), forecaster.config.horizon
    if data.name.endswith((".tar.gz", ".tgz")):
        refuse_columns(data.name, column_options(request))
        series, starts, _ = read_rolling_archive(data)
    else:
        series = load_series(request, forecaster, context)
        starts = [len(series.values) - horizon * k for k in range(10, 0, -1)]
    with say_what_is_foreign(forecaster, [forecaster.load_series(series, {})], context):
        return forecaster.evaluate(
            series, starts, request.seed,
            sampler=request.sampler, steps=request.steps, alone=request.alone, progress=on_progress(context),
            map_windows=context.map,
        )  # fmt: skip


def default_recipe(data: Path) -> Recipe:
    """For a table without a recipe."""
    return Recipe("series", data, DEFAULT_HORIZON, default_settings("improved"))


train = partial(run_training, tasks=TASKS, default=default_recipe)
evaluate = partial(report.evaluate, measure=measure)
