"""What a model of masks says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe

PICTURE = 2**18  # pixels of a usual picture, since a plan opens no file
SHARES = (1.0, 0.25, 0.0625, 0.015625)  # of the pixels that a level of a U-Net sees
WRITTEN = 15  # bytes of files for each of its pixels


def limits(folder: Path) -> dict[str, Limit]:
    """The defaults; what a plain model has none of."""
    facts: dict[str, Any] = describe(folder)
    if facts["engine"] == "plain":
        return dict.fromkeys(("samples", "steps", "sampler"), Limit(absent=True))
    own = {name: Limit(default=facts[name]) for name in ("samples", "steps", "sampler")}
    return own | {"flips": Limit(absent=True)}


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the number of files, as if each were of 512 x 512 pixels."""
    if folder is None:
        return Plan()
    facts: dict[str, Any] = describe(folder)
    files = len(request.pictures) if isinstance(request.pictures, tuple) else 1
    calls = 1
    if facts["engine"] == "segdiff":
        calls = (request.samples or facts["samples"]) * (request.steps or facts["steps"])
    pixels = PICTURE * facts["scale"] ** 2
    work = 2 * operations(folder / WEIGHTS) * pixels * calls * files
    return Plan(plans.seconds(work, device, threads), files * PICTURE * WRITTEN)


def operations(weights: Path) -> float:
    """Products for each pixel: those of a level's kernels count for its share of the pixels."""
    found = 0.0
    for name, size in plans.sizes(weights).items():
        parts = name.split(".")
        level = 0
        if "down_blocks" in parts:
            level = int(parts[parts.index("down_blocks") + 1])
        elif "up_blocks" in parts:
            level = 3 - int(parts[parts.index("up_blocks") + 1])
        elif "mid_block" in parts:
            level = 3
        found += size * SHARES[min(max(level, 0), 3)]
    return found
