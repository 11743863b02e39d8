"""The whole table of a forecaster on a data set of rolling windows, beside the forecasts that it must beat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.report import Report, Row, row, student
from inkwash.systems.series import baselines, metrics, transforms
from inkwash.systems.series.data import Series
from inkwash.systems.series.features import seasonality

Progress = Callable[[int, int], None]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
MODEL = "this model"


def baseline_rules(series: Series, values: np.ndarray, trained: int, horizon: int) -> dict[str, baselines.Forecast]:
    """The forecasts that need no network, by name, of values without gaps (T, D). What is chosen is chosen on the
    first `trained` steps."""
    random_walk, window = baselines.choose_random_walk(values[:trained], horizon)
    rules: dict[str, baselines.Forecast] = {
        "last value": baselines.last_value,
        f"random walk, window {window} (chosen in training)": random_walk,
    }
    rules |= {
        f"random walk, window {w}": partial(baselines.random_walk, window=w) for w in baselines.WINDOWS if w != window
    }
    if 1 < (season := seasonality(series.freq)) < trained:
        rules[f"seasonal naive ({season} steps)"] = partial(baselines.seasonal_naive, season=season)
    if find_spec("statsmodels") and (np.diff(values[:trained], axis=0).std(0) > 0).sum() > 1:
        rules["vector autoregression"] = baselines.vector_autoregression
    return rules


def paired_comparison(first: np.ndarray, second: np.ndarray, **keys: Any) -> list[Row]:
    """Two forecasts of the same windows, by the score of each window (W,): the mean difference (negative: the first
    is better), the share of windows won, and p of Student's paired test and of Wilcoxon's."""
    from scipy.stats import ttest_rel, wilcoxon

    difference = first - second
    return [
        row("this model minus it", difference.mean(), student(difference), len(first), **keys),
        row("windows won", (difference < 0).mean(), n=len(first), **keys),
        row("p (Student)", ttest_rel(first, second).pvalue, n=len(first), **keys),
        row("p (Wilcoxon)", wilcoxon(first, second).pvalue, n=len(first), **keys),
    ]


def evaluate(
    forecaster: Any,
    series: Series,
    starts: list[int],
    horizon: int,
    samples: int = 100,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
    alone: bool = False,
    map_windows: Map = map,
) -> Report:
    """Scores of a forecaster that was trained on what lies before the first window, and of those of `baseline_rules`,
    with the paired comparison to each by the crps_sum of each window. alone: the diffusion model, without the experts
    that it was combined with. map_windows: the `map` of a `Context`."""
    config = forecaster.config
    truth = truths(series, starts, horizon, config.history)
    values = transforms.fill_gaps(series.values.to_numpy(np.float64))
    rules = baseline_rules(series, values, starts[0], horizon)

    def forecast(window: int) -> tuple[dict[str, np.ndarray], float]:
        """Paths (1, S, H, D) by name, and the seconds that those of the model took."""
        start, clock = [starts[window]], time.process_time()
        own = forecaster.paths(series, start, horizon, samples, seed, sampler, steps, window=window, alone=alone)
        seconds = time.process_time() - clock
        return {MODEL: own} | {
            name: baselines.rolling_forecasts(rule, values, start, horizon, samples, seed)
            for name, rule in rules.items()
        }, seconds

    found = list[tuple[dict[str, np.ndarray], float]]()
    for each in map_windows(forecast, range(len(starts))):
        found.append(each)
        if progress is not None:
            progress(len(found), len(starts))
    forecasts = {  # in one layout, wherever they were made: sums hang on it in their last digits
        name: np.ascontiguousarray(np.concatenate([paths[name] for paths, _ in found])) for name in (MODEL, *rules)
    }
    return Report(
        title=f"{len(starts)} windows of {horizon} steps, {samples} paths.",
        system="series",
        model={
            "sha256": forecaster.hash,
            "sampler": sampler or config.sampler,
            "steps": config.steps if steps is None else steps,
        },
        seeds=[seed],
        cpu_seconds={"to draw them": sum(seconds for _, seconds in found)},
        rows=comparison(forecasts, truth),
    )


def comparison(paths: dict[str, np.ndarray], truth: np.ndarray) -> list[Row]:
    """Scores of forecasts by name, (W, S, H, D), of the truth (W, H, D), and the first one beside each other."""
    rows = [
        row(metric, value, n=len(truth), forecast=name)
        for name, drawn in paths.items()
        for metric, value in (metrics.scores(drawn, truth) | {"within 90 %": metrics.coverage(drawn, truth)}).items()
    ]
    scored = ~np.isnan(truth.sum(-1)).all(axis=1)  # windows of gaps alone have no score
    if scored.sum() > 1 and np.nansum(np.abs(truth.sum(-1))):
        (_, model_paths), *others = paths.items()
        by_window = metrics.window_scores(model_paths[scored], truth[scored])
        for name, drawn in others:
            rows += paired_comparison(by_window, metrics.window_scores(drawn[scored], truth[scored]), forecast=name)
    return rows


def truths(series: Series, starts: list[int], horizon: int, history: int = 1) -> np.ndarray:
    """(W, H, D), NaN of a series in a window before which it has no value. UserError for windows that do not lie in
    the table, after at least `history` steps, and where none of them has a value."""
    values = series.values.to_numpy(np.float64)
    if not starts or min(starts) < history or max(starts) + horizon > len(values):
        begin = ", ".join(map(str, starts[:10]))
        raise UserError(
            f"windows of {horizon} steps that begin at {begin}: they must lie in the table of {len(values)} steps, "
            f"after {history} at least: bring a longer one, or fewer windows"
        )
    begun = [~np.isnan(values[:start]).all(0) for start in starts]
    found = [np.where(known, values[at : at + horizon], np.nan) for at, known in zip(starts, begun, strict=True)]
    if np.isnan(found).all():
        raise UserError("no series has a value in the windows and one before: there is nothing to score")
    return np.stack(found)
