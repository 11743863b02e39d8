"""Forecasts of many series at once: TimeGrad (Rasul et al. 2021, 2101.12072), a diffusion model of the next step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.errors import UserError, unknown
from inkwash.systems.base import check_seed
from inkwash.systems.series import baselines, combination, impute, metrics, transforms
from inkwash.systems.series.data import Series, column_options, is_json_lines, read_series, shortened
from inkwash.systems.series.features import seasonality
from inkwash.systems.series.files import as_table
from inkwash.systems.series.networks import TimeGrad
from inkwash.systems.torch_model import TorchModel
from inkwash.systems.tune import tuned
from inkwash.training.tune import Problem

if TYPE_CHECKING:
    from inkwash.systems.report import Report

SAMPLERS = {
    name: diffusion.SAMPLERS[name]
    for name in ("ancestral", "ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
}
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
# before a forecast: the state, the last values, which of them were observed, covariates ahead, the scaler
History = tuple[Tensor, Tensor, Tensor, Tensor, transforms.Scaler]
MAX_ACTIVATIONS = 2**22  # about as many at once, in each layer, of all paths that are drawn together


@dataclass(frozen=True)
class Forecast:
    """Sample paths (S, H, D) of D series over the next H steps."""

    samples: np.ndarray
    index: pd.Index
    names: list[str]

    @property
    def mean(self) -> pd.DataFrame:
        """(H, D)."""
        return pd.DataFrame(self.samples.mean(0), self.index, self.names)

    def quantile(self, level: float) -> pd.DataFrame:
        """(H, D), by gluonts' rule (`metrics.quantile`)."""
        if not 0 <= level <= 1:
            raise UserError(f"quantile {level}: a level from 0 to 1 is needed")
        return pd.DataFrame(metrics.quantile(self.samples, level), self.index, self.names)

    def to_dataframe(self, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
        """A row for each step and series: time, series, mean, and a column for each level."""
        statistics = {"mean": self.mean} | {f"{level:g}": self.quantile(level) for level in levels}
        columns = {name: frame.to_numpy().ravel() for name, frame in statistics.items()}
        steps, series = np.repeat(self.index, len(self.names)), self.names * len(self.index)
        return pd.DataFrame({"time": steps, "series": series, **columns})

    def plot(
        self,
        file: str | Path,
        history: pd.DataFrame | None = None,
        truth: pd.DataFrame | None = None,
        levels: Sequence[float] = LEVELS,
    ) -> None:
        """A fan chart, as PNG or SVG; see `plot.fan`."""
        from inkwash.systems.series.plot import fan

        fan(self.quantile, Path(file), history, truth, levels)


class Forecaster(TorchModel):
    """A model of what comes next.

    >>> forecaster = inkwash.load("exchange")
    >>> forecast = forecaster.forecast("sales.csv", samples=200, seed=7)
    >>> forecast.quantile(0.9)
    """

    system = "series"
    network: TimeGrad

    def __init__(self, network: TimeGrad, config: transforms.Config) -> None:
        self.network, self.config = network, config
        faithful = config.mode == "faithful"
        schedule = diffusion.betas(np.linspace(1e-4, 0.1, 100)) if faithful else diffusion.rectified_flow()
        self.denoiser = diffusion.Denoiser(
            network,
            diffusion.Gaussian(schedule),
            "eps" if faithful else diffusion.edm(1.0),  # the rest has variance one
            (lambda t: 100 * t.t - 1) if faithful else (lambda t: t.t),
        )

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Forecaster:
        return cls(TimeGrad(**facts.pop("network")), transforms.Config(**facts))

    def facts(self) -> dict[str, Any]:
        return asdict(self.config) | {"network": self.network.config}

    def forecast(
        self,
        data: Any,
        horizon: int | None = None,
        samples: int = 100,
        seed: int = 0,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        integer: bool = False,
        minimum: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        alone: bool = False,
        **columns: Any,
    ) -> Forecast:
        """Sample paths of the steps after the last value. The same seed and number of paths draw the same ones; a
        path of the diffusion model alone is the same among any others.

        horizon: steps; as many as in training if left out. samples: paths. sampler, steps: how each step is drawn.
        integer: paths of whole numbers. minimum: no path lies below it.
        alone: the diffusion model, without the experts that it was combined with.
        Raises UserError for a horizon or a number of paths below 1, other columns or another frequency than in
        training, too short a history, and covariates that are missing for the steps to come.
        """
        series = self.load_series(data, columns)
        self.warn(series)
        horizon = self.config.horizon if horizon is None else horizon
        paths = self.paths(
            series, [len(series.values)], horizon, samples, seed, sampler, steps, progress, alone=alone
        )
        return Forecast(confine(paths[0], integer, minimum), series.future_index(horizon), self.config.names)

    def backtest(
        self,
        data: Any,
        windows: int = 10,
        stride: int | None = None,
        horizon: int | None = None,
        samples: int = 100,
        seed: int = 0,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        alone: bool = False,
        **columns: Any,
    ) -> Report:
        """Forecasts of the last `windows` rolling windows of a table, `stride` steps apart (the horizon if left out),
        beside simple ones from the same starts.

        The model is not trained anew: give it a table whose last part it has not seen.
        """
        from inkwash.systems.series.evaluate import evaluate

        series = self.load_series(data, columns)
        self.warn(series)
        horizon = self.config.horizon if horizon is None else horizon
        stride = horizon if stride is None else stride
        if windows < 1 or stride < 1 or horizon < 1:
            raise UserError(f"windows = {windows}, stride = {stride}, horizon = {horizon}: each must be at least 1")
        last = len(series.values) - horizon
        starts = sorted(last - stride * k for k in range(windows))
        if starts[0] < self.config.history:
            most = max((last - self.config.history) // stride + 1, 0)
            raise UserError(
                f"{windows} windows reach back to step {starts[0]}, but {self.config.history} steps must lie before "
                f"a forecast: at most {most} windows fit in this table"
            )
        values = transforms.fill_gaps(series.values.to_numpy(np.float64))
        baseline_paths = {
            name: baselines.rolling_forecasts(rule, values, starts, horizon, samples, seed)
            for name, rule in baselines.default_baselines(seasonality(series.freq)).items()
        }
        return evaluate(self, series, starts, horizon, samples, seed, sampler, steps, progress, baseline_paths, alone)

    def evaluate(self, data: Any, starts: Sequence[int], seed: int = 0, **how: Any) -> Report:
        """Scores on the windows that begin at `starts`, beside the forecasts that must be beaten; `evaluate.evaluate`
        says what else can be given."""
        from inkwash.systems.series.evaluate import evaluate

        series = self.load_series(data, {})
        self.warn(series)
        return evaluate(self, series, list(starts), self.config.horizon, seed=seed, **how)

    def impute(
        self,
        data: Any,
        samples: int = 100,
        seed: int = 0,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        integer: bool = False,
        minimum: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        **columns: Any,
    ) -> np.ndarray:
        """The table (T, D) with its gaps filled by sample paths: (S, T, D); what was observed stays as it is.

        Paths end where the series goes on after the gap (`impute.fill`), and where of one step only some series are
        missing, those that are there are held by the hook `known_region`. Gaps within the first `config.history`
        steps are straight lines. integer, minimum: as of `forecast`. Raises UserError as `forecast` does.
        """
        check_seed(seed)
        if samples < 1:
            raise UserError(f"samples = {samples}: at least one is needed")
        series = self.load_series(data, columns)
        self.warn(series)
        paths = confine(impute.fill(self, series, samples, seed, sampler, steps, progress), integer, minimum)
        return np.where(series.values.isna(), paths, series.values)

    def problem(self, request: Any, data: Path) -> tuple[Problem, diffusion.Grid]:
        """What `tune` learns few steps for: steps of time drawn from the training table, in 100 steps."""
        series, rng = self.load_series(data, column_options(request)), np.random.default_rng(request.seed)
        with torch.no_grad():
            inputs, _, _ = transforms.training_example(
                self.config,
                self.network,
                transforms.window_sampler(series, self.config, self.device)(request.samples, rng),
            )
            hidden = self.network.encode(inputs)[0][:, self.config.context]
        process, shape = self.denoiser.process, (len(self.config.names),)
        improved = self.config.mode == "improved"
        grid = diffusion.uniform(process, 100) if improved else diffusion.trailing(process, 100, 100)
        return Problem(self.denoiser, shape, range(request.samples), {"hidden": hidden}, self.device), grid

    def load_series(self, data: Any, columns: dict[str, Any]) -> Series:
        """The table, with the columns and the frequency of training."""
        config = self.config
        given: dict[str, Any] = {"feat_dynamic_real": config.feat_dynamic_real, "freq": config.freq or None}
        if not isinstance(data, Series) and not is_json_lines(data):
            data = as_table(data, columns.get("decimal"), columns.get("sheet"))
            if set(config.names) <= set(data.columns):  # else it is long, or another table
                given["target"] = config.names
        series = read_series(data, **{**given, **columns})
        if missing := [name for name in config.names if name not in series.names]:
            raise UserError(
                f"the model knows the series {shortened(config.names)}; '{missing[0]}' is not in the table, which "
                f"has {shortened(series.names)}"
            )
        if series.freq != config.freq:
            raise UserError(
                f"the table has the frequency '{series.freq}', the model was trained on '{config.freq}': resample it"
            )
        covariates = series.feat_dynamic_real[config.feat_dynamic_real]
        return replace(series, values=series.values[config.names], feat_dynamic_real=covariates)

    @property
    def diffuses(self) -> bool:
        """Whether paths of the diffusion model are among those that it draws."""
        return not self.config.weights or combination.DIFFUSION in self.config.weights

    def warn(self, series: Series) -> None:
        """A ForeignSeries warning for each series that is not like the one of training."""
        for line in transforms.warnings_of(self.config, self.network, series):
            warnings.warn(line, transforms.ForeignSeries, stacklevel=3)

    def paths(
        self,
        series: Series,
        starts: Sequence[int],
        horizon: int,
        samples: int,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        window: int = 0,
        alone: bool = False,
    ) -> np.ndarray:
        """Forecasts from several starts at once, each from the steps before it: (W, S, H, D). Of the combination, or
        of the diffusion model `alone`, which is all there is where none was measured."""
        config = self.config
        check_seed(seed)
        if horizon < 1 or samples < 1:
            raise UserError(f"horizon = {horizon}, samples = {samples}: both must be at least 1")
        if alone or not config.weights:
            return self.diffusion_paths(series, starts, horizon, samples, seed, sampler, steps, progress, window)
        if not self.diffuses and (sampler is not None or steps is not None):
            raise UserError("sampler and steps mean nothing: the diffusion model has no weight here, unless alone")
        season, values = seasonality(config.freq), series.values.to_numpy(np.float64)

        def draw(name: str, count: int) -> np.ndarray:
            if name == combination.DIFFUSION:
                return self.diffusion_paths(series, starts, horizon, count, seed, sampler, steps, progress, window)
            return combination.expert_paths(name, season, values, starts, horizon, count, seed, window)

        paths = combination.pool(config.weights, samples, draw)
        paths = combination.stretch(paths, config.stretch) if config.stretch else paths
        return paths if config.lower_bound is None else paths.clip(config.lower_bound)

    @torch.no_grad()
    def diffusion_paths(
        self,
        series: Series,
        starts: Sequence[int],
        horizon: int,
        samples: int,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        window: int = 0,
    ) -> np.ndarray:
        """What the diffusion model says, as `paths`.

        The noise of path p of the w-th start is that of seed `child_seed(seed, window + w, p)`: that of no two
        windows is alike. A series that ends before a start is drawn up to it first, as a gap is.

        In float64: float32 has no digits left for the changes of a series that lies far from zero."""
        config = self.config
        if min(starts) < config.history:
            raise UserError(
                f"the history has {min(starts)} steps, the model needs {config.history} before a forecast (its "
                f"context of {config.context} steps, and what its lags reach back to)"
            )
        raw = series.values.to_numpy(np.float64)
        ended = [start for start in starts if np.isnan(raw[start - 1]).any()]
        for start in ended:
            self.check_ends(transforms.last_values(raw[:start]), start, start == len(raw))
        requested, mirrored = samples, config.random_walk and not ended
        samples = -(-samples // 2) if mirrored else samples
        ahead = max(0, max(starts) + horizon - len(raw))
        covariates = self.tensor(transforms.covariates(series, config, ahead))
        filled, observed = transforms.fill_gaps(raw), self.tensor(~np.isnan(raw))
        sample_step = self.step_sampler(sampler, steps)

        reference = transforms.statistics(config, self.network, raw[: min(starts)])

        def encode(number: int, start: int) -> History:
            past = filled[None, :start]
            if start in ended:  # the steps that are missing are drawn first
                child = diffusion.child_seed(seed, "missing", window + number)
                first = max(int(transforms.last_values(raw[:start]).min()) + 1, config.history)
                past = impute.fill(self, series.before(start), samples, child, sampler, steps, first=first)
            past = past[:, -config.context - max(config.lags) :]
            return self.encode_history(self.tensor(past), observed, covariates, start, horizon, reference)

        encoded = [encode(number, start) for number, start in enumerate(starts)]
        out = np.empty((len(starts) * samples, horizon, len(config.names)))
        at_once = max(1, MAX_ACTIVATIONS // (128 + 8 * len(config.names)))
        for first in range(0, len(out), at_once):
            rows = range(first, min(first + at_once, len(out)))
            histories = [path_of(encoded[row // samples], row % samples) for row in rows]
            seeds = [diffusion.child_seed(seed, window + row // samples, row % samples) for row in rows]
            report = (lambda h, first=first: progress(first * horizon + h, len(out) * horizon)) if progress else None
            out[rows.start : rows.stop] = self.unroll(histories, seeds, horizon, sample_step, reference, report)
        if progress is not None:
            progress(len(out) * horizon, len(out) * horizon)
        paths = out.reshape(len(starts), samples, horizon, len(config.names))
        if not mirrored:
            return paths
        return antithetic(paths, filled[np.array(starts) - 1], config.lower_bound)[:, :requested]

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def step_sampler(self, sampler: str | None, steps: int | None) -> Callable[..., Tensor]:
        """A function from seeds, a condition, hooks and the name of their stream to steps drawn."""
        config = self.config
        sampler = config.sampler if sampler is None else sampler
        steps = config.steps if steps is None else steps
        process = self.denoiser.process
        if sampler not in (*SAMPLERS, "tuned"):
            raise unknown("sampler", sampler, [*SAMPLERS, "tuned"])
        if steps < 1:
            raise UserError(f"steps = {steps}: at least one is needed")
        rule = SAMPLERS.get(sampler)
        if rule is None:
            rule, grid = tuned(self.folder, self.hash, steps, process)
        elif config.mode == "faithful":
            grid = diffusion.trailing(process, steps, 100)
        else:
            grid = diffusion.uniform(process, steps)
        shape = (len(config.names),)

        def sample_step(seeds: list[int], condition: dict[str, Tensor], hooks: Sequence[Any], stream: str) -> Tensor:
            step: Tensor = diffusion.sample(
                self.denoiser, shape, rule, grid, seeds, condition, hooks=hooks, stream=stream, device=self.device
            )
            return step

        return sample_step

    def check_ends(self, last: np.ndarray, start: int, is_now: bool) -> None:
        """UserError for a series whose last value (D,) has no history before it from which to draw what is missing;
        before now, one that has not begun is no such series."""
        wrong = (last + 1 < self.config.history) & (is_now | (last >= 0))
        if wrong.any():
            name = self.config.names[int(wrong.argmax())]
            raise UserError(
                f"'{name}' has no value in the last {start - 1 - int(last[wrong.argmax()])} of {start} steps, and "
                f"{self.config.history} steps must lie before them: bring more of its values, or a longer table"
            )

    def path_drift(self, seeds: list[int]) -> Tensor:
        """(R, D): what the regression may be off by, as much at every step of a path."""
        config, root = self.config, self.network.root
        if not any(config.drift):
            return root.new_zeros(len(seeds), len(root))
        noise = diffusion.Noise(seeds, (len(root),), stream="drift", device=self.device)
        drift: Tensor = noise.normal() @ root.T * root.new_tensor(config.drift)
        return drift

    def encode_history(
        self,
        values: Tensor,
        observed: Tensor,
        covariates: Tensor,
        end: int,
        horizon: int,
        reference: transforms.Statistics,
    ) -> History:
        """Before a forecast from `end`: the state of the recurrent network, the last values and what of them was
        observed, the covariates of the steps to come, and the scaler; of each of the pasts in `values` (R, M, D), the
        last steps before `end` as far as the longest lag of the context reaches, or the table."""
        config, start = self.config, end - self.config.context
        max_lag, paths = max(config.lags), len(values)
        there = observed[None, start:end].expand(paths, -1, -1)
        scaler = transforms.fit_scaler(config, reference, values[:, -config.context :], there)
        nothing = values.new_full((paths, max(0, max_lag - start), values.shape[2]), torch.nan)  # before the table
        values = torch.cat([nothing, values], dim=1)
        seen = torch.cat([observed[:1].expand(max(0, max_lag - start), -1), observed[max(0, start - max_lag) : end]])
        inputs = transforms.features(
            config, reference, values, seen.expand(paths, -1, -1),
            covariates[start:end].expand(paths, -1, -1), scaler,
        )  # fmt: skip
        state = self.network.encode(inputs)[1]
        ahead = covariates[end : end + horizon].expand(paths, -1, -1)
        return state, values[:, -max_lag:], observed[end - 1 : end].expand(paths, -1, -1), ahead, scaler

    def unroll(
        self,
        histories: list[History],
        seeds: list[int],
        horizon: int,
        sample_step: Callable[..., Tensor],
        reference: transforms.Statistics,
        report: Callable[[int], None] | None = None,
        known_region: Tensor | None = None,
    ) -> np.ndarray:
        """Draws paths, a row each, step by step: (R, H, D).

        known_region: values (H, D) to hold, NaN where there are none."""
        config, net = self.config, self.network
        states, *stacked, scalers = zip(*histories, strict=True)
        state = torch.cat(states, dim=1)
        past, observed, covariates = (torch.cat(tensors) for tensors in stacked)
        means, scales, factors = zip(*scalers, strict=True)
        factor = None if factors[0] is None else torch.cat(factors)
        scaler = transforms.Scaler(torch.cat(means), torch.cat(scales), factor)
        drift = self.path_drift(seeds)
        root = transforms.predictive_root(config, net)
        out = []
        for h in range(horizon):
            # the row of the step to come, which `transforms.features` does not look at
            window = torch.cat([past, past[:, -1:]], dim=1)
            inputs = transforms.features(
                config, reference, window, observed.expand(-1, window.shape[1], -1), covariates[:, h : h + 1], scaler
            )
            hidden, state = net.encode(inputs, state)
            hooks = []
            if known_region is not None and not known_region[h].isnan().all():
                step = torch.where(known_region[h].isnan(), past[:, -1], known_region[h])
                left = transforms.residual(config, net, torch.cat([past, step[:, None]], dim=1), inputs, scaler)
                y = transforms.solve(root, left - drift[:, None])[:, 0]
                joint = transforms.joint_factor(config, net, scaler)
                hooks = [hold_known(self.denoiser.process, y, joint, ~known_region[h].isnan())]
            y = sample_step(seeds, {"hidden": hidden[:, 0]}, hooks, str(h))
            x = transforms.inverse_transform(config, net, y, past[:, -1], inputs[:, 0], scaler, drift)
            if known_region is not None:
                x = torch.where(known_region[h].isnan(), x, known_region[h])
            past = torch.cat([past[:, 1:], x[:, None]], dim=1)
            observed = torch.ones_like(observed)
            out.append(x.double())
            if report is not None:
                report((h + 1) * len(seeds))
        return torch.stack(out, dim=1).numpy(force=True)


def confine(paths: np.ndarray, integer: bool, minimum: float | None) -> np.ndarray:
    """Paths of whole numbers, none of them below a minimum; a minimum of 0.5 is one of 1 for whole numbers."""
    if integer:
        paths = paths.round()
        minimum = None if minimum is None else np.ceil(minimum)
    return paths if minimum is None else paths.clip(minimum)


def path_of(history: History, path: int) -> History:
    """The history of one path, where each has its own."""
    state, past, observed, covariates, scaler = history
    if len(past) == 1:
        return history
    row = slice(path, path + 1)
    factor = None if scaler.factor is None else scaler.factor[row]
    own = transforms.Scaler(scaler.mean[row], scaler.scale[row], factor)
    return state[:, row].contiguous(), past[row], observed[row], covariates[row], own


def hold_known(process: diffusion.Gaussian, y: Tensor, factor: Tensor, observed: Tensor) -> diffusion.guides.Hook:
    """The hook `known_region` for series of which some are known: x = factor y, and the `observed` (D,) are held.

    They fix a part of y, its projection P y on the rows of the factor that belong to them. The noise of y is white,
    so P y and the rest have noise of their own, and after each step P y is the known one, noised to that time.
    """
    rows = factor[..., observed, :]
    projection = (torch.linalg.pinv(rows) @ rows).to(y)

    def hook(step: Any, noise: Any) -> Tensor:
        noised = process.noise(y, step.s, process.eps(noise)) if step.s.sigma else y
        held: Tensor = step.x + ((noised - step.x)[:, None] @ projection.mT)[:, 0]
        return held

    return hook


def antithetic(paths: np.ndarray, last: np.ndarray, lower_bound: float | None) -> np.ndarray:
    """Paths (W, S, H, D) of random walks, each followed by its mirror image about the last value (W, D).

    Both are as likely, and together they have neither drift nor a crooked median by chance (antithetic variates).
    """
    images = 2 * last[:, None, None, :] - paths
    if lower_bound is not None:
        images = images.clip(lower_bound)
    both = np.stack([paths, images], axis=2)
    return both.reshape(len(paths), -1, *paths.shape[2:])
