"""What a forecaster says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.series.request import Forecast, Impute, Tune
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe

CALL = 0.0004  # seconds of a call of the network beside its arithmetic


def limits(folder: Path) -> dict[str, Limit]:
    """What training has settled, how finely the noise of a faithful model is divided, and the defaults."""
    facts: dict[str, Any] = describe(folder)
    return dict.fromkeys(("mode", "lags", "context", "holidays"), Limit(absent=True)) | {
        "steps": Limit(high=100 if facts["mode"] == "faithful" else None, default=facts["steps"]),
        "sampler": Limit(default=facts["sampler"]),
        "horizon": Limit(default=facts["horizon"]),
        "alone": Limit(absent=not facts.get("weights")),
    }


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """Of forecasts by a model; of a training that comes first, and of gaps, nothing is known before."""
    if folder is None or isinstance(request, Impute):
        return Plan()
    facts: dict[str, Any] = describe(folder)
    if isinstance(request, Tune):
        paths, calls = request.samples, plans.tuning(request)
    else:
        windows = 1 if isinstance(request, Forecast) else getattr(request, "windows", 10)
        paths = windows * getattr(request, "samples", 100)
        if facts.get("weights") and not request.alone:
            paths *= facts["weights"].get("diffusion", 0)
        calls = (getattr(request, "horizon", None) or facts["horizon"]) * (request.steps or facts["steps"])
    work = plans.seconds(2 * sum(plans.sizes(folder / WEIGHTS).values()) * paths * calls, device, threads)
    return Plan(None if work is None else work + CALL * calls)
