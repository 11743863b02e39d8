"""Forecasting: sample paths of many series at once, from a table."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.series import request
from inkwash.systems.train import TRAIN, Train
from inkwash.systems.tune import TUNE

LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "plan": f"{__name__}.limits:plan"}
MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch

SYSTEM = System(
    name="series",
    help="Forecast many series at once; try out, mend and tune forecasts.",
    verbs={
        "forecast": Verb(
            request.Forecast,
            f"{__name__}.verbs:forecast",
            endings=(".csv", ".xlsx", ".parquet"),
            takes=MACHINE,
            **LIMITS,
        ),
        "backtest": Verb(
            request.Backtest,
            f"{__name__}.verbs:backtest",
            endings=(".txt", "-series.csv", "-calibration.png"),
            takes=MACHINE,
            **LIMITS,
        ),
        "impute": Verb(
            request.Impute, f"{__name__}.verbs:impute", endings=(".csv", "-quantiles.csv"), takes=MACHINE, **LIMITS
        ),
        "train": Verb(Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(
            request.Evaluate, f"{__name__}.verbs:evaluate", takes=MACHINE, maps=True, **LIMITS, **EVALUATE
        ),
        "tune": Verb(request.Tune, f"{__name__}.verbs:tune", takes=MACHINE, **LIMITS, **TUNE),
    },
    load=f"{__name__}.model:Forecaster.load",
    command="forecast",
    modules={
        "pandas": "",
        "torch": "",
        "matplotlib": "forecast, backtest",
        "openpyxl": "tables in .xlsx",
        "statsmodels": "a baseline of backtest and evaluate",
        "holidays": "the option of this name",
        "gluonts": "gluonts' predictors",
    },
    tasks=("series",),
    makes=f"{__name__}:makes",
)


def makes(facts: dict[str, Any]) -> str:
    return f"the next {facts['horizon']} steps of {len(facts['names'])} series"
