"""The features of each step of a window and the target, in numbers near one; and the inverse.

Two modes. `faithful` is TimeGrad (Rasul et al. 2021, 2101.12072): values and lags over the mean absolute value of the
context. `improved` asks for the change since the last step, over the typical size of a change in the context: where a
series is far from zero, as an exchange rate is, its changes are lost in its mean. What a linear regression on the
same inputs says of the change is taken off first, so that diffusion has only the residual to learn (regression before
diffusion: CARD, Han et al. 2022, 2206.07275).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from inkwash.errors import UserError, unknown
from inkwash.systems.series.data import Series
from inkwash.systems.series.features import default_lags, paper_lags, seasonality, time_features
from inkwash.systems.series.networks import TimeGrad
from inkwash.training.placement import place

MODES = ("improved", "faithful")
MIN_SCALE = 1e-12  # of a scale, as a part of the mean: what a constant series is divided by
MAX_INPUT = 50.0  # inputs are clipped there


@dataclass(frozen=True)
class Config:
    """What system.json says of a forecaster.

    names        of the D series
    freq         pandas frequency; "" for steps without time stamps
    horizon      steps that it was trained to forecast; context: steps that it reads before them
    lags         how far back the values lie that it is given at each step
    feat_dynamic_real  covariates known in advance, with the mean and standard deviation of each
    random_walk  whether the past does not tell which way the series will go (`train.is_random_walk`): the network is
                 then given the sizes of the changes, not their signs, and trained on every change and its opposite
    lower_bound  no sample lies below; None: no bound
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
    random_walk: bool = False
    lower_bound: float | None = None
    sampler: str = "dpmpp_2m"
    steps: int = 8
    weights: dict[str, float] = field(default_factory=dict)
    stretch: list[float] = field(default_factory=list)
    backtest: list[dict[str, Any]] = field(default_factory=list)

    @property
    def history(self) -> int:
        """Steps that must lie before a forecast."""
        return self.context + max(self.lags)

    @property
    def inputs(self) -> int:
        """Numbers that the recurrent network is given at each step."""
        return features(self, None, *zero_window(self)).shape[-1]


def make_config(
    series: Series, horizon: int, mode: str = "improved", context: int | None = None, lags: list[int] | None = None
) -> Config:
    """The sizes that follow from the data. Raises UserError for sizes that cannot be, and for series too short."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if horizon < 1:
        raise UserError(f"horizon = {horizon}: at least one step must be forecast")
    length, season = len(series.values), seasonality(series.freq)
    given = lags is not None
    if mode == "faithful":
        context = context or horizon
        lags = lags or paper_lags(series.freq)
    else:
        context = context or max(horizon, 2 * season, 60)
        lags = lags or default_lags(series.freq)
        if not given:  # long lags are a help, not a need
            lags = [lag for lag in lags if lag == 1 or 3 * (context + horizon + lag) < length]
    if min(lags) < 1 or context < 2:
        raise UserError(f"lags = {lags}, context = {context}: lags begin at 1, a context at 2 steps")
    needed = context + max(lags) + 2 * horizon
    if length < needed:
        raise UserError(
            f"the series have {length} steps, but training needs {needed} (context {context} + longest lag "
            f"{max(lags)} + twice the horizon {horizon}): bring more data, or a smaller horizon, context or --lags"
        )
    before = series.feat_dynamic_real.iloc[:length].to_numpy(np.float64)
    mean, std = before.mean(0), before.std(0)
    check_covariates(series, length)
    never_below = bool((np.nan_to_num(series.values.to_numpy()) >= 0).all())
    config = Config(
        series.names, series.freq, horizon, context, sorted(set(lags)), mode,
        feat_dynamic_real=[str(c) for c in series.feat_dynamic_real],
        feat_dynamic_real_mean=mean.tolist(), feat_dynamic_real_std=np.where(std > 0, std, 1).tolist(),
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
    """(T + steps, F): cosines and sines of the time, and covariates known in advance, standardized."""
    index: Any = series.values.index
    if steps:
        index = index.append(series.future_index(steps))
    check_covariates(series, len(index))
    known = series.feat_dynamic_real.iloc[: len(index)].to_numpy(np.float64).reshape(len(index), -1)
    known = (known - np.array(config.feat_dynamic_real_mean)) / np.array(config.feat_dynamic_real_std)
    return np.concatenate([time_features(index, config.freq, config.mode == "improved"), known], axis=1)


def fill_gaps(values: np.ndarray) -> np.ndarray:
    """(T, D) with every gap holding the last value before it; the first ones the first that comes. Zeros where a
    series has no value at all."""
    return np.array(pd.DataFrame(values).ffill().bfill().fillna(0.0), np.float64)


class Scaler(NamedTuple):
    """Of each window: the mean of its context, and the scale, (B, 1, D); of random walks, if there are fewer
    than steps in a context, also the Cholesky factor (B, D, D) of the covariance of their changes."""

    mean: Tensor
    scale: Tensor
    factor: Tensor | None = None


def fit_scaler(config: Config, net: TimeGrad, context: Tensor, observed: Tensor) -> Scaler:
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
    scale = torch.maximum(scale, MIN_SCALE * mean.abs() + 1e-30)
    few = context.shape[2] < context.shape[1]  # of more series than steps a context tells next to nothing
    return Scaler(mean, scale, cholesky_factor(context, scale) if config.random_walk and few else None)


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
    config: Config, net: TimeGrad | None, values: Tensor, observed: Tensor, covariates: Tensor, scaler: Scaler
) -> Tensor:
    """Inputs (B, L, I) for the last L steps of windows, L being that of the covariates (B, L, F).

    values (B, max lag + L, D) reach back to the longest lag before them; the last one is not looked at.
    """
    length, first = covariates.shape[1], values.shape[1] - covariates.shape[1]
    past = [values[:, first - lag : first - lag + length] for lag in config.lags]
    if config.mode == "faithful":
        inputs = [value / scaler.scale for value in past]
    else:
        last = values[:, first - 1 : first - 1 + length]
        inputs = [whiten(scaler, value - last) for lag, value in zip(config.lags, past, strict=True) if lag > 1]
        inputs += [(last - scaler.mean) / scaler.scale, observed[:, first - 1 : first - 1 + length].to(values) - 1]
        # where the context lies in all that was observed in training; a random walk has no level to come back to
        middle = scaler.mean if net is None or config.random_walk else net.middle.to(values)
        inputs.append(((scaler.mean - middle) / scaler.scale).expand_as(last))
        inputs = [each.abs() if config.random_walk else each for each in inputs]
        inputs = [each.clamp(-MAX_INPUT, MAX_INPUT) for each in inputs]
    return torch.cat([*inputs, covariates], dim=-1).float()


def zero_window(config: Config) -> tuple[Tensor, Tensor, Tensor, Scaler]:
    """A window of one step, of zeros."""
    dims, rows = len(config.names), max(config.lags) + 1
    stamps = pd.date_range("2000-01-01", periods=1, freq=config.freq) if config.freq else pd.RangeIndex(1)
    columns = time_features(stamps, config.freq, config.mode == "improved").shape[1] + len(config.feat_dynamic_real)
    zeros = torch.zeros(1, rows, dims)
    return zeros, zeros > 0, torch.zeros(1, 1, columns), Scaler(zeros[:, :1], zeros[:, :1] + 1)


def target(config: Config, net: TimeGrad, values: Tensor, inputs: Tensor, scaler: Scaler) -> Tensor:
    """What diffusion learns of the last L steps, (B, L, D): the residual of the regression, of variance one."""
    length = inputs.shape[1]
    x = values[:, -length:]
    change = x / scaler.scale if config.mode == "faithful" else whiten(scaler, x - values[:, -length - 1 : -1])
    return solve(net.root, change.float() - inputs @ net.location)


def joint_factor(net: TimeGrad, scaler: Scaler) -> Tensor:
    """The factor (D, D) or (B, D, D) that y is multiplied with to become changes, up to the size of each series."""
    return net.root if scaler.factor is None else scaler.factor @ net.root.to(scaler.factor)


def inverse_transform(
    config: Config, net: TimeGrad, y: Tensor, last: Tensor, inputs: Tensor, scaler: Scaler
) -> Tensor:
    """The value (B, D) of one step from its y (B, D), inputs (B, I) and the value before it."""
    change = (y @ net.root.T + inputs @ net.location).to(last)
    change = change * scaler.scale[:, 0] if scaler.factor is None else (scaler.factor @ change[..., None])[..., 0]
    x = change if config.mode == "faithful" else last + change
    return x if config.lower_bound is None else x.clamp(min=config.lower_bound)


Example = tuple[Tensor, Tensor, Tensor]
WindowSampler = Callable[..., Example]
ALL = (0.0, 1.0)


def window_starts(
    series: Series, config: Config, count: int, rng: np.random.Generator, interval: tuple[float, float] = ALL
) -> Tensor:
    """The first steps (B,) of random windows of context and horizon, with their history.

    interval: the part of the series in which they may lie, as shares of its length."""
    length, steps = config.history + config.horizon, len(series.values)
    last = max(int(interval[1] * steps), length)
    first = min(int(interval[0] * steps) + length, last)  # one window, where no more fit
    return torch.from_numpy(rng.integers(first, last + 1, count)) - length


def window_reader(series: Series, config: Config, device: torch.device) -> Callable[[Tensor], Example]:
    """A function from their first steps to windows, all on the device: values (B, M, D), filled, what of them was
    observed, and features (B, L, F)."""
    raw, max_lag = series.values.to_numpy(np.float64), max(config.lags)
    tables = place((fill_gaps(raw), ~np.isnan(raw), covariates(series, config, 0)), device)
    steps = torch.arange(config.history + config.horizon, device=device)

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
    """Inputs (B, L, I), what diffusion learns (B, L, D), and where it was observed."""
    values, observed, covariates = window
    max_lag = max(config.lags)
    scaler = fit_scaler(
        config, net, values[:, max_lag : max_lag + config.context], observed[:, max_lag : max_lag + config.context]
    )
    inputs = features(config, net, values, observed, covariates, scaler)
    return inputs, target(config, net, values, inputs, scaler), observed[:, max_lag:]
