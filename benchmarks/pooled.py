"""Many short series, each forecast alone and with what all of them teach: docs/results/pooled.json.

    pip install '.[bench]' && pip install --no-deps pyhts==0.2.0    # of which only the table is read
    python benchmarks/pooled.py --split test

Each method is given the last 12, 24 or 36 rows before a window. Scores are the scaled CRPS, as benchmarks/business.py
defines it, and for the sum of all series, path by path, its CRPS over the mean size of the changes of the sum; in
brackets how much the bands of 90 % have held. The last three windows of the trips are the test split, three of
earlier years validation; the simulated series of the splits have other seeds. AutoETS says no paths, so nothing of
sums. Stopped, it goes on where it was.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import common
from common import QUICK, ROOT
from inkwash.systems.series import combination, metrics

RESULT = ROOT / "docs" / "results" / "pooled.json"
SAMPLES = 20 if QUICK else 200
ROWS = (24,) if QUICK else (12, 24, 36)
POOLED, ETS, SEASON, AUTO_ETS = combination.POOLED, combination.ETS, combination.SEASON, "AutoETS"


class Table(NamedTuple):
    """Values (T, D), the season, steps to forecast, and where the windows begin."""

    values: np.ndarray
    season: int
    horizon: int
    starts: list[int]


def trips(split: str, months: int) -> Table:
    """Overnight trips to 76 places in Australia by month, 1998 to 2017, or by quarter (Tourism Research Australia; in
    pyhts, BSD-3-Clause)."""
    spec = find_spec("pyhts")
    assert spec and spec.submodule_search_locations
    monthly = (
        pd.read_csv(Path(spec.submodule_search_locations[0], "data", "Tourism.csv")).iloc[:, 4:].to_numpy(float).T
    )
    values = monthly.reshape(len(monthly) // months, months, -1).sum(1)
    season = 12 // months
    last = len(values) - season * (1 if split == "test" else 5)
    return Table(values, season, season, [last - season * k for k in (2, 1, 0)])


def simulated(split: str) -> Table:
    """100 products of sizes of their own: one season in common, more or less of it, levels that walk, and noise."""
    rng = np.random.default_rng(1 if split == "test" else 0)
    dims = 8 if QUICK else 100
    season = np.tile(rng.normal(0, 0.3, 12), 8)[:, None] * rng.uniform(0.6, 1.4, dims)
    level = rng.normal(0, 0.03, (96, dims)).cumsum(0) + rng.normal(3, 1.2, dims)
    return Table(np.exp(level + season + rng.normal(0, 0.15, (96, dims))), 12, 12, [84])


TABLES: dict[str, Callable[[str], Table]] = {"simulated": simulated}
if not QUICK:
    TABLES = {"trips by month": partial(trips, months=1), "trips by quarter": partial(trips, months=3)} | TABLES


def expert(name: str, history: np.ndarray, table: Table) -> np.ndarray:
    """Paths (S, H, D)."""
    start = [len(history)]
    return combination.expert_paths(name, table.season, history, start, table.horizon, SAMPLES, 0)[0]


def auto_ets(history: np.ndarray, table: Table) -> np.ndarray:
    """The 19 quantiles as paths (19, H, D)."""
    from statsforecast.models import AutoETS

    levels = range(0, 100, 10)
    found = []
    for y in history.T:
        with warnings.catch_warnings(action="ignore"):
            model = AutoETS(season_length=table.season)
            forecast = model.forecast(y=np.ascontiguousarray(y), h=table.horizon, level=list(levels))
        below, above = ([forecast[f"{side}-{level}"] for level in levels] for side in ("lo", "hi"))
        found.append([*below[::-1], *above[1:]])
    return np.moveaxis(np.array(found), 0, -1)


TOTALS = [POOLED, ETS, SEASON]
METHODS = {name: partial(expert, name) for name in TOTALS} | {AUTO_ETS: auto_ets}


def crps(paths: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> float:
    return float((metrics.quantile_loss(paths, truth) / scale).mean())


def measure(name: str, split: str, rows: int, method: str) -> dict[str, Any]:
    """A row of the report: means over the windows."""
    table, windows, clock = TABLES[name](split), [], time.process_time()
    for start in table.starts:
        history, truth = table.values[start - rows : start], table.values[start : start + table.horizon]
        paths = METHODS[method](history, table)
        scale = metrics.seasonal_error(table.values[:start], table.season)
        scores = {"scaled CRPS": crps(paths, truth, scale), "within 90 %": metrics.coverage(paths[None], truth[None])}
        if method != AUTO_ETS:
            paths, truth = paths.sum(-1), truth.sum(-1)
            scores["CRPS of the total"] = crps(paths, truth, np.abs(np.diff(history.sum(1))).mean())
            scores["total within 90 %"] = metrics.coverage(paths[None], truth[None])
        windows.append(scores)
    means = {key: float(np.mean([window[key] for window in windows])) for key in windows[0]}
    seconds = (time.process_time() - clock) / len(windows)
    return {"table": name, "rows": rows, "method": method, **means, "windows": len(windows), "cpu_seconds": seconds}


def table(report: dict[str, Any]) -> str:
    """Markdown: of each method the scores, of the series and of their sum; the best in bold."""
    lines = [f"| table | rows | {' | '.join(METHODS)} | " + " | ".join(f"total, {name}" for name in TOTALS) + " |"]
    lines += ["|---|---:|" + "---:|" * (len(METHODS) + len(TOTALS))]
    for name, rows in dict.fromkeys((row["table"], row["rows"]) for row in report["rows"]):
        found = {row["method"]: row for row in report["rows"] if (row["table"], row["rows"]) == (name, rows)}
        cells = cells_of(found, [*METHODS], "scaled CRPS", "within 90 %")
        cells += cells_of(found, TOTALS, "CRPS of the total", "total within 90 %")
        lines.append(f"| {name} | {rows} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cells_of(found: dict[str, dict[str, Any]], methods: list[str], score: str, within: str) -> list[str]:
    best = min(found[method][score] for method in methods)
    texts = {method: f"{found[method][score]:.3f}" for method in methods}
    bold = {method: f"**{text}**" if text == f"{best:.3f}" else text for method, text in texts.items()}
    return [f"{bold[method]} ({found[method][within]:.0%})" for method in methods]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--work", type=Path, default=ROOT / "out", help="where a report of validation lies")
    options = parser.parse_args()
    common.needs("statsforecast", *(() if QUICK else ("pyhts",)))
    file = RESULT if options.split == "test" else options.work / "pooled-validation.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"split": options.split, "samples": SAMPLES, "seed": 0, "rows": []} | common.load(file)
    done = {(row["table"], row["rows"], row["method"]) for row in report["rows"]}
    for name, rows, method in product(TABLES, ROWS, METHODS):
        if (name, rows, method) not in done:
            report["rows"].append(measure(name, options.split, rows, method))
            common.save(file, report)
    print(table(report))


if __name__ == "__main__":
    main()
