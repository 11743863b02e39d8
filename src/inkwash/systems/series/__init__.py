"""Forecasting: sample paths of many series at once, from a table."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.series import request
from inkwash.systems.train import TRAIN, Train
from inkwash.systems.tune import TUNE

HERE = "inkwash.systems.series"

KNOWN: dict[str, Any] = {"limits": f"{HERE}.limits:limits", "plan": f"{HERE}.limits:plan"}
MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch

SYSTEM = System(
    name="series",
    help="Forecast many series at once; try out, mend and tune forecasts.",
    verbs={
        "forecast": Verb(request.Forecast, f"{HERE}.verbs:forecast", takes=MACHINE, **KNOWN),
        "backtest": Verb(request.Backtest, f"{HERE}.verbs:backtest", endings=(".txt",), takes=MACHINE, **KNOWN),
        "impute": Verb(request.Impute, f"{HERE}.verbs:impute", endings=(".csv",), takes=MACHINE, **KNOWN),
        "train": Verb(Train, f"{HERE}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{HERE}.verbs:evaluate", takes=MACHINE, **KNOWN, **EVALUATE),
        "tune": Verb(request.Tune, "inkwash.systems.tune:tune", takes=MACHINE, **KNOWN, **TUNE),
    },
    load=f"{HERE}.model:Forecaster.load",
    command="forecast",
    modules={
        "pandas": "",
        "torch": "",
        "matplotlib": "forecast",
        "statsmodels": "backtest, evaluate",
        "gluonts": "gluonts' predictors",
    },
    tasks=("series",),
    makes=f"{HERE}:makes",
)


def makes(facts: dict[str, Any]) -> str:
    return f"the next {facts['horizon']} steps of {len(facts['names'])} series"
