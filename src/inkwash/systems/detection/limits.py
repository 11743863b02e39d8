"""What a model of boxes says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe

WRITTEN = 2**19  # bytes of files for each picture


def limits(folder: Path) -> dict[str, Limit]:
    """The defaults; what a model without diffusion has none of."""
    facts: dict[str, Any] = describe(folder)
    names = ("boxes", "steps", "samples")
    if facts["engine"] == "fcos":
        return dict.fromkeys(names, Limit(absent=True))
    return {name: Limit(default=facts[name]) for name in names}


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the number of files, as if each were as wide as high."""
    if folder is None:
        return Plan()
    facts: dict[str, Any] = describe(folder)
    files = len(request.pictures) if isinstance(request.pictures, tuple) else 1
    calls = boxes = 1
    if facts["engine"] == "diffusiondet":
        boxes = request.boxes or facts["boxes"]
        calls = (request.samples or facts["samples"]) * (request.steps or facts["steps"])
    work = 0.0
    for name, size in plans.sizes(folder / WEIGHTS).items():
        if facts["engine"] == "diffusiondet" and name.startswith("head."):
            work += 2.0 * size * boxes * calls
        else:
            work += 2.0 * size * facts["size"] ** 2 / 4.0 ** halvings(name.split("."), facts["network"])
    return Plan(plans.seconds(work * files, device, threads), files * WRITTEN)


def halvings(parts: list[str], network: dict[str, Any]) -> int:
    """How often the side was halved where a kernel works; a head without diffusion works on all levels, of which the
    finest costs most."""
    number = next((int(part) for part in parts if part.isdigit()), 0)
    if "downs" in parts or "blocks" in parts:
        return number + 1
    finest: int = len(network["widths"]) - network["levels"] + 1
    return finest + number if "backbone" in parts else finest
