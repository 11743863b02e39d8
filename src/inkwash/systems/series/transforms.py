"""What the network is told of each step of a window and what it is asked, in numbers near one; and the way back.

Two modes. `faithful` is TimeGrad (Rasul et al. 2021, 2101.12072): values and lags over the mean absolute value of the
context. `improved` asks for the change since the last step, over the usual size of a change in the context: where a
series is far from zero, as an exchange rate is, its changes are lost in its mean. What a linear regression on the
same inputs says of the change is taken off first, so that diffusion has only the rest to learn (regression before
diffusion: CARD, Han et al. 2022, 2206.07275).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from inkwash.errors import UserError, unknown
from inkwash.systems.series.data import Series
from inkwash.systems.series.features import paper_lags, season, time_features, usual_lags
from inkwash.systems.series.networks import TimeGrad

MODES = ("improved", "faithful")
LEAST = 1e-12  # of a scale, as a part of the mean: what a constant series is divided by
FAR = 50.0  # inputs are clipped there


@dataclass(frozen=True)
class Config:
    """What system.json says of a forecaster.

    names     of the D series
    freq      pandas frequency; "" for steps without time stamps
    horizon   steps that it was trained to forecast; context: steps that it reads before them
    lags      how far back the values lie that it is told at each step
    known     covariates known in advance, with the mean and standard deviation of each
    walk      whether the past does not tell which way the series will go (`train.regress`): the network is then told
              how large the changes were, not their signs, and it is trained on every change and its opposite
    lowest    no sample lies below; None: no bound
    sampler, steps   how a step is drawn by default
    """

    names: list[str]
    freq: str
    horizon: int
    context: int
    lags: list[int]
    mode: str = "improved"
    known: list[str] = field(default_factory=list)
    known_mean: list[float] = field(default_factory=list)
    known_std: list[float] = field(default_factory=list)
    walk: bool = False
    lowest: float | None = None
    sampler: str = "dpmpp_2m"
    steps: int = 8

    @property
    def history(self) -> int:
        """Steps that must lie before a forecast."""
        return self.context + max(self.lags)

    @property
    def inputs(self) -> int:
        """Numbers that the recurrent network is told at each step."""
        return told(self, None, *blank(self)).shape[-1]


def plan(
    series: Series, horizon: int, mode: str = "improved", context: int | None = None, lags: list[int] | None = None
) -> Config:
    """The sizes that follow from the data. Raises UserError for sizes that cannot be, and for series too short."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if horizon < 1:
        raise UserError(f"horizon = {horizon}: at least one step must be forecast")
    length, once = len(series.values), season(series.freq)
    given = lags is not None
    if mode == "faithful":
        context = context or horizon
        lags = lags or paper_lags(series.freq)
    else:
        context = context or max(horizon, 2 * once, 60)
        lags = lags or usual_lags(series.freq)
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
    before = series.known.iloc[:length].to_numpy(np.float64)
    mean, std = before.mean(0), before.std(0)
    check_known(series, length)
    never_below = bool((np.nan_to_num(series.values.to_numpy()) >= 0).all())
    info = Config(
        series.names, series.freq, horizon, context, sorted(set(lags)), mode,
        known=[str(c) for c in series.known], known_mean=mean.tolist(), known_std=np.where(std > 0, std, 1).tolist(),
    )  # fmt: skip
    if mode == "faithful":
        return Config(**{**asdict(info), "sampler": "ancestral", "steps": 100})
    return Config(**{**asdict(info), "lowest": 0.0 if never_below else None})


def check_known(series: Series, needed: int) -> None:
    """Raises UserError unless every covariate is there for the first `needed` steps."""
    if len(series.known.columns) == 0:
        return
    known = series.known.iloc[:needed]
    holes = known.isna().to_numpy().any(axis=1)
    if len(known) < needed or holes.any():
        where = int(holes.argmax()) if holes.any() else len(known)
        ahead = where >= len(series.values)
        stamp = known.index[where] if where < len(known) else series.after(where + 1 - len(series.values))[-1]
        cure = "add rows with the covariates of the steps to come" if ahead else "fill it in"
        raise UserError(f"the known covariates ({', '.join(map(str, known.columns))}) are missing at {stamp}: {cure}")


def features(series: Series, info: Config, steps: int) -> np.ndarray:
    """(T + steps, F): cosines and sines of the time, and covariates known in advance, standardized."""
    index: Any = series.values.index
    if steps:
        index = index.append(series.after(steps))
    check_known(series, len(index))
    known = series.known.iloc[: len(index)].to_numpy(np.float64).reshape(len(index), -1)
    known = (known - np.array(info.known_mean)) / np.array(info.known_std)
    return np.concatenate([time_features(pd.Index(index), info.freq, info.mode == "improved"), known], axis=1)


def filled(values: np.ndarray) -> np.ndarray:
    """(T, D) with every gap holding the last value before it; the first ones the first that comes. Zeros where a
    series has no value at all."""
    table = pd.DataFrame(values).ffill().bfill().fillna(0.0)
    return table.to_numpy(np.float64, copy=True)


class Scale(NamedTuple):
    """Of each window: the mean of its context, and the size that counts as one, (B, 1, D); of series that walk, if
    there are fewer than steps in a context, also the root (B, D, D) of the covariance of their changes."""

    mean: Tensor
    size: Tensor
    root: Tensor | None = None


def measure(info: Config, net: TimeGrad, context: Tensor, seen: Tensor) -> Scale:
    """The scale of windows from their contexts (B, C, D), filled, and what of them was seen.

    `faithful`: the mean of |x|. `improved`: the root mean square of the changes, at least a tenth of its usual size
    in training, for a series that rested through the whole context. Where nothing was seen, as in training.
    """
    count = seen.sum(1, keepdim=True)
    mean = (context * seen).sum(1, keepdim=True) / count.clamp(min=1)
    typical = net.typical.to(context)
    if info.mode == "faithful":
        size = (context.abs() * seen).sum(1, keepdim=True) / count.clamp(min=1)
        size = torch.where(size > 0, size, typical)
    else:
        both = seen[:, 1:] & seen[:, :-1]
        square = (context.diff(dim=1) ** 2 * both).sum(1, keepdim=True) / both.sum(1, keepdim=True).clamp(min=1)
        size = torch.maximum(square.sqrt(), typical / 10)
    size = torch.maximum(size, LEAST * mean.abs() + 1e-30)
    few = context.shape[2] < context.shape[1]  # of more series than steps a context tells next to nothing
    return Scale(mean, size, root(context, size) if info.walk and few else None)


def root(context: Tensor, size: Tensor) -> Tensor:
    """The Cholesky factor of the correlation of the changes in contexts (B, C, D), times their sizes (B, 1, D):
    how series move together changes with time, and a context tells it better than a network can.

    A part of the correlation, more in a shorter context and among more series, is given up to the diagonal
    (shrinkage), so that there is a factor at all.
    """
    steps, dims = context.shape[1] - 1, context.shape[2]
    changes = context.diff(dim=1) / size
    diagonal = torch.eye(dims).to(context)
    kept = steps / (steps + dims + 1)
    together = (changes.mT @ changes) / steps
    # above one where gaps were filled: changes across them are in no size
    own = together.diagonal(dim1=1, dim2=2).clamp(min=1).sqrt()
    together = together / (own[:, :, None] * own[:, None])
    correlation = kept * together * (1 - diagonal) + diagonal
    return torch.linalg.cholesky(correlation) * size.mT


def whitened(scale: Scale, changes: Tensor) -> Tensor:
    """Changes (B, L, D) over their size, and free of what they have in common."""
    return changes / scale.size if scale.root is None else apart(scale.root, changes)


def apart(root: Tensor, x: Tensor) -> Tensor:
    """The y (B, L, D) of x = root y, for a lower triangular root (D, D), or (B, D, D)."""
    return torch.linalg.solve_triangular(root, x.mT, upper=False).mT


def told(info: Config, net: TimeGrad | None, values: Tensor, seen: Tensor, features: Tensor, scale: Scale) -> Tensor:
    """Inputs (B, L, I) for the last L steps of windows, L being that of the features (B, L, F).

    values (B, max lag + L, D) reach back to the longest lag before them; the last one is not looked at.
    """
    length, first = features.shape[1], values.shape[1] - features.shape[1]
    past = [values[:, first - lag : first - lag + length] for lag in info.lags]
    if info.mode == "faithful":
        parts = [value / scale.size for value in past]
    else:
        last = values[:, first - 1 : first - 1 + length]
        parts = [whitened(scale, value - last) for lag, value in zip(info.lags, past, strict=True) if lag > 1]
        parts += [(last - scale.mean) / scale.size, seen[:, first - 1 : first - 1 + length].to(values) - 1]
        # where the context lies in all that was seen in training; a walk has no place to come back to
        middle = scale.mean if net is None or info.walk else net.middle.to(values)
        parts.append(((scale.mean - middle) / scale.size).expand_as(last))
        parts = [part.abs() if info.walk else part for part in parts]
        parts = [part.clamp(-FAR, FAR) for part in parts]
    return torch.cat([*parts, features], dim=-1).float()


def blank(info: Config) -> tuple[Tensor, Tensor, Tensor, Scale]:
    """A window of one step, of zeros."""
    dims, rows = len(info.names), max(info.lags) + 1
    stamps = pd.date_range("2000-01-01", periods=1, freq=info.freq) if info.freq else pd.RangeIndex(1)
    columns = time_features(stamps, info.freq, info.mode == "improved").shape[1] + len(info.known)
    zeros = torch.zeros(1, rows, dims)
    return zeros, zeros > 0, torch.zeros(1, 1, columns), Scale(zeros[:, :1], zeros[:, :1] + 1)


def asked(info: Config, net: TimeGrad, values: Tensor, inputs: Tensor, scale: Scale) -> Tensor:
    """What diffusion learns of the last L steps, (B, L, D): the rest that the regression leaves, of variance one."""
    length = inputs.shape[1]
    x = values[:, -length:]
    change = x / scale.size if info.mode == "faithful" else whitened(scale, x - values[:, -length - 1 : -1])
    return apart(net.root, change.float() - inputs @ net.location)


def joint(net: TimeGrad, scale: Scale) -> Tensor:
    """The root (D, D) or (B, D, D) that y is multiplied with to become changes, up to the size of each series."""
    return net.root if scale.root is None else scale.root @ net.root.to(scale.root)


def value(info: Config, net: TimeGrad, y: Tensor, last: Tensor, inputs: Tensor, scale: Scale) -> Tensor:
    """The way back: the value (B, D) of one step from its y (B, D), inputs (B, I) and the value before it."""
    change = (y @ net.root.T + inputs @ net.location).to(last)
    change = change * scale.size[:, 0] if scale.root is None else (scale.root @ change[..., None])[..., 0]
    x = change if info.mode == "faithful" else last + change
    return x if info.lowest is None else x.clamp(min=info.lowest)


Draw = Callable[..., tuple[Tensor, Tensor, Tensor]]


def windows(series: Series, info: Config) -> Draw:
    """A function from a number and a random generator to so many windows of context and horizon, with their history:
    values (B, M, D), filled, what of them was seen, and features (B, L, F).

    part: from where to where in the series they may lie, as shares of its length."""
    raw = series.values.to_numpy(np.float64)
    values, seen = torch.from_numpy(filled(raw)), torch.from_numpy(~np.isnan(raw))
    told = torch.from_numpy(features(series, info, 0))
    length, reach = info.context + info.horizon, max(info.lags)

    def draw(
        count: int, rng: np.random.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> tuple[Tensor, Tensor, Tensor]:
        last = max(int(part[1] * len(values)), reach + length)
        first = min(
            int(part[0] * len(values)) + reach + length, last
        )  # one window, if the part is too short for more
        starts = torch.from_numpy(rng.integers(first, last + 1, count)) - reach - length
        rows = starts[:, None] + torch.arange(reach + length)
        return values[rows], seen[rows], told[rows[:, reach:]]

    return draw


def view(info: Config, net: TimeGrad, window: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (B, L, I), what diffusion learns (B, L, D), and where it was seen."""
    values, seen, covariates = window
    reach = max(info.lags)
    scale = measure(info, net, values[:, reach : reach + info.context], seen[:, reach : reach + info.context])
    inputs = told(info, net, values, seen, covariates, scale)
    return inputs, asked(info, net, values, inputs, scale), seen[:, reach:]
