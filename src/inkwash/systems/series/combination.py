"""The forecasts of several experts as one: a linear pool, weighed and stretched by what a backtest has found.

A path of the pool is a path of one expert, all its steps and series, so that what was joint stays joint. The weights
minimize the CRPS of the pool over the windows of the backtest, with a penalty for leaving the prior (stacking:
Wolpert 1992; of predictive distributions: Yao, Vehtari, Simpson and Gelman 2018). The fewer the windows, the nearer
they stay to it; without one it decides. Then the paths of each series are stretched about their median until the
bands hold what they say (conformal prediction), again the less the fewer windows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from inkwash.diffusion import child_seed
from inkwash.systems.series import metrics
from inkwash.systems.series.baselines import Forecast, last_value, random_walk, seasonal_naive, spans
from inkwash.systems.series.effects import Covariates, remove_effects
from inkwash.systems.series.ets import ets
from inkwash.systems.series.pooled import is_pooled, pooled_ets

DIFFUSION, ETS, POOLED, WALK, SHORT_WALK, SEASON = (
    *("diffusion", "exponential smoothing", "pooled exponential smoothing", "random walk"),
    *("random walk, last 30 steps", "last season"),
)
EXPERTS = {DIFFUSION, ETS, POOLED, WALK, SHORT_WALK, SEASON}
COMBINATION = "this forecast"
TOTAL_CRPS, TOTAL_WITHIN = "CRPS of the total", "total within 90 %"
PRIOR = {ETS: 0.75, DIFFUSION: 0.15, SHORT_WALK: 0.03, WALK: 0.03, SEASON: 0.04}
# of many short series, of which a network of all at once learns next to nothing
POOLED_PRIOR = {POOLED: 0.65, ETS: 0.2, DIFFUSION: 0.05, SHORT_WALK: 0.03, WALK: 0.03, SEASON: 0.04}
PENALTY = 1.0  # of leaving the prior: windows whose whole CRPS weighs as much
SMALLEST = 0.02  # an expert that weighs less is left out
HALF_BELIEVED = 6.0  # windows by which a stretch is half believed
STRETCH = (0.5, 2.0)  # the least and the most
WINDOWS, SAMPLES = 10, 100  # of a backtest: the most, and paths of each
GOLDEN = (5**0.5 - 1) / 2


def last_season(history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator, season: int) -> np.ndarray:
    """The season before with its errors; a random walk where there are no three seasons."""
    if len(history) < 3 * season:
        return random_walk(history, horizon, samples, rng)
    return seasonal_naive(history, horizon, samples, rng, season)


def experts(season: int) -> dict[str, Forecast]:
    """Those that need no training."""
    return {
        ETS: partial(ets, season=season),
        SHORT_WALK: partial(random_walk, window=30),
        WALK: partial(random_walk, window=500),
        SEASON: partial(last_season, season=season),
    }


def prior(length: int, season: int, dims: int = 1) -> dict[str, float]:
    """The weights before any backtest: the season before has one where there are three of it."""
    weights = POOLED_PRIOR if is_pooled(length, dims, season) else PRIOR
    fitting = {name: weight for name, weight in weights.items() if name != SEASON or length >= 3 * season > 3}
    return {name: weight / sum(fitting.values()) for name, weight in fitting.items()}


def expert_paths(
    name: str, season: int, values: np.ndarray, starts: Sequence[int], horizon: int, samples: int, seed: int,
    window: int = 0, covariates: Covariates | None = None,
) -> np.ndarray:  # fmt: skip
    """Paths (W, S, H, D) of an expert from several starts in values (T, D), NaN where nothing was observed. It is
    fitted to what a regression on the covariates leaves, which is added again (`effects`).

    A series is forecast from its own last value, together with those that begin and end where it does, or pooled with
    all. The noise of the w-th start is that of `child_seed(seed, window + w, name)`.
    """
    paths = np.zeros((len(starts), samples, horizon, values.shape[1]))
    for number, start in enumerate(starts):
        rng = np.random.default_rng(child_seed(seed, window + number, name))
        past, add = values[:start], None
        if covariates is not None and covariates.values.shape[1]:
            past, add = remove_effects(past, covariates._replace(values=covariates.values[: start + horizon]), season)
        if name == POOLED:
            paths[number] = pooled_ets(past, horizon, samples, rng, season)
        for first, end, columns in [] if name == POOLED else spans(past):  # without a value a series is 0
            expert = experts(season)[name]
            history = np.ascontiguousarray(pd.DataFrame(past[first:end, columns]).interpolate())
            rule = expert if len(history) > 2 else last_value
            drawn = rule(history, start - end + horizon, samples, rng)
            paths[number][..., columns] = drawn[:, start - end :]
        if add is not None:
            paths[number] = add(paths[number], np.random.default_rng(child_seed(seed, window + number, "effects")))
    return paths


def pool(weights: dict[str, float], samples: int, draw: Callable[[str, int], np.ndarray]) -> np.ndarray:
    """Paths (W, S, H, D) of the pool; draw(expert, n) makes the first n paths (W, n, H, D) of an expert.

    Antithetic pairs stay together. The k-th pair is of the expert at the fraction of 1/2 + k / golden ratio in the
    summed weights (an additive recurrence): among any first ones an expert has its share, and which expert a path is
    of does not hang on how many there are.
    """
    share = (0.5 + np.arange(samples) // 2 * GOLDEN) % 1
    chosen = np.searchsorted(np.cumsum([*weights.values()])[:-1], share, side="right")
    drawn = [draw(name, int((chosen == k).sum())) if k in chosen else None for k, name in enumerate(weights)]
    order = np.argsort(np.argsort(chosen, kind="stable"))
    return np.concatenate([paths for paths in drawn if paths is not None], axis=1)[:, order]


class Distances(NamedTuple):
    """Of each window and expert: E|X_k - y| (W, K); and of each two experts E|X_k - X_l| (W, K, K)."""

    to_truth: np.ndarray
    between: np.ndarray


def distances(paths: Sequence[np.ndarray], truth: np.ndarray, scale: np.ndarray) -> Distances:
    """Of K experts' paths (W, S, H, D) and the truth (W, H, D), over a scale (D,), by 19 quantiles of each
    distribution: means over the steps and series that are there."""
    to_truth, between = [], []
    for window, y in enumerate(truth / scale):
        quantiles = np.stack([np.quantile(each[window], metrics.LEVELS, axis=0) for each in paths])
        x = (quantiles / scale)[:, :, ~np.isnan(y)]  # (K, 19, N)
        to_truth.append(np.abs(x - y[~np.isnan(y)]).mean((1, 2)))
        between.append([[np.mean([np.abs(level - b).mean() for level in a]) for b in x] for a in x])
    return Distances(np.array(to_truth), np.array(between))


def stack(found: Distances, prior: np.ndarray, windows: float) -> np.ndarray:
    """The weights (K,) that minimize windows * CRPS(w) / CRPS of the best expert + PENALTY * KL(w | prior), where

    CRPS(w) = sum_k w_k E|X_k - y| - 1/2 sum_kl w_k w_l E|X_k - X_l|

    is that of the pool, as a mean over all windows. Weights below SMALLEST are zero.
    """
    to_truth, between = found.to_truth.mean(0), found.between.mean(0)
    best = max((to_truth - np.diag(between) / 2).min(), 1e-12)
    strength = windows / PENALTY / best
    rate, weights = 1 / (1 + strength * between.max()), prior
    for _ in range(2000):  # mirror descent: CRPS and KL are convex in the weights
        slope = strength * (to_truth - between @ weights) + np.log(weights / prior)
        weights = weights * np.exp(-rate * (slope - slope.min()))
        weights = np.maximum(weights / weights.sum(), 1e-12)
    weights = np.where(weights < SMALLEST, 0, weights)
    return np.asarray(weights / weights.sum())


def stretches(paths: np.ndarray, truth: np.ndarray, windows: float) -> np.ndarray:
    """(D,): what to multiply the distance of each series' paths (W, S, H, D) from their median by, so that bands of
    80 and 90 % would have held so much of the truth (W, H, D); to the power windows / (windows + HALF_BELIEVED)."""
    median = np.median(paths, axis=1)
    logs = []
    for band in (0.8, 0.9):
        low, high = np.quantile(paths, [(1 - band) / 2, (1 + band) / 2], axis=1)
        width = np.where(truth > median, high - median, median - low)
        needed = np.where(width > 0, np.abs(truth - median) / np.where(width > 0, width, 1), np.nan)
        missing = np.isnan(needed).all((0, 1))
        needed[:, :, missing] = 1.0  # of what does not move, or has no truth, nothing is known
        logs.append(np.log(np.nanquantile(needed, band, axis=(0, 1)).clip(*STRETCH)))
    return np.asarray(np.exp(np.mean(logs, axis=0) * windows / (windows + HALF_BELIEVED)))


def stretch(paths: np.ndarray, by: np.ndarray | Sequence[float]) -> np.ndarray:
    """Paths (W, S, H, D), each series' distance from its median multiplied."""
    median = np.median(paths, axis=1, keepdims=True)
    return np.asarray(median + np.asarray(by) * (paths - median))


def backtest_starts(length: int, horizon: int, dims: int = 1) -> tuple[list[int], float]:
    """Where the windows of a backtest begin, at most ten (three of many series), in the last half; and how many that
    would be if they did not overlap."""
    most = int(np.clip(1000 // dims, 3, WINDOWS))
    room = length - horizon - max(length // 2, 8)
    if room < 0:
        return [], 0.0
    stride = int(np.clip(room // (most - 1), max(horizon // 4, 1), horizon))
    count = min(most, 1 + room // stride)
    starts = [length - horizon - stride * k for k in reversed(range(count))]
    return starts, 1 + (count - 1) * stride / horizon


class Backtest(NamedTuple):
    """What it has found: weights by expert, a stretch for each series, and its table, a row for each method."""

    weights: dict[str, float]
    stretch: list[float]
    table: list[dict[str, Any]]


def backtest(
    paths: dict[str, np.ndarray], truth: np.ndarray, scale: np.ndarray, prior: dict[str, float], windows: float
) -> Backtest:
    """Of the experts by their paths (W, S, H, D) of the truth (W, H, D); the score is the CRPS over a scale (D,). One
    without paths keeps its prior. `windows`: how many they would be without overlap.

    The pool is scored on each window by the weights and the stretch that the others say.
    """
    names, unknown = list(paths), {name: weight for name, weight in prior.items() if name not in paths}
    before = np.array([prior[name] for name in names])
    first = dict(zip(names, (before / before.sum()).tolist(), strict=True))
    apart = distances([*paths.values()], truth, scale)

    def weigh(rows: np.ndarray, windows: float) -> tuple[dict[str, float], np.ndarray]:
        found = stack(Distances(apart.to_truth[rows], apart.between[rows]), np.array([*first.values()]), windows)
        weights = {name: float(weight) for name, weight in zip(names, found, strict=True) if weight}
        return weights, stretches(pooled(weights, rows), truth[rows], windows)

    def pooled(weights: dict[str, float], rows: np.ndarray) -> np.ndarray:
        return pool(weights, paths[names[0]].shape[1], lambda name, count: paths[name][rows, :count])

    everything = np.arange(len(truth))
    unseen = []
    for window in everything:
        others, alone = np.delete(everything, window), everything[[window]]
        weights, by = weigh(others, windows - 1) if len(others) else (first, np.ones(truth.shape[2]))
        unseen.append(stretch(pooled(weights, alone), by))
    weights, by = weigh(everything, windows)
    weights = {name: weight * float(before.sum()) for name, weight in weights.items()} | unknown
    forecasts = {COMBINATION: np.concatenate(unseen)} | paths
    table = [score(name, drawn, truth, scale) | total_score(drawn, truth) for name, drawn in forecasts.items()]
    return Backtest(weights, by.tolist(), table)


def score(name: str, paths: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
    """A row of the table: the scaled CRPS of each window, its mean, and how much the band of 90 % has held."""
    losses = metrics.quantile_loss(np.moveaxis(paths, 1, 0), truth) / scale
    by_window = [float(np.nanmean(loss)) for loss in losses if not np.isnan(loss).all()]
    return {
        "forecast": name,
        "scaled CRPS": float(np.mean(by_window)),
        "within 90 %": metrics.coverage(paths, truth),
        "by window": by_window,
    }


def total_score(paths: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of the sum of all series, path by path: its CRPS, over the mean size of the sum, and how much its band of 90 %
    has held; nothing where there is one series, or never a value of all."""
    summed = truth.sum(-1, keepdims=True)
    if truth.shape[2] < 2 or np.isnan(summed).all() or not np.nansum(np.abs(summed)):
        return {}
    paths = paths.sum(-1, keepdims=True)
    return {TOTAL_CRPS: metrics.scores(paths, summed)["crps"], TOTAL_WITHIN: metrics.coverage(paths, summed)}


def verdict(table: list[dict[str, Any]]) -> str:
    """Whether the fan can be trusted: how it did beside the better of the last season and the random walk. Better is
    what is so by more than a standard error of the paired difference."""
    rows = {row["forecast"]: row for row in table}
    rival = min((name for name in (SEASON, WALK) if name in rows), key=lambda name: rows[name]["scaled CRPS"])
    own, other = (np.array(rows[name]["by window"]) for name in (COMBINATION, rival))
    gain, count = 1 - own.mean() / max(other.mean(), 1e-300), len(own)
    error = (own - other).std(ddof=1) / count**0.5 if count > 1 else np.inf
    windows = f"on {count} window{'s' * (count > 1)}"
    if other.mean() - own.mean() > error:
        return f"better than the {rival} by {100 * gain:.0f} % {windows} that it had not seen"
    return f"not shown to be better than the {rival} {windows}: trust it no more than that"


def markdown(table: list[dict[str, Any]], total: bool = False) -> str:
    """The table of a backtest, perhaps with the scores of the total, and its verdict."""
    names = ["scaled CRPS", "within 90 %", *([TOTAL_CRPS, TOTAL_WITHIN] if total and TOTAL_CRPS in table[0] else [])]
    lines = [f"| in the backtest | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for row in table:
        cells = [f"{100 * row[name]:.0f} %" if "90 %" in name else f"{row[name]:.3f}" for name in names]
        lines.append(f"| {row['forecast']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"This forecast is {verdict(table)}."])
