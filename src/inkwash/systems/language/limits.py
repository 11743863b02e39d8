"""What a writer says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.language.request import Evaluate
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe, locate

STEERED = {"continuous": 3, "masked": 8, "autoregressive": 1}  # so many times as long, with a classifier that steers
EVALUATED = 10 * 40 * 10  # sentences: ten kinds of targets, forty of each, ten for each


def limits(folder: Path) -> dict[str, Limit]:
    """What can be asked of its engine, its network and its classifier; and the defaults."""
    facts: dict[str, Any] = describe(folder)
    classifier = folder / "classifier.json"
    found = json.loads(classifier.read_text(encoding="utf-8")) if classifier.is_file() else {}
    source, grammar = Limit(absent=not facts["network"]["source"]), Limit(absent=not found.get("tags"))
    return dict.fromkeys(("pos", "span", "tree"), grammar) | {
        "control": Limit(absent=not found.get("fields")),
        "length": Limit(high=facts["network"]["length"] - 1),
        "source": source,
        "guidance": source._replace(default=facts["guidance"]),
        "steps": Limit(default=facts["steps"], absent=facts["engine"] == "autoregressive"),
        "temperature": Limit(default=facts["temperature"]),
    }


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    folder = folder or locate(request.model_name())
    facts: dict[str, Any] = describe(folder)
    steered, calls = STEERED[facts["engine"]], request.steps or facts["steps"]
    if isinstance(request, Evaluate):
        sentences = EVALUATED
    else:
        sentences, calls = request.n * request.candidates, calls * (1 + (request.source is not None))
        steered = steered if request.steered() else 1
    work = 2 * sum(plans.sizes(folder / WEIGHTS).values()) * facts["network"]["length"] * calls * steered
    return Plan(plans.seconds(sentences * work, device, threads))
