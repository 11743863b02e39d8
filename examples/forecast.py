"""A forecast of a CSV file: four weeks of it are kept back, and the forecast is set beside them."""

from dataclasses import replace

import numpy as np
import pandas as pd

from inkwash.systems.series.train import IMPROVED, fit_forecaster

HORIZON = 28

days = pd.date_range("2023-01-01", periods=730)
rng = np.random.default_rng(0)
weekday, trend = np.array([3, 4, 4, 5, 7, 9, 6])[days.dayofweek], np.linspace(20, 30, len(days))
sales = pd.DataFrame({"day": days, "tea": weekday + trend, "coffee": 2 * weekday + trend})
sales[["tea", "coffee"]] += rng.normal(size=(len(days), 2))
sales[:-HORIZON].to_csv("sales.csv", index=False)

short = replace(IMPROVED, steps=50)  # so simple a table needs no more; leave it out, and it trains while that helps
forecaster = fit_forecaster("sales.csv", horizon=HORIZON, settings=short)
forecast = forecaster.forecast("sales.csv", seed=7)
forecast.to_dataframe().to_csv("forecast.csv", index=False)

truth = sales.set_index("day")[-HORIZON:]
forecast.plot("forecast.png", sales.set_index("day")[:-HORIZON], truth)
inside = (forecast.quantile(0.05) <= truth) & (truth <= forecast.quantile(0.95))
print(f"{inside.to_numpy().mean():.0%} of the values lie between the quantiles of 5 % and 95 %")
