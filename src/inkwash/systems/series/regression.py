"""What a linear regression on the past says of the next change, and whether it says anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from inkwash.systems.series import transforms
from inkwash.systems.series.data import Series
from inkwash.systems.series.features import seasonality
from inkwash.systems.series.networks import TimeGrad

HELD_LATE = 0.2  # of the data, on which a regression is chosen
FOLDS = 5  # blocks of time, each forecast by a regression on the others
RIDGES = [1e-4, 1e-2, 1e-1, 1.0, 10.0, 100.0]

Rows = tuple[Tensor, Tensor, Tensor]  # of a regression: inputs (N, I), targets (N, D), and where there are any


def is_random_walk(
    series: Series, config: transforms.Config, net: TimeGrad, sample_windows: transforms.WindowSampler
) -> bool:
    """Whether the past does not tell which way the series will go.

    A ridge regression of the mean change over the horizon, fitted on windows of the first four fifths of the data,
    must take a tenth off the squared error in the last fifth, for half of the series; else they are random walks.
    (Over a single step even exchange rates can be foretold a little, which is of no use over thirty.) Where no window
    fits into the last fifth, one of the rules of `simple_errors` must do so.
    """

    def rows(interval: tuple[float, float], seed: int) -> Rows:
        inputs, steps, observed = regression_example(config, net, sample_windows, seed, interval)
        ahead = steps[:, config.context :].cumsum(1).mean(1)  # nothing is taken off yet: steps are changes
        return inputs[:, config.context].double(), ahead.double(), observed[:, config.context :].any(1).double()

    moving = (net.typical > 0).numpy()
    if HELD_LATE * len(series.values) >= config.history + config.ahead:
        early, late = rows((0.0, 1 - HELD_LATE), 0), rows((1 - HELD_LATE, 1.0), 1)
        errors = ridge_errors(early, late)
        walks = (errors.amin(0) > 0.9 * errors[-1]).numpy()
    else:
        values = transforms.fill_gaps(series.values.to_numpy(np.float64))
        walks = simple_errors(values, seasonality(series.freq), config.horizon).min(0) > 0.9 - 5 / len(values)
    return bool(walks[moving].mean() > 0.5) if moving.any() else False


def simple_errors(values: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """(3, D): the squared errors of the mean so far, of a straight line through the past, and of the values a season
    ago (infinite where there are no two seasons), each over those of the last value from the same starts (T, D)."""
    length = len(values)
    rules: dict[Callable[..., np.ndarray], int] = {
        mean_so_far: length // 3,
        straight_line: length // 3,
        partial(season_ago, season=season): season,
    }
    ratios = []
    for rule, first in rules.items():
        errors = np.zeros((2, values.shape[1]))
        for start in range(first, length):
            truth = values[start : start + horizon]
            forecasts = (rule(values[:start], len(truth)), values[start - 1])
            errors += [((truth - forecast) ** 2).sum(0) for forecast in forecasts]
        there = length >= 2 * first and (errors[1] > 0)
        ratios.append(np.where(there, errors[0] / np.where(there, errors[1], 1), np.inf))
    return np.array(ratios)


def mean_so_far(past: np.ndarray, steps: int) -> np.ndarray:
    return np.repeat(past.mean(0, keepdims=True), steps, axis=0)


def straight_line(past: np.ndarray, steps: int) -> np.ndarray:
    slope, level = np.polyfit(np.arange(len(past)), past, 1)
    return np.asarray(level + slope * np.arange(len(past), len(past) + steps)[:, None])


def season_ago(past: np.ndarray, steps: int, season: int) -> np.ndarray:
    return past[len(past) - season + np.arange(steps) % season]


def fit_regression(
    series: Series, config: transforms.Config, net: TimeGrad, sample_windows: transforms.WindowSampler
) -> Tensor:
    """Fits what a linear regression says of the next change of each series; each has its own ridge, chosen on windows
    of the last fifth of the data. Returns (D,): by how much its mean square error is larger out of sample than in
    it, cross-fitted over `FOLDS` blocks of time."""
    count = fitted_window_count(config)
    early, late = (
        regression_example(config, net, sample_windows, seed, interval, count)
        for seed, interval in enumerate([(0.0, 1 - HELD_LATE), (1 - HELD_LATE, 1.0)])
    )
    unseen = flatten(after_context(config, late))
    best = ridge_errors(flatten(early), unseen).argmin(0)

    def fitted(rows: Rows) -> Tensor:
        location = rows[0].new_empty(len(best), rows[0].shape[1])
        for number, coefficients in enumerate(ridge_regressions(rows)):
            location[best == number] = coefficients(best == number).T
        return location.T

    starts = transforms.window_starts(series, config, count, np.random.default_rng(2))
    read_windows = transforms.window_reader(series, config, torch.device("cpu"))
    rows = flatten(transforms.training_example(config, net, read_windows(starts)))
    net.location.copy_(fitted(rows))
    steps = starts[:, None] + max(config.lags) + torch.arange(config.context + config.ahead)
    block = steps.flatten() * FOLDS // len(series.values)
    unseen_error = torch.zeros(len(best), dtype=torch.float64)
    for fold in range(FOLDS):
        inside = (block == fold).double()[:, None]
        x, y, observed = rows
        outside = fitted((x * (1 - inside), y, observed * (1 - inside)))
        unseen_error += residual((x, y, observed * inside), outside) * (observed * inside).sum(0)
    unseen_error /= rows[2].sum(0).clamp(min=1)
    seen_error = residual(rows, net.location.double())
    return (unseen_error / seen_error.clamp(min=1e-12) - 1).clamp(min=0)


def after_context(config: transforms.Config, example: transforms.Example) -> transforms.Example:
    """Windows of which only the steps after the context count: in a short table the contexts of the last windows
    were learned from."""
    inputs, target, observed = example
    ahead = torch.arange(observed.shape[1], device=observed.device)[:, None] >= config.context
    return inputs, target, observed & ahead


def regression_example(
    config: transforms.Config,
    net: TimeGrad,
    sample_windows: transforms.WindowSampler,
    seed: int,
    interval: tuple[float, float] = (0.0, 1.0),
    count: int | None = None,
) -> transforms.Example:
    """Of random windows of an interval, `window_count` of them if it is not said how many."""
    windows = sample_windows(count or window_count(config), np.random.default_rng(seed), interval)
    return transforms.training_example(config, net, windows)


def window_count(config: transforms.Config) -> int:
    """A thousand, or as many as half a gigabyte of inputs holds."""
    return max(8, min(1000, 2**26 // ((config.context + config.ahead) * config.inputs)))


def fitted_window_count(config: transforms.Config) -> int:
    """As many; of more than a thousand inputs fewer, lest the products of their rows, N^2 I, take minutes."""
    rows = 2**36 // config.inputs**2
    return max(8, min(window_count(config), rows // (config.context + config.ahead)))


def residual(rows: Rows, location: Tensor) -> Tensor:
    """(D,): the mean square of what a regression leaves."""
    x, y, observed = rows
    return ((y - x @ location) ** 2 * observed).sum(0) / observed.sum(0).clamp(min=1)


def flatten(example: transforms.Example) -> Rows:
    """Steps of all windows as rows, in float64."""
    inputs, target, observed = (tensor.flatten(0, 1).double() for tensor in example)
    return inputs, target, observed


def ridge_errors(rows: Rows, unseen: Rows) -> Tensor:
    """(ridges, D): what each ridge, fitted on rows, leaves of others."""
    every = torch.ones(rows[1].shape[1], dtype=torch.bool)
    return torch.stack([residual(unseen, coefficients(every)) for coefficients in ridge_regressions(rows)])


def ridge_regressions(rows: Rows) -> Iterator[Callable[[Tensor], Tensor]]:
    """For each ridge a function from a choice of series, (D,) of booleans, to their coefficients (I, d): the argmin
    of the mean |y - x w|^2 + ridge mean |x|^2 |w|^2. A missing y counts as 0, but not where all are missing. The last
    ridge is infinite, w = 0.

    Of more inputs than rows the rows' own matrix is inverted: (x'x + r)^-1 x' = x' (x x' + r)^-1.
    """
    x, y, observed = rows
    x, y = x * observed.amax(1, keepdim=True), y * observed
    wide = x.shape[1] > len(x)
    inner, right = (x @ x.T / len(x), y / len(x)) if wide else (x.T @ x / len(x), x.T @ y / len(x))
    size, diagonal = inner.diagonal().sum() / x.shape[1], torch.eye(len(inner), dtype=x.dtype)

    def coefficients(solution: Tensor, chosen: Tensor) -> Tensor:
        return x.T @ solution[:, chosen] if wide else solution[:, chosen]

    for ridge in RIDGES:
        matrix = inner + (ridge * size + 1e-9) * diagonal
        yield partial(coefficients, torch.linalg.solve(matrix, right))
    yield partial(coefficients, torch.zeros_like(right))
