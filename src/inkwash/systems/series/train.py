"""Training of a forecaster: random windows of one set of series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.series import combination, metrics, transforms
from inkwash.systems.series.data import (
    Series,
    column_options,
    read_rolling_archive,
    read_series,
    refuse_columns,
    shortened,
)
from inkwash.systems.series.features import seasonality
from inkwash.systems.series.forecast import Forecast
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.networks import TimeGrad
from inkwash.systems.series.regression import (
    after_context,
    fit_regression,
    is_random_walk,
    regression_example,
)
from inkwash.training import distributed
from inkwash.training.fit import Stopped, fit
from inkwash.training.placement import device_of, place, place_module
from inkwash.training.recipe import Count
from inkwash.training.settings import Settings
from inkwash.weights.files import atomic

HELD_OUT = 0.15  # of the data, on which the search for how long to train is decided
FIRST_LOOK = 50  # steps after which a training is first looked at
PATIENCE = 2  # looks without a better one, then it is enough
OUTLIER = 6.0  # of the changes that are learned: one devaluation would else outweigh a decade

# the paper's: Adam in one cycle up to 1e-2 and down again, 20 epochs of 100 batches, no averaged weights
FAITHFUL = Settings(
    steps=2000,
    batch_size=64,
    learning_rate=1e-2,
    warmup=600,
    lr_decay="cosine",
    betas=(0.9, 0.999),
    weight_decay=1e-6,
    ema_decay=0.0,
)
IMPROVED = Settings(steps=3000, batch_size=64, learning_rate=1e-3, warmup=50, weight_decay=0.01, ema_decay=0.98)


def default_settings(mode: str) -> Settings:
    """The default ones of a mode."""
    return FAITHFUL if mode == "faithful" else IMPROVED


Steps = Annotated[int, Ge(1), Le(100_000)]


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "series".

    data     a table (`read_series`), or gluonts' archive of rolling windows, whose training part is taken
    horizon  steps to forecast
    until    train on so many steps of it only; all if left out
    mode, context, lags   see `transforms.Config`
    alone    without the backtest, by which the mode improved combines the diffusion model with simple forecasts
    holidays countries, or parts of them, whose public holidays are covariates
    time, freq, target, item, feat_dynamic_real, dates, decimal, sheet, missing   see `read_series`
    """

    task: Literal["series"]
    data: Path
    horizon: Steps
    fit: Settings
    until: Count | None = None
    mode: str = "improved"
    alone: bool = False
    context: Steps | None = None
    lags: list[Steps] | None = None
    time: str | None = None
    freq: str | None = None
    target: list[str] = field(default_factory=list)
    item: list[str] = field(default_factory=list)
    feat_dynamic_real: list[str] = field(default_factory=list)
    holidays: list[str] = field(default_factory=list)
    dates: Literal["dmy", "mdy", "ymd"] | None = None
    decimal: Literal[",", "."] | None = None
    sheet: str | None = None
    missing: list[str] = field(default_factory=list)


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Forecaster:
    """Trains (or goes on with) the forecaster of a recipe in `folder`; it lies in `folder`/model."""
    if recipe.mode == "improved" and recipe.fit.steps < FIRST_LOOK:
        raise UserError(
            f"steps = {recipe.fit.steps}: in the mode improved they are the most that are tried, and the first look "
            f"is after {FIRST_LOOK}: give at least so many, or take the mode faithful"
        )
    if recipe.data.name.endswith((".tar.gz", ".tgz")):
        refuse_columns(str(recipe.data), column_options(recipe))
        series, starts, _ = read_rolling_archive(recipe.data)
        series = series.before(starts[0])
    else:
        series = read_series(recipe.data, **column_options(recipe))
    series = without_empty_items(series.before(recipe.until or len(series.values)))
    config = transforms.make_config(series, recipe.horizon, recipe.mode, recipe.context, recipe.lags, recipe.holidays)
    say_what_was_read(series, monitor)
    if recipe.mode == "improved" and not recipe.alone:
        config = combine(series, config, recipe.context, recipe.lags, folder, recipe.fit, monitor)
    forecaster = new_forecaster(series, config, recipe.fit.seed)
    return fit_network(forecaster, series, folder, recipe.fit, folder / "model", monitor)


def fit_forecaster(
    data: Any,
    horizon: int,
    folder: str | Path | None = None,
    *,
    mode: str = "improved",
    context: int | None = None,
    lags: list[int] | None = None,
    settings: Settings | None = None,
    monitor: Monitor = CONSOLE,
    alone: bool = False,
    holidays: Sequence[str] = (),
    **columns: Any,
) -> Forecaster:
    """A forecaster trained on a table (columns: see `read_series`); in `folder`, a stopped run goes on. A
    training that `monitor` stops gives the forecaster so far.

    In the mode improved a backtest comes first, by which the diffusion model is combined with simple forecasts,
    unless it is to be `alone`. holidays: countries (DE), or parts of them (DE-BY), whose public holidays are known in
    advance.

    Raises UserError for data that cannot be read or are too short; the message says what to do.
    """
    series = without_empty_items(read_series(data, **columns))
    settings = settings or default_settings(mode)
    config = transforms.make_config(series, horizon, mode, context, lags, holidays)
    say_what_was_read(series, monitor)
    forecaster = new_forecaster(series, config, settings.seed)
    with TemporaryDirectory() if folder is None else nullcontext(folder) as run_folder:
        try:
            if mode == "improved" and not alone:
                forecaster.config = combine(
                    series, forecaster.config, context, lags, Path(run_folder), settings, monitor
                )
            fit_network(forecaster, series, Path(run_folder), settings, monitor=monitor)
        except Stopped as stop:
            monitor.tell(Note(f"{stop}: this is the forecaster so far"))
    return forecaster


def combine(
    series: Series, config: transforms.Config, context: int | None, lags: list[int] | None, folder: Path,
    settings: Settings, monitor: Monitor,
) -> transforms.Config:  # fmt: skip
    """The config with weights of the experts and stretches of the series, by a backtest in the last half of the data.

    For it a diffusion model is trained in `folder`/backtest on what lies before the first window, or, where that is
    too short, keeps its prior weight."""
    horizon, season, values = config.horizon, seasonality(config.freq), series.values.to_numpy(np.float64)
    weights = combination.prior(len(series.values), season, len(config.names))
    if combination.POOLED in weights:
        text = f"{len(config.names)} short series: exponential smoothing learns from all of them, for each"
        monitor.tell(Note(text))
    every, windows = combination.backtest_starts(len(series.values), horizon, len(config.names))
    begun = np.isnan(values).cumprod(axis=0).sum(0).max() + 2  # by then each series has values
    starts = [start for start in every if start > begun and np.isfinite(values[start : start + horizon]).any()]
    if not starts:
        monitor.tell(Note("too few steps for a backtest: how far this forecast can be trusted is not known"))
        return replace(config, weights=weights)
    before = series.before(starts[0])
    covariates = transforms.known_to_experts(series, config, 0)
    paths = {
        name: combination.expert_paths(
            name, season, values, starts, horizon, combination.SAMPLES, settings.seed, covariates=covariates
        )
        for name in weights
        if name != combination.DIFFUSION
    }
    try:
        early = transforms.make_config(before, horizon, config.mode, context, lags, config.holidays)
    except UserError:
        monitor.tell(Note(f"{starts[0]} steps are too few to try out the diffusion model: its weight is a guess"))
    else:
        monitor.tell(Note(f"a backtest first: {len(starts)} windows, by a model of the first {starts[0]} steps"))
        forecaster = new_forecaster(before, early, settings.seed)
        fit_network(forecaster, before, folder / "backtest", settings, monitor=monitor)
        forecaster.network.eval()
        paths[combination.DIFFUSION] = forecaster.diffusion_paths(series, starts, horizon, combination.SAMPLES)
    truth = np.stack([values[start : start + horizon] for start in starts])
    scale = metrics.seasonal_error(values[: starts[0]], season)
    found = combination.backtest(paths, truth, scale, weights, windows * len(starts) / len(every))
    return replace(config, weights=found.weights, stretch=found.stretch, backtest=found.table)


def without_empty_items(series: Series) -> Series:
    """A long table without the items that have no value at all, which is said."""
    empty = [name for name in series.names if series.values[name].isna().all()] if series.layout.items else []
    if not empty:
        return series
    note = f"{series.note}; left out {shortened(empty)} (no values)"
    return replace(series, values=series.values.drop(columns=empty), note=note)


def say_what_was_read(series: Series, monitor: Monitor) -> None:
    if series.note:
        monitor.tell(Note(series.note))


def new_forecaster(series: Series, config: transforms.Config, seed: int = 0) -> Forecaster:
    """A forecaster that knows of the series what is no matter of training: their sizes, and a regression."""
    torch.manual_seed(seed)
    sample_windows = transforms.window_sampler(series, config)
    noise = "dilated" if config.mode == "faithful" else "dense"
    net = TimeGrad(len(config.names), config.inputs, noise=noise)
    fit_statistics(series, config, net)
    if config.mode == "improved":
        config = replace(config, random_walk=is_random_walk(series, config, net, sample_windows))
        excess = torch.zeros(len(config.names))
        if not config.random_walk:
            excess = fit_regression(series, config, net, sample_windows)
        _, *example = regression_example(config, net, sample_windows, 3)
        target, observed = (tensor.flatten(0, 1).double() for tensor in example)
        # what was not observed is no residual of 0; scaled so, it stays positive definite
        target = target.clamp(-OUTLIER, OUTLIER) * observed / observed.mean(0).clamp(min=1 / len(observed)).sqrt()
        covariance = target.T @ target / len(target)
        diagonal = torch.diag(covariance.diagonal().clamp(min=1e-6))
        net.root.copy_(torch.linalg.cholesky(0.99 * covariance + 0.01 * diagonal))
        freedom = max(config.context - 1, 3)  # changes in a context, of which its scale is made
        inflation = (freedom / (freedom - 2)) ** 0.5  # to the deviation of Student's distribution
        drift = inflation * excess.sqrt()
        config = replace(config, inflation=[inflation] * len(config.names), drift=drift.tolist())
    return Forecaster(net, config)


def fit_network(
    forecaster: Forecaster, series: Series, folder: Path, settings: Settings, model: Path | None = None,
    monitor: Monitor = CONSOLE,
) -> Forecaster:  # fmt: skip
    """Trains a forecaster on series, or goes on with the run in `folder`; `model`: where it lies so far.

    It learns from all of the series: only in the search for how long to train is their last part held out.
    """
    net, config, device = forecaster.network, forecaster.config, device_of(settings.device)
    read_windows = transforms.window_reader(series, config, device)
    times = diffusion.logit_normal() if config.mode == "improved" else paper_times

    def batch(k: int, interval: tuple[float, float] = transforms.ALL) -> Tensor:
        rng = np.random.default_rng([settings.seed, k])
        return transforms.window_starts(series, config, settings.batch_size, rng, interval)

    def loss(starts: Tensor, generator: torch.Generator, ahead: bool = False) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            example = transforms.training_example(config, net, read_windows(starts))
            inputs, target, observed = after_context(config, example) if ahead else example
        target = target.clamp(-OUTLIER, OUTLIER)
        if config.random_walk:  # a coin for each step, one for all series: how they go together stays
            coins = torch.randint(2, (*target.shape[:2], 1), generator=generator, device=device)
            target = target * (2 * coins - 1)
        condition = {"hidden": net.encode(inputs)[0].flatten(0, 1)}
        return forecaster.denoiser.loss(
            target.flatten(0, 1), condition, times=times, generator=generator, mask=observed.flatten(0, 1)
        )

    def preview(_: nn.Module, step: int) -> Image.Image:
        return chart(forecaster, series)

    fit_options: dict[str, Any] = {"save": forecaster.save, "model": model, "monitor": monitor}
    fit_options["preview"] = preview if find_spec("matplotlib") else None
    if config.mode == "improved":
        place_module(net, device, settings.channels_last)
        initial = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        steps = 1  # a table whose last part is too short to tell is not learned by heart, nor are constants
        if HELD_OUT * len(series.values) >= config.ahead and bool((net.typical > 0).any()):
            steps = max(early_stopping_steps(net, loss, batch, folder / "search", settings, **fit_options), 1)
        net.load_state_dict(initial)
        if settings.steps >= FIRST_LOOK:
            monitor.tell(Note(f"{settings.steps} steps at most; {steps} {'is' if steps == 1 else 'are'} of use"))
        settings = replace(settings, steps=steps)
    fit(net, loss, batch, folder, settings, **fit_options)
    return forecaster


def chart(forecaster: Forecaster, series: Series) -> Image.Image:
    """A forecast of the last steps of the series, beside what came."""
    start = max(len(series.values) - forecaster.config.horizon, forecaster.config.history)
    history, truth = series.values.iloc[:start], series.values.iloc[start:]
    paths = forecaster.paths(series, [start], len(truth), 50, sampler="dpmpp_2m", steps=8, alone=True)
    with TemporaryDirectory() as folder:
        Forecast(paths[0], truth.index, series.names).plot(file := Path(folder) / "forecast.png", history, truth)
        return Image.open(file).convert("RGB")


def early_stopping_steps(
    net: TimeGrad, loss: Any, batch: Any, folder: Path, settings: Settings, monitor: Monitor, **fit_options: Any
) -> int:
    """How long training is of use: trained on the first 85 % of the data, the loss on the rest tells.

    0 if it is best left alone: normal noise about the regression is then all that there is to learn. The losses
    are kept in `folder`/losses.json.
    """

    device, held_out = device_of(settings.device), [batch(k, (1 - HELD_OUT, 1.0)) for k in range(8)]

    def validation_loss() -> float:
        """The mean over all processes: they go on alike."""
        generators = (torch.Generator(device).manual_seed(k) for k in range(8))
        with torch.no_grad():
            net.eval()
            losses = torch.stack([*map(partial(loss, ahead=True), place(held_out, device), generators)])
        return distributed.total(float(np.mean(losses.tolist())) / distributed.world_size())

    def early(k: int) -> Any:
        return batch(k, (0.0, 1 - HELD_OUT))

    file = folder / "losses.json"
    losses = (
        {int(k): loss for k, loss in json.loads(file.read_text()).items()}
        if file.exists()
        else {0: validation_loss()}
    )
    steps = FIRST_LOOK
    while steps <= settings.steps:
        if steps not in losses:
            try:
                fit(
                    net, loss, early, folder, settings, monitor=monitor, until=steps, held_out=held_out, **fit_options
                )
            except Stopped as stop:
                if stop.step < steps:
                    raise
            losses[steps] = validation_loss()
            if distributed.rank() == 0:
                with atomic(file) as temporary:
                    temporary.write_text(json.dumps(losses))
            text = f"{steps} steps: validation loss {losses[steps]:.4f} (untrained {losses[0]:.4f})"
            monitor.tell(Note(text))
        if list(losses.values()).index(min(losses.values())) < len(losses) - PATIENCE:
            break
        steps = steps * 3 // 2 + 25
    return min(losses, key=losses.__getitem__)


def paper_times(count: int, generator: torch.Generator | None = None) -> Tensor:
    """One of the 100 levels of the paper's table."""
    return (diffusion.uniform_times(count, generator) * 100).ceil() / 100


def fit_statistics(series: Series, config: transforms.Config, net: TimeGrad) -> None:
    """Notes what each series is like in all of training: its mean, and its mean |x| or root mean square change."""
    raw = series.values.to_numpy(np.float64)
    if (empty := np.isnan(raw).all(axis=0)).any():
        raise UserError(
            f"'{config.names[int(empty.argmax())]}' has no value at all in the training data: leave it out"
        )
    transforms.check_sizes(config, raw)  # now, not after the training
    net.typical.copy_(torch.from_numpy(transforms.typical_size(config, raw)))
    net.middle.copy_(torch.from_numpy(np.nanmean(raw, axis=0)))
