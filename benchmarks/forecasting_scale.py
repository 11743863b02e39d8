"""Memory and minutes of `fit_forecaster` and `forecast` on large tables: many series, a long history, many paths.

    python benchmarks/forecasting_scale.py [--case "1,000 series"] [--out FILE]

Each case runs in a process of its own, on one thread, with all defaults: the backtest, two trainings, the forecast.
Peak memory is that of the whole process, Python and torch included. The data are seasons, walks and noise.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import common
from common import QUICK, ROOT
from inkwash.progress import peak_memory
from inkwash.systems.series.train import fit_forecaster

MARK = "report: "  # of the line that a case ends with


class Case(NamedTuple):
    series: int
    steps: int
    freq: str
    season: int
    horizon: int
    paths: int


CASES = {
    "1,000 series": Case(1000, 200, "MS", 12, 12, 100),
    "100,000 steps": Case(1, 100_000, "h", 24, 24, 1000),
    "1,000 paths": Case(1, 200, "MS", 12, 12, 1000),
}
if QUICK:
    CASES = {"40 series": Case(40, 48, "MS", 12, 3, 10)}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--case", choices=CASES, help="this one only, beside what the report has")
    parser.add_argument("--here", action="store_true", help="in this process, which prints what it took")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/forecasting-scale.json")
    options = parser.parse_args()
    names = [options.case] if options.case else [*CASES]
    if options.here:
        print(MARK + json.dumps(measure(CASES[names[0]])))
        return
    report = common.load(options.out)
    for name in names:
        command = [sys.executable, __file__, *sys.argv[1:], "--here", "--case", name]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        report[name] = json.loads(output.rpartition(MARK)[2])
        common.save(options.out, report)
    print(markdown(report))


def measure(case: Case) -> dict[str, Any]:
    torch.set_num_threads(1)
    data = table(case)
    imported = peak_memory()
    forecaster, fitting = timed(lambda: fit_forecaster(data, case.horizon))
    forecast, drawing = timed(lambda: forecaster.forecast(data, samples=case.paths))
    assert forecast.samples.shape == (case.paths, case.horizon, case.series) and np.isfinite(forecast.samples).all()
    return {
        **case._asdict(),
        "training": fitting,
        "forecast": drawing,
        "peak_gigabytes": peak_memory() / 1e9,
        "gigabytes_before": imported / 1e9,
        "weights": forecaster.config.weights,
    }


def table(case: Case) -> pd.DataFrame:
    """A long one: item, time, value."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * (np.arange(case.steps)[:, None] / case.season + rng.uniform(size=case.series))
    walks = 0.1 * rng.standard_normal((case.steps, case.series)).cumsum(0)
    values = 20 + rng.uniform(1, 3, case.series) * np.sin(angle) + walks + rng.standard_normal(angle.shape)
    times = pd.date_range("1990-01-01", periods=case.steps, freq=case.freq)
    items = [f"item {k:04d}" for k in range(case.series)]
    return pd.DataFrame(
        {"item": np.repeat(items, case.steps), "time": np.tile(times, case.series), "value": values.T.ravel()}
    )


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    return result, {"minutes": (time.monotonic() - wall) / 60, "cpu_minutes": (time.process_time() - cpu) / 60}


def markdown(report: dict[str, Any]) -> str:
    lines = ["| series | steps | paths x steps ahead | training, CPU min | forecast, CPU s | peak memory, GB |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for row in (report[name] for name in CASES if name in report):
        size = f"{row['series']:,} | {row['steps']:,} | {row['paths']:,} x {row['horizon']}"
        training, drawing = (row[part]["cpu_minutes"] for part in ("training", "forecast"))
        lines.append(f"| {size} | {training:.1f} | {60 * drawing:.1f} | {row['peak_gigabytes']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
