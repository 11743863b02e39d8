"""What a model says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.restoration.options import check_whole
from inkwash.systems.segmentation.limits import PICTURE, operations
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe

WRITTEN = 3  # bytes of files for each pixel that is made


def limits(folder: Path) -> dict[str, Limit]:
    """The defaults; what a plain model has none of; the one factor, or the tasks."""
    facts: dict[str, Any] = describe(folder)
    own = {name: Limit(default=facts[name]) for name in ("samples", "steps")}
    if facts["engine"] == "plain":
        own = dict.fromkeys(("samples", "steps", "noise_level"), Limit(absent=True))
    if "factor" in facts:
        return own | {"factor": Limit(default=facts["factor"])}
    return own | {"task": Limit(choices=tuple(facts["tasks"]))}


def cascade_limits(folder: Path) -> dict[str, Limit]:
    """The kinds, the defaults; without augmentation there is no noise to be asked for."""
    facts: dict[str, Any] = describe(folder)
    check_whole(facts)
    noise = {"noise_level": Limit(default=facts["noise_level"])}
    if not facts["augmentation"]:
        noise = dict.fromkeys(("noise_level", "truncated"), Limit(absent=True))
    return noise | {"kind": Limit(choices=tuple(facts["classes"])), "steps": Limit(default=facts["steps"])}


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the number of files, as if each were of 512 x 512 pixels."""
    if folder is None:
        return Plan()
    facts: dict[str, Any] = describe(folder)
    pictures = getattr(request, "pictures", None)
    files = len(pictures) if isinstance(pictures, tuple) else 1
    samples = 1 if facts["engine"] == "plain" else request.samples or facts["samples"]
    calls = 1 if facts["engine"] == "plain" else samples * (request.steps or facts["steps"])
    pixels = PICTURE * facts.get("factor", 1) ** 2 * files
    network = facts["network"]
    work = 2 * operations(folder / WEIGHTS, len(network["widths"])) * pixels / network["patch"] ** 2 * calls
    return Plan(plans.seconds(work, device, threads), pixels * samples * WRITTEN)
