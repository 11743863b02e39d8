"""TimeGrad as published, the improved mode, and what they must beat, in one run.

    pip install '.[bench]'
    python benchmarks/forecasting.py --data exchange_rate_nips.tar.gz

Exchange rates: the five windows of the paper (trained on the 6,071 steps before them), and 35 windows one after the
other (the last 1,050 steps, trained on the 5,171 before them), since five decide nothing. Simulated sets: 40 windows
each, and the score of the law itself. What was chosen was chosen on earlier windows (steps 4,121 to 5,171).

Every result is kept as soon as it is there: run it again to go on.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

import common
from common import QUICK, ROOT
from inkwash.systems.report import Row
from inkwash.systems.series import baselines, metrics, simulate, transforms
from inkwash.systems.series.data import Series, read_rolling_archive
from inkwash.systems.series.evaluate import baseline_rules, paired_comparison, truths
from inkwash.systems.series.features import seasonality
from inkwash.systems.series.train import default_settings, fit_network, new_forecaster
from inkwash.training.settings import Settings

SAMPLES = 4 if QUICK else 100
LONG, TRAINED = (2, 3900) if QUICK else (35, 5171)  # windows one after the other, and where they begin
SIMULATED = 2 if QUICK else 40
SETS = ["switch"] if QUICK else list(simulate.SETS)


class Report:
    """What was found, and the paths that were drawn: each is drawn once."""

    def __init__(self, file: Path, paths: Path) -> None:
        self.file, self.paths = file, paths
        self.facts: dict[str, Any] = {"samples": SAMPLES} | common.load(file)

    def kept(self, name: str, seed: int, draw: Callable[..., tuple[np.ndarray, dict[str, Any]]], *how: Any) -> Any:
        """Paths of one method on one set: read, or drawn by draw(*how)."""
        file = self.paths / f"{name}-{seed}.npy".replace(" ", "-").replace(",", "")
        if not file.exists() or str(seed) not in self.facts.get(name, {}):
            paths = self.measure(name, seed, draw, *how)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, paths.astype(np.float32))
        return np.load(file)

    def score(self, name: str, seed: int, draw: Callable[..., tuple[np.ndarray, dict[str, Any]]], *how: Any) -> None:
        """One of whose paths nobody needs more than the scores."""
        if str(seed) not in self.facts.get(name, {}):
            self.measure(name, seed, draw, *how)

    def measure(self, name: str, seed: int, draw: Callable[..., Any], *how: Any) -> np.ndarray:
        paths: np.ndarray
        paths, facts = draw(*how)
        self.facts.setdefault(name, {})[str(seed)] = facts
        self.save()
        print(name, seed, facts, flush=True)
        return paths

    def save(self) -> None:
        common.save(self.file, self.facts)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, required=not QUICK, help="gluonts' exchange_rate_nips.tar.gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0] if QUICK else [0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/forecasting.json")
    parser.add_argument("--paths", type=Path, default=ROOT / "out/forecasting", help="where drawn paths are kept")
    args = parser.parse_args()
    common.needs("gluonts", "lightning")
    torch.set_num_threads(1)
    report = Report(args.out, args.paths)
    series, starts, horizon = simulated_archive() if QUICK else read_rolling_archive(args.data)
    long = [TRAINED + horizon * k for k in range(LONG)]
    for seed in args.seeds:
        exchange(report, "five windows", series, starts, horizon, seed)
        exchange(report, "35 windows", series, long, horizon, seed)
        for name in SETS:
            simulated(report, name, seed)
    for place, at in (("five windows", starts), ("35 windows", long)):
        report.facts[f"{place}, improved against"] = against(report, place, truths(series, at, horizon), args.seeds)
    report.save()
    print(table(report.facts))


def exchange(report: Report, place: str, series: Series, starts: list[int], horizon: int, seed: int) -> None:
    """Every method on the windows of one place, trained on what lies before the first."""
    truth, trained = truths(series, starts, horizon), starts[0]
    stacked = report.kept(f"{place}, simple", seed, drawn_simply, series, starts, horizon, seed)
    facts = report.facts[f"{place}, simple"][str(seed)]
    rivals = dict(zip(facts["names"], stacked, strict=True))
    facts["scores"] = {name: metrics.scores(paths, truth) for name, paths in rivals.items()}
    models = report.paths / "models" / f"{place}-{seed}".replace(" ", "-")
    report.kept(f"{place}, improved", seed, trained_paths, series, starts, horizon, "improved", seed, models)
    if place == "five windows" or seed == 0:  # the faithful mode takes minutes to draw many windows
        report.score(f"{place}, faithful", seed, trained_paths, series, starts, horizon, "faithful", seed, models)
        deep = partial(deep_ar, series, trained, starts, horizon, SAMPLES, seed, 1 if QUICK else 20)
        report.score(f"{place}, DeepAR", seed, timed, deep, truth)
    report.save()


def deep_ar(
    series: Series, trained: int, starts: list[int], horizon: int, samples: int, seed: int = 0, epochs: int = 20
) -> np.ndarray:
    """gluonts' DeepAR with its own settings, trained on the first `trained` steps; each series is forecast alone.

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

    def dataset(end: int) -> ListDataset:
        return ListDataset([{"start": start, "target": column[:end]} for column in values.T], freq=series.freq)

    with TemporaryDirectory() as folder:  # of its checkpoints
        quiet = {"max_epochs": epochs, "enable_progress_bar": False, "logger": False, "default_root_dir": folder}
        estimator = DeepAREstimator(series.freq, horizon, num_batches_per_epoch=100, trainer_kwargs=quiet)
        predictor = estimator.train(dataset(trained))
    paths = [[f.samples for f in predictor.predict(dataset(end), num_samples=samples)] for end in starts]
    return np.moveaxis(np.array(paths), 1, -1)


def against(report: Report, place: str, truth: np.ndarray, seeds: list[int]) -> list[Row]:
    """The improved mode against each rival, by the scores of the windows, each the mean over the seeds."""

    def by_window(name: str, row: int | None = None) -> np.ndarray:
        found = []
        for seed in seeds:
            paths = report.kept(f"{place}, {name}", seed, trained_paths)
            found.append(metrics.window_scores(paths if row is None else paths[row], truth))
        return np.mean(found, axis=0)

    own = by_window("improved")
    names = report.facts[f"{place}, simple"][str(seeds[0])]["names"]
    rivals = {name: by_window("simple", row) for row, name in enumerate(names)}
    return [row for name, scores in rivals.items() for row in paired_comparison(own, scores, forecast=name)]


def table(facts: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = []
    for place in ("five windows", "35 windows"):
        simple = facts[f"{place}, simple"]
        rows = {
            name: [found["scores"][name] for found in simple.values()]
            for name in next(iter(simple.values()))["names"]
        }
        rows = {"DeepAR (gluonts)": scores_of(facts[f"{place}, DeepAR"])} | rows
        for mode in ("faithful", "improved"):
            rows = {f"**TimeGrad, {mode}**": scores_of(facts[f"{place}, {mode}"])} | rows
        lines += ["", f"Exchange rates, {place}:", ""]
        lines += ["| forecast | CRPS_sum | CRPS | ND_sum | seeds | improved minus it | won | p |", "|" + "---|" * 8]
        against = facts[f"{place}, improved against"]
        for name, found in rows.items():
            gap, rival = "| | |", {row["metric"]: row for row in against if row["forecast"] == name}
            if rival:
                minus, won, *p = rival.values()
                low, mean, high = (1e5 * minus[end] for end in ("low", "value", "high"))
                gap = f"{mean:+.0f} [{low:+.0f}, {high:+.0f}] | {won['value']:.0%} | "
                gap += f"{p[0]['value']:.2g} / {p[1]['value']:.2g} |"
            cells = " | ".join(spread([row[key] for row in found]) for key in ("crps_sum", "crps", "nd_sum"))
            lines.append(f"| {name} | {cells} | {len(found)} | {gap}")
    lines += ["", "Simulated sets, CRPS_sum (in brackets: how much above that of the law itself):", ""]
    rules = ("improved", "seasonal naive", "random walk", "last value")
    lines += [f"| set | the law itself | {' | '.join(rules)} |", "|" + "---|" * 7]
    for name in SETS:
        best = np.mean([row["crps_sum"] for row in scores_of(facts[f"{name}, the law itself"])])
        cells = [f"{best:.4g}"]
        for rule in rules:
            mean = np.mean([row["crps_sum"] for row in scores_of(facts[f"{name}, {rule}"])])
            cells.append(f"{mean:.4g} ({mean / best - 1:+.1%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def scores_of(facts: dict[str, Any]) -> list[dict[str, float]]:
    return [found["scores"] for found in facts.values()]


def spread(values: list[float]) -> str:
    """Mean and standard error over the seeds."""
    error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.5f}" if len(values) > 1 else ""
    return f"{np.mean(values):.5f}{error}"


def simulated(report: Report, name: str, seed: int) -> None:
    """The improved mode on a set with a known law, beside the law itself."""
    law = simulate.SETS[name]()
    series, horizon = law.series, law.horizon
    values = series.values.to_numpy()
    starts = [len(values) - horizon * k for k in range(SIMULATED, 0, -1)]
    rules = {
        "the law itself": law.future,
        "random walk": baselines.random_walk,
        "last value": baselines.last_value,
        "seasonal naive": partial(baselines.seasonal_naive, season=seasonality(series.freq)),
    }
    for title, rule in rules.items():
        draw = partial(baselines.rolling_forecasts, rule, values, starts, horizon, SAMPLES, seed)
        report.score(f"{name}, {title}", seed, timed, draw, truths(series, starts, horizon))
    report.score(f"{name}, improved", seed, trained_paths, series, starts, horizon, "improved", seed)


def drawn_simply(series: Series, starts: list[int], horizon: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    values = transforms.fill_gaps(series.values.to_numpy(np.float64))
    rules = baseline_rules(series, values, starts[0], horizon)
    found = [baselines.rolling_forecasts(rule, values, starts, horizon, SAMPLES, seed) for rule in rules.values()]
    return np.stack(found), {"names": list(rules)}


def timed(draw: Callable[[], np.ndarray], truth: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    clock = time.process_time()
    paths = draw()
    return paths, {"cpu_seconds": time.process_time() - clock, "scores": metrics.scores(paths, truth)}


def settings(mode: str, seed: int) -> Settings:
    found = replace(default_settings(mode), seed=seed)
    return replace(found, steps=5) if QUICK else found


def simulated_archive() -> tuple[Series, list[int], int]:
    """For a quick run, in the place of the exchange rates."""
    return simulate.vector_autoregression(dims=2).series, [3900, 3905], 5


def trained_paths(
    series: Series, starts: list[int], horizon: int, mode: str, seed: int, models: Path | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Trains a forecaster on what lies before the first window, keeps it in a folder, and draws all windows."""
    clock = time.process_time()
    part = series.before(starts[0])
    with TemporaryDirectory() as folder:
        forecaster = new_forecaster(part, transforms.make_config(part, horizon, mode), seed)
        fit_network(forecaster, part, Path(folder), settings(mode, seed))
    if models is not None:
        forecaster.save(models / mode)
    training = time.process_time() - clock
    paths = forecaster.paths(series, starts, horizon, SAMPLES, seed)
    facts = {
        "scores": metrics.scores(paths, truths(series, starts, horizon)),
        "walk": forecaster.config.random_walk,
        "cpu_seconds_training": training,
        "cpu_seconds_sampling": time.process_time() - clock - training,
    }
    return paths, facts


if __name__ == "__main__":
    main()
