"""Forecasts of many series at once: TimeGrad (Rasul et al. 2021, 2101.12072), a diffusion model of the next step."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.base import check_seed
from inkwash.systems.series import combination, impute, transforms
from inkwash.systems.series.data import Series, column_options, is_json_lines, read_series, shortened
from inkwash.systems.series.features import seasonality
from inkwash.systems.series.files import as_table
from inkwash.systems.series.forecast import Forecast, confine
from inkwash.systems.series.future import with_future
from inkwash.systems.series.rollout import Rollout
from inkwash.training.tune import Problem

if TYPE_CHECKING:
    from inkwash.systems.report import Report
    from inkwash.systems.series.backtest import Backtest


class Forecaster(Rollout):
    """A model of what comes next.

    >>> forecaster = inkwash.load("exchange")
    >>> forecast = forecaster.forecast("sales.csv", samples=200, seed=7)
    >>> forecast.quantile(0.9)
    """

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
        future: Any = None,
        **columns: Any,
    ) -> Forecast:
        """Sample paths of the steps after the last value. The same seed and number of paths draw the same ones; a
        path of the diffusion model alone is the same among any others.

        horizon: steps; as many as in training if left out. samples: paths. sampler, steps: how each step is drawn.
        integer: paths of whole numbers. minimum: no path lies below it.
        alone: the diffusion model, without the experts that it was combined with.
        future: a table of the covariates of the steps to come (`future.with_future`), where they are not in the data.
        Raises UserError for a horizon or a number of paths below 1, other columns or another frequency than in
        training, too short a history, and covariates that are missing for the steps to come.
        """
        series = self.load_series(data, columns)
        if future is not None:
            names = columns.pop("feat_dynamic_real", self.config.feat_dynamic_real)
            series = with_future(series, future, names, **columns)
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
    ) -> Backtest:
        """Forecasts of the last `windows` rolling windows of a table, `stride` steps apart (the horizon if left out),
        beside simple ones from the same starts.

        The model is not trained anew: give it a table whose last part it has not seen
        (`cross_validation.cross_validate` trains one before each window).
        """
        from inkwash.systems.series.backtest import measure, rolling_starts

        series = self.load_series(data, columns)
        self.warn(series)
        horizon = self.config.horizon if horizon is None else horizon
        starts = rolling_starts(len(series.values), horizon, windows, stride, self.config.history)
        clock = time.process_time()
        paths = self.paths(series, starts, horizon, samples, seed, sampler, steps, progress, alone=alone)
        return measure(
            series,
            starts,
            paths,
            seed,
            model={
                "sha256": self.hash,
                "sampler": sampler or self.config.sampler,
                "steps": self.config.steps if steps is None else steps,
            },
            cpu_seconds={"to draw them": time.process_time() - clock},
        )

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
        check_values(series)
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
        if extra := [name for name in series.names if name not in config.names]:
            note = f"{series.note}; left out {shortened(extra)} (not known to the model)"
            series = replace(series, note=note.removeprefix("; "))
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
        if max(starts) == len(values):
            check_values(series)
        ahead = max(0, max(starts) + horizon - len(values))
        covariates = transforms.known_to_experts(series, config, ahead)

        def draw(name: str, count: int) -> np.ndarray:
            if name == combination.DIFFUSION:
                return self.diffusion_paths(series, starts, horizon, count, seed, sampler, steps, progress, window)
            return combination.expert_paths(name, season, values, starts, horizon, count, seed, window, covariates)

        paths = combination.pool(config.weights, samples, draw)
        paths = combination.stretch(paths, config.stretch) if config.stretch else paths
        return paths if config.lower_bound is None else paths.clip(config.lower_bound)


def check_values(series: Series) -> None:
    """UserError for a series without a value, of which nothing can be said."""
    if (empty := series.values.isna().all()).any():
        raise UserError(f"'{empty.idxmax()}' has no value at all: bring some, or train a model without it")
