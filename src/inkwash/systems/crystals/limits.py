"""What a model of crystals says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.crystals.request import Evaluate
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe, locate


def sizes(facts: dict[str, Any]) -> list[int]:
    """The numbers of atoms that the model has seen."""
    return sorted(int(size) for size in facts["atoms"])


def limits(folder: Path) -> dict[str, Limit]:
    """The numbers of atoms and the properties that it was taught."""
    facts: dict[str, Any] = describe(folder)
    properties, atoms = tuple(facts["properties"]), sizes(facts)
    return {
        "atoms": Limit(low=atoms[0], high=atoms[-1]),
        "minimise": Limit(choices=properties, absent=not properties),
        "target": Limit(absent=not properties),
        "steps": Limit(default=facts["steps"]),
    }


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the arithmetic of the network for each pair of atoms. Of relaxing and judging nothing is known before."""
    if isinstance(request, Evaluate) or request.relax:
        return Plan()
    folder = folder or locate(request.model)
    facts: dict[str, Any] = describe(folder)
    pairs = (request.atoms or sizes(facts)[-1]) ** 2
    calls = request.n * pairs * (request.steps or facts["steps"])
    return Plan(plans.seconds(2 * sum(plans.sizes(folder / WEIGHTS).values()) * calls, device, threads))
