"""The features of each step of a window and the target, in numbers near one; and the inverse.

Two modes. `faithful` is TimeGrad (Rasul et al. 2021, 2101.12072): values and lags over the mean absolute value of the
context. `improved` asks for the change since the last step, over the typical size of a change in the context: where a
series is far from zero, as an exchange rate is, its changes are lost in its mean. What a linear regression on the
same inputs says of the change is taken off first, so that diffusion has only the residual to learn (regression before
diffusion: CARD, Han et al. 2022, 2206.07275).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from inkwash.errors import UserError, unknown
from inkwash.systems.series.data import Series
from inkwash.systems.series.effects import Covariates
from inkwash.systems.series.features import default_lags, paper_lags, seasonality, time_features
from inkwash.systems.series.holidays import columns_each, holiday_features
from inkwash.systems.series.networks import TimeGrad
from inkwash.training.placement import place

MODES = ("improved", "faithful")
MIN_SCALE = 1e-12  # of a scale, as a part of the mean: what a constant series is divided by
MAX_INPUT = 50.0  # inputs are clipped there
FOREIGN = 10  # times the scale, or the deviation, of training: another series, or other units
MIN_STEPS = 12  # of a table that a model is trained on
SMALLEST_CHANGE, LARGEST = 1e-28, 3e38  # what float32, and the least scale of a constant, tell from 0 and infinity


@dataclass(frozen=True)
class Config:
    """What system.json says of a forecaster.

    names        of the D series
    freq         pandas frequency; "" for steps without time stamps
    horizon      steps that it was trained to forecast; context: steps that it reads before them
    lags         how far back the values lie that it is given at each step
    padding      steps by which the lags may reach before the first value: more than 0 in a short table only
    window       steps of a window of training after its context; None: the horizon
    feat_dynamic_real  covariates known in advance, with the mean, standard deviation, least and largest value of each
                 in training (the last two are empty in older models)
    holidays     countries, or parts of them, whose public holidays are covariates too (`holidays`)
    random_walk  whether the past does not tell which way the series will go (`regression.is_random_walk`): the
                 network is then given the sizes of the changes, not their signs, and trained on every change and its
                 opposite
    lower_bound  no sample lies below; None: no bound
    deviation    standard deviation of each series in training; empty in older models
    inflation    of each series: by how much a step is drawn wider than the residuals of training, which were fitted
    drift        the standard deviation of what a path is off by at all of its steps, as the regression may be: a part
                 of those residuals'. Both are empty in older models
    sampler, steps   how a step is drawn by default
    weights      of the experts that are combined (`combination`); none: the diffusion model alone
    stretch      of the combination's paths, for each series
    backtest     a row for each method: its scores before the last training
    """

    names: list[str]
    freq: str
    horizon: int
    context: int
    lags: list[int]
    mode: str = "improved"
    feat_dynamic_real: list[str] = field(default_factory=list)
    feat_dynamic_real_mean: list[float] = field(default_factory=list)
    feat_dynamic_real_std: list[float] = field(default_factory=list)
    feat_dynamic_real_min: list[float] = field(default_factory=list)
    feat_dynamic_real_max: list[float] = field(default_factory=list)
    holidays: list[str] = field(default_factory=list)
    random_walk: bool = False
    lower_bound: float | None = None
    sampler: str = "dpmpp_2m"
    steps: int = 8
    padding: int = 0
    window: int | None = None
    deviation: list[float] = field(default_factory=list)
    inflation: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    stretch: list[float] = field(default_factory=list)
    backtest: list[dict[str, Any]] = field(default_factory=list)

    @property
    def history(self) -> int:
        """Steps that must lie before a forecast."""
        return self.context + max(self.lags) - self.padding

    @property
    def ahead(self) -> int:
        """Steps of a window of training after its context."""
        return self.window or self.horizon

    @property
    def inputs(self) -> int:
        """Numbers that the recurrent network is given at each step."""
        return features(self, None, *zero_window(self)).shape[-1]


def make_config(
    series: Series, horizon: int, mode: str = "improved", context: int | None = None, lags: list[int] | None = None,
    holidays: Sequence[str] = (),
) -> Config:  # fmt: skip
    """The sizes that follow from the data. Raises UserError for sizes that cannot be, and for series too short."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if horizon < 1:
        raise UserError(f"horizon = {horizon}: at least one step must be forecast")
    holidays = [holidays] if isinstance(holidays, str) else holidays
    length, season = len(series.values), seasonality(series.freq)
    padding, window = 0, None
    if mode == "faithful":
        context = horizon if context is None else context
        lags = lags or paper_lags(series.freq)
    else:
        if length < MIN_STEPS:
            raise UserError(f"the series have {length} steps, but training needs {MIN_STEPS}: bring more data")
        context = min(max(horizon, 2 * season, 60), length // 2) if context is None else context
        # as far ahead as the last fifth of the data, on which a regression is chosen, can tell
        window = max(min(horizon, (length - context - 1) // 2, length // 5), 1)
        if not lags:
            lags = [lag for lag in default_lags(series.freq) if lag <= 2 or 2 * lag <= length]
            padding = min(max(context + max(lags) + 2 * window - length, 0), max(lags) - 1)
    if min(lags) < 1 or context < 2:
        raise UserError(f"lags = {lags}, context = {context}: lags begin at 1, a context at 2 steps")
    needed = context + max(lags) - padding + 2 * (window or horizon)
    if length < needed:
        what = f"the longest lag {max(lags)}" if padding == 0 else "the step before it"
        raise UserError(
            f"the series have {length} steps, but training needs {needed} (context {context} + {what} + twice the "
            f"{window or horizon} steps of a window): bring more data, or a smaller horizon, context or --lags"
        )
    before = series.feat_dynamic_real.iloc[:length].to_numpy(np.float64)
    mean, std = before.mean(0), before.std(0)
    check_covariates(series, length)
    holiday_features(series.values.index, series.freq, holidays)  # said now, not after a training
    never_below = bool((np.nan_to_num(series.values.to_numpy()) >= 0).all())
    config = Config(
        series.names, series.freq, horizon, context, sorted(set(lags)), mode,
        feat_dynamic_real=[str(c) for c in series.feat_dynamic_real],
        feat_dynamic_real_mean=mean.tolist(), feat_dynamic_real_std=np.where(std > 0, std, 1).tolist(),
        feat_dynamic_real_min=before.min(0).tolist(), feat_dynamic_real_max=before.max(0).tolist(),
        holidays=list(dict.fromkeys(holidays)), padding=padding, window=None if window == horizon else window,
        deviation=np.nan_to_num(series.values.to_numpy(np.float64)).std(0).tolist(),
    )  # fmt: skip
    if mode == "faithful":
        return replace(config, sampler="ancestral", steps=100)
    return replace(config, lower_bound=0.0 if never_below else None)


def check_covariates(series: Series, needed: int) -> None:
    """Raises UserError unless every covariate is there for the first `needed` steps."""
    if len(series.feat_dynamic_real.columns) == 0:
        return
    covariates = series.feat_dynamic_real.iloc[:needed]
    missing = covariates.isna().to_numpy().any(axis=1)
    if len(covariates) < needed or missing.any():
        step = int(missing.argmax()) if missing.any() else len(covariates)
        ahead = step >= len(series.values)
        index = covariates.index if step < len(covariates) else series.future_index(step + 1 - len(series.values))
        stamp = index[min(step, len(index) - 1)]
        cure = "add rows with the covariates of the steps to come" if ahead else "fill it in"
        raise UserError(f"the covariates ({', '.join(map(str, covariates.columns))}) are missing at {stamp}: {cure}")


def covariates(series: Series, config: Config, steps: int) -> np.ndarray:
    """(T + steps, F): cosines and sines of the time, and covariates known in advance (`future_known`)."""
    index = clock_ahead(series, steps)
    of_time = time_features(index, config.freq, config.mode == "improved")
    return np.concatenate([of_time, future_known(series, config, steps)], axis=1)


def clock_ahead(series: Series, steps: int) -> Any:
    """The stamps of a series, and of so many steps after it."""
    index: Any = series.values.index
    return index.append(series.future_index(steps)) if steps else index


def future_known(series: Series, config: Config, steps: int) -> np.ndarray:
    """(T + steps, C): covariates known in advance, standardized, and holidays."""
    index = clock_ahead(series, steps)
    check_covariates(series, len(index))
    known = series.feat_dynamic_real.iloc[: len(index)].to_numpy(np.float64).reshape(len(index), -1)
    known = (known - np.array(config.feat_dynamic_real_mean)) / np.array(config.feat_dynamic_real_std)
    return np.concatenate([known, holiday_features(index, config.freq, config.holidays)], axis=1)


def known_to_experts(series: Series, config: Config, steps: int) -> Covariates:
    """Covariates for the simple forecasts: of a long table those of one item ("price of tea") concern it alone."""
    known = future_known(series, config, steps)
    concern = np.zeros((len(config.names), known.shape[1]), bool)
    for c, column in enumerate(config.feat_dynamic_real):
        concern[:, c] = [column.endswith(f" of {name}") for name in config.names]
    return Covariates(known, concern | ~concern.any(0))


def fill_gaps(values: np.ndarray) -> np.ndarray:
    """(T, D) with every gap holding the last value before it; the first ones the first that comes. Zeros where a
    series has no value at all."""
    return np.array(pd.DataFrame(values).ffill().bfill().fillna(0.0), np.float64)


def interpolate(values: np.ndarray) -> np.ndarray:
    """(T, D) with a straight line through every gap, and the nearest value before the first and after the last."""
    return np.array(pd.DataFrame(values).interpolate(limit_direction="both").fillna(0.0), np.float64)


def last_values(values: np.ndarray) -> np.ndarray:
    """(D,): the last row of (T, D) at which each series was observed; -1 if there is none."""
    there = ~np.isnan(values)
    return np.where(there.any(0), len(values) - 1 - there[::-1].argmax(0), -1)


def pad(values: np.ndarray, config: Config) -> np.ndarray:
    """Values (T, D) after the rows that lags may reach to before them, where there is nothing: NaN, or False."""
    nothing = np.nan if values.dtype == np.float64 else False
    return np.pad(values, ((config.padding, 0), (0, 0)), constant_values=nothing)


class ForeignSeries(UserWarning):
    """A series is not like the one of training."""


class Statistics(NamedTuple):
    """What each series is like in all of the data: its typical change (or size) and its mean, (D,)."""

    typical: Tensor
    middle: Tensor


def typical_size(config: Config, values: np.ndarray) -> np.ndarray:
    """(D,): the mean |x| of values (T, D) in the mode faithful, in improved the root mean square of their changes."""
    if config.mode == "faithful":
        return np.asarray(np.nanmean(np.abs(values), 0))
    return np.asarray(np.sqrt(np.mean(np.diff(fill_gaps(values), axis=0) ** 2, 0)))


def check_sizes(config: Config, values: np.ndarray) -> None:
    """UserError for series (T, D) too large or too small to compute with."""
    typical = typical_size(config, fill_gaps(values))
    for name, size, largest in zip(config.names, typical, np.abs(fill_gaps(values)).max(0), strict=True):
        if not max(size, largest) < LARGEST:
            raise UserError(
                f"'{name}' has values above 3e38, which float32 does not have: divide it by a power of ten"
            )
        if 0 < size < SMALLEST_CHANGE:
            raise UserError(
                f"'{name}' changes by {size:.3g}, which cannot be told from 0: multiply it by a power of ten"
            )


def foreign_scale(config: Config, net: TimeGrad, values: np.ndarray) -> np.ndarray:
    """(D,): whether values (T, D) are a series of another scale than in training, by a factor of more than 10."""
    typical = net.typical.double().numpy(force=True)
    own = typical_size(config, fill_gaps(values))
    return (typical > 0) & (own > 0) & ((own > FOREIGN * typical) | (own < typical / FOREIGN))


def statistics(config: Config, net: TimeGrad, values: np.ndarray) -> Statistics:
    """Those of training, and of series of a foreign scale their own. UserError as of `check_sizes`."""
    check_sizes(config, values)
    foreign = torch.from_numpy(foreign_scale(config, net, values)).to(net.typical.device)
    filled = fill_gaps(values)
    own = (torch.from_numpy(each).to(net.typical) for each in (typical_size(config, filled), filled.mean(0)))
    return Statistics(*map(torch.where, (foreign, foreign), own, (net.typical, net.middle)))


def warnings_of(config: Config, net: TimeGrad, series: Series) -> list[str]:
    """A line for each series that is not like the one of training, and for each covariate beyond its values."""
    values, lines = series.values.to_numpy(np.float64), []
    foreign, filled = foreign_scale(config, net, values), fill_gaps(values)
    own, typical, middle = typical_size(config, filled), net.typical.tolist(), net.middle.tolist()
    for d, name in enumerate(config.names):
        deviation = max(config.deviation[d], 1e-6 * abs(middle[d])) if config.deviation else np.inf  # in float32
        if foreign[d]:
            what = "has the size" if config.mode == "faithful" else "changes by"
            lines.append(
                f"'{name}' {what} {own[d]:.3g}, in training {typical[d]:.3g}: it is forecast in its own scale; train "
                "on this table if it is another series"
            )
        elif not config.random_walk and abs(filled[-1, d] - middle[d]) > FOREIGN * deviation > 0:
            lines.append(
                f"'{name}' ends at {filled[-1, d]:.6g}, far from what training saw ({middle[d]:.6g} +- "
                f"{deviation:.3g}): do not trust its forecast"
            )
    ahead = series.feat_dynamic_real.iloc[len(values) :].to_numpy(np.float64)
    for c, name in enumerate(config.feat_dynamic_real if config.feat_dynamic_real_min and len(ahead) else []):
        low, high = config.feat_dynamic_real_min[c], config.feat_dynamic_real_max[c]
        beyond = ahead[(ahead[:, c] < low) | (ahead[:, c] > high), c]
        if len(beyond):
            lines.append(
                f"'{name}' is {beyond[0]:.6g} in steps to come, training saw {low:.6g} to {high:.6g}: what follows "
                "from it is a guess"
            )
    return lines


class Scaler(NamedTuple):
    """Of each window: the mean of its context, and the scale, (B, 1, D); of random walks, if there are fewer
    than steps in a context, also the Cholesky factor (B, D, D) of the covariance of their changes."""

    mean: Tensor
    scale: Tensor
    factor: Tensor | None = None


def fit_scaler(config: Config, net: TimeGrad | Statistics, context: Tensor, observed: Tensor) -> Scaler:
    """The scalers of windows from their contexts (B, C, D), filled, and what of them was observed.

    `faithful`: the mean of |x|. `improved`: the root mean square of the changes, at least a tenth of that
    in training, for a series that rested through the whole context. Where nothing was observed, as in training.
    """
    count = observed.sum(1, keepdim=True)
    mean = (context * observed).sum(1, keepdim=True) / count.clamp(min=1)
    typical = net.typical.to(context)
    if config.mode == "faithful":
        scale = (context.abs() * observed).sum(1, keepdim=True) / count.clamp(min=1)
        scale = torch.where(scale > 0, scale, typical)
    else:
        both = observed[:, 1:] & observed[:, :-1]
        square = (context.diff(dim=1) ** 2 * both).sum(1, keepdim=True) / both.sum(1, keepdim=True).clamp(min=1)
        scale = torch.maximum(square.sqrt(), typical / 10)
    scale = torch.maximum(scale, least_scale(mean))
    few = context.shape[2] < context.shape[1]  # of more series than steps a context tells next to nothing
    return Scaler(mean, scale, cholesky_factor(context, scale) if config.random_walk and few else None)


def least_scale(mean: Tensor) -> Tensor:
    """What a constant series is divided by."""
    return MIN_SCALE * mean.abs() + 1e-30


def cholesky_factor(context: Tensor, scale: Tensor) -> Tensor:
    """The Cholesky factor of the correlation of the changes in contexts (B, C, D), times their scales (B, 1, D):
    how series move together changes with time, and a context tells it better than a network can.

    A part of the correlation, more in a shorter context and among more series, is given up to the diagonal
    (shrinkage), so that there is a factor at all.
    """
    steps, dims = context.shape[1] - 1, context.shape[2]
    changes = context.diff(dim=1) / scale
    diagonal = torch.eye(dims, dtype=context.dtype, device=context.device)
    shrinkage = steps / (steps + dims + 1)
    correlation = (changes.mT @ changes) / steps
    # above one where gaps were filled: changes across them are in no size
    deviation = correlation.diagonal(dim1=1, dim2=2).clamp(min=1).sqrt()
    correlation = correlation / (deviation[:, :, None] * deviation[:, None])
    correlation = shrinkage * correlation * (1 - diagonal) + diagonal
    factor: Tensor = torch.linalg.cholesky_ex(correlation).L * scale.mT  # which waits for no device, to check it
    return factor


def whiten(scaler: Scaler, changes: Tensor) -> Tensor:
    """Changes (B, L, D) over their scale, and free of what they have in common."""
    return changes / scaler.scale if scaler.factor is None else solve(scaler.factor, changes)


def solve(factor: Tensor, x: Tensor) -> Tensor:
    """The y (B, L, D) of x = factor y, for a lower triangular factor (D, D), or (B, D, D)."""
    y: Tensor = torch.linalg.solve_triangular(factor, x.mT, upper=False).mT
    return y


def features(
    config: Config,
    net: TimeGrad | Statistics | None,
    values: Tensor,
    observed: Tensor,
    covariates: Tensor,
    scaler: Scaler,
) -> Tensor:
    """Inputs (B, L, I) for the last L steps of windows, L being that of the covariates (B, L, F).

    values (B, max lag + L, D) reach back to the longest lag before them; the last one is not looked at. A lag that
    reaches before the table (NaN) says nothing: 0.
    """
    length, first = covariates.shape[1], values.shape[1] - covariates.shape[1]
    past = [values[:, first - lag : first - lag + length] for lag in config.lags]
    if config.mode == "faithful":
        inputs = [(value / scaler.scale).float() for value in past]
    else:
        last, seen = (each[:, first - 1 : first - 1 + length] for each in (values, observed))
        changes = (value - last for lag, value in zip(config.lags, past, strict=True) if lag > 1)
        inputs = [whiten(scaler, change).nan_to_num().float() for change in changes]
        inputs += [((last - scaler.mean) / scaler.scale).float(), seen.float() - 1]
        # where the context lies in all that was observed in training; a random walk has no level to come back to
        middle = scaler.mean if net is None or config.random_walk else net.middle.to(values)
        inputs.append(((scaler.mean - middle) / scaler.scale).float().expand_as(last))
        inputs = [each.abs() if config.random_walk else each for each in inputs]
        inputs = [each.clamp(-MAX_INPUT, MAX_INPUT) for each in inputs]
    return torch.cat([*inputs, covariates.float()], dim=-1)


def zero_window(config: Config) -> tuple[Tensor, Tensor, Tensor, Scaler]:
    """A window of one step, of zeros."""
    dims, rows = len(config.names), max(config.lags) + 1
    stamps = pd.date_range("2000-01-01", periods=1, freq=config.freq) if config.freq else pd.RangeIndex(1)
    of_time = time_features(stamps, config.freq, config.mode == "improved")
    columns = of_time.shape[1] + len(config.feat_dynamic_real) + len(config.holidays) * columns_each(config.freq)
    zeros = torch.zeros(1, rows, dims)
    return zeros, zeros > 0, torch.zeros(1, 1, columns), Scaler(zeros[:, :1], zeros[:, :1] + 1)


def target(config: Config, net: TimeGrad, values: Tensor, inputs: Tensor, scaler: Scaler) -> Tensor:
    """What diffusion learns of the last L steps, (B, L, D): the residual of the regression, of variance one."""
    return solve(net.root, residual(config, net, values, inputs, scaler))


def residual(config: Config, net: TimeGrad, values: Tensor, inputs: Tensor, scaler: Scaler) -> Tensor:
    """What the regression leaves of the last L steps, (B, L, D)."""
    length = inputs.shape[1]
    x = values[:, -length:]
    change = x / scaler.scale if config.mode == "faithful" else whiten(scaler, x - values[:, -length - 1 : -1])
    return change.float() - inputs @ net.location


def predictive_root(config: Config, net: TimeGrad) -> Tensor:
    """(D, D): the Cholesky factor of the residual's covariance out of sample, by which steps are drawn."""
    return net.root * net.root.new_tensor(config.inflation)[:, None] if config.inflation else net.root


def joint_factor(config: Config, net: TimeGrad, scaler: Scaler) -> Tensor:
    """The factor (D, D) or (B, D, D) that y is multiplied with to become changes, up to the size of each series."""
    root = predictive_root(config, net)
    return root if scaler.factor is None else scaler.factor @ root.to(scaler.factor)


def inverse_transform(
    config: Config,
    net: TimeGrad,
    y: Tensor,
    last: Tensor,
    inputs: Tensor,
    scaler: Scaler,
    drift: Tensor | float = 0.0,
) -> Tensor:
    """The value (B, D) of one step from its y (B, D), inputs (B, I), the value before it and the drift of its path
    (B, D)."""
    change = (y @ predictive_root(config, net).T + drift + inputs @ net.location).to(last)
    change = change * scaler.scale[:, 0] if scaler.factor is None else (scaler.factor @ change[..., None])[..., 0]
    still = scaler.scale[:, 0] <= least_scale(scaler.mean[:, 0])  # a constant stays what it is
    x = change if config.mode == "faithful" else torch.where(still, last, last + change)
    return x if config.lower_bound is None else x.clamp(min=config.lower_bound)


Example = tuple[Tensor, Tensor, Tensor]
WindowSampler = Callable[..., Example]
ALL = (0.0, 1.0)


def window_starts(
    series: Series, config: Config, count: int, rng: np.random.Generator, interval: tuple[float, float] = ALL
) -> Tensor:
    """The first steps (B,) of random windows of context and what is ahead, with their history; below 0 for those
    whose lags reach before the table.

    interval: the part of the series in which they may lie, as shares of its length."""
    length, steps = config.history + config.ahead, len(series.values)
    last = max(int(interval[1] * steps), length)
    first = min(int(interval[0] * steps) + length, last)  # one window, where no more fit
    return torch.from_numpy(rng.integers(first, last + 1, count)) - length - config.padding


def window_reader(series: Series, config: Config, device: torch.device) -> Callable[[Tensor], Example]:
    """A function from their first steps to windows, all on the device: values (B, M, D), filled, what of them was
    observed, and features (B, L, F)."""
    raw, max_lag = series.values.to_numpy(np.float64), max(config.lags)
    padded = [pad(table, config) for table in (fill_gaps(raw), ~np.isnan(raw), covariates(series, config, 0))]
    tables = place(tuple(padded), device)
    steps = torch.arange(max_lag + config.context + config.ahead, device=device) + config.padding

    def read_windows(starts: Tensor) -> Example:
        values, observed, features_of_time = tables
        rows = starts[:, None] + steps
        return values[rows], observed[rows], features_of_time[rows[:, max_lag:]]

    return read_windows


def window_sampler(series: Series, config: Config, device: str | torch.device = "cpu") -> WindowSampler:
    """A function from a number, a random generator and an interval to so many windows, on the device; see
    `window_starts`."""
    device = torch.device(device)
    read_windows = window_reader(series, config, device)

    def sample_windows(count: int, rng: np.random.Generator, interval: tuple[float, float] = ALL) -> Example:
        return read_windows(window_starts(series, config, count, rng, interval).to(device))

    return sample_windows


def training_example(config: Config, net: TimeGrad, window: Example) -> Example:
    """Inputs (B, L, I), what diffusion learns (B, L, D), and where: what was observed, with all of its lags, of the
    series that are no constants."""
    values, observed, covariates = window
    max_lag = max(config.lags)
    scaler = fit_scaler(
        config, net, values[:, max_lag : max_lag + config.context], observed[:, max_lag : max_lag + config.context]
    )
    inputs = features(config, net, values, observed, covariates, scaler)
    learned = observed[:, max_lag:] & ~values[:, :-max_lag].isnan() & (net.typical > 0)
    return inputs, target(config, net, values, inputs, scaler), learned
