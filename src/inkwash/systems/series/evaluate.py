"""The whole table of a forecaster on a data set of rolling windows, beside the forecasts that it must beat."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from inkwash.systems.series import baselines, metrics, transforms
from inkwash.systems.series.data import Series
from inkwash.systems.series.features import season

Progress = Callable[[int, int], None]


def simple(
    series: Series, trained: int, ends: list[int], horizon: int, samples: int, seed: int = 0
) -> dict[str, Any]:
    """Paths of the forecasts that need no network, by name. What is chosen is chosen on the first `trained` steps."""
    values = transforms.filled(series.values.to_numpy(np.float64))
    walk, window = baselines.chosen_walk(values[:trained], horizon)
    rules: dict[str, baselines.Forecast] = {
        "last value": baselines.last_value,
        f"random walk, window {window} (chosen in training)": walk,
    }
    rules |= {
        f"random walk, window {w}": partial(baselines.random_walk, window=w) for w in baselines.WINDOWS if w != window
    }
    if (once := season(series.freq)) > 1:
        rules[f"seasonal naive ({once} steps)"] = partial(baselines.seasonal_naive, season=once)
    if find_spec("statsmodels"):
        rules["vector autoregression"] = baselines.vector_autoregression
    return {name: baselines.rolled(rule, values, ends, horizon, samples, seed) for name, rule in rules.items()}


def deep_ar(
    series: Series, trained: int, ends: list[int], horizon: int, samples: int, seed: int = 0, epochs: int = 20
) -> np.ndarray:
    """gluonts' DeepAR with its own settings, trained on the first `trained` steps; each series is drawn alone.

    Needs `pip install 'gluonts[torch]'`.
    """
    import logging
    import warnings

    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator
    from lightning.pytorch import seed_everything

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning|gluonts|torch")
    seed_everything(seed, verbose=False)
    values, start = series.values.to_numpy(np.float64), pd.Period(series.values.index[0], freq=series.freq)

    def part(end: int) -> ListDataset:
        return ListDataset([{"start": start, "target": column[:end]} for column in values.T], freq=series.freq)

    with TemporaryDirectory() as folder:  # of its checkpoints
        quiet = {"max_epochs": epochs, "enable_progress_bar": False, "logger": False, "default_root_dir": folder}
        estimator = DeepAREstimator(series.freq, horizon, num_batches_per_epoch=100, trainer_kwargs=quiet)
        predictor = estimator.train(part(trained))
    drawn = [[f.samples for f in predictor.predict(part(end), num_samples=samples)] for end in ends]
    return np.moveaxis(np.array(drawn), 1, -1)


def compared(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Two forecasts of the same windows, by the score of each window (W,): the mean difference (negative: the first
    is better), its standard error, the share of windows won, and p of Student's paired test and of Wilcoxon's."""
    from scipy.stats import ttest_rel, wilcoxon

    difference = first - second
    return {
        "windows": len(first),
        "difference": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / len(first) ** 0.5) if len(first) > 1 else float("nan"),
        "won": float((difference < 0).mean()),
        "p_student": float(ttest_rel(first, second).pvalue),
        "p_wilcoxon": float(wilcoxon(first, second).pvalue),
    }


def evaluate(
    forecaster: Any,
    series: Series,
    ends: list[int],
    horizon: int,
    samples: int = 100,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores of a forecaster that was trained on what lies before the first window, and of `simple`, with the paired
    comparison to each."""
    truth = truths(series, ends, horizon)
    clock = time.process_time()
    own = forecaster.paths(series, ends, horizon, samples, seed, sampler, steps, progress)
    seconds = time.process_time() - clock
    rivals = simple(series, ends[0], ends, horizon, samples, seed)
    rows = {"this model": metrics.scores(own, truth)} | {k: metrics.scores(p, truth) for k, p in rivals.items()}
    by_window = metrics.window_scores(own, truth)
    against = {name: compared(by_window, metrics.window_scores(paths, truth)) for name, paths in rivals.items()}
    return {
        "sha256": forecaster.hash,
        "windows": len(ends),
        "horizon": horizon,
        "samples": samples,
        "seed": seed,
        "cpu_seconds": seconds,
        "scores": rows,
        "against": against,
    }


def truths(series: Series, ends: list[int], horizon: int) -> np.ndarray:
    """(W, H, D)."""
    values = series.values.to_numpy(np.float64)
    return np.stack([values[end : end + horizon] for end in ends])


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['windows']} windows of {report['horizon']} steps, {report['samples']} paths, seed "
        f"{report['seed']}; {report['cpu_seconds']:.1f} s of CPU to draw them.",
        "",
        "| forecast | CRPS | ND | CRPS_sum | ND_sum | this model minus it (± standard error) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["scores"].items():
        cells = " | ".join(f"{row[key]:.5f}" for key in ("crps", "nd", "crps_sum", "nd_sum"))
        rival = report["against"].get(name)
        gap = f"{rival['difference']:+.5f} ± {rival['standard_error']:.5f}" if rival else ""
        lines.append(f"| {name} | {cells} | {gap} |")
    return "\n".join(lines)
