"""What a model of masks says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import describe

PICTURE = 2**18  # pixels of a usual picture, since a plan opens no file
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
    work = 2 * operations(folder / WEIGHTS, len(facts["network"]["widths"])) * pixels * calls * files
    return Plan(plans.seconds(work, device, threads), files * PICTURE * WRITTEN)


def operations(weights: Path, levels: int) -> float:
    """Products for each pixel that the network sees: those of a kernel count for its level's share of the pixels, a
    quarter for each; what is done once a picture, for the time, counts for nothing."""
    found = 0.0
    for name, size in plans.sizes(weights).items():
        if "time_emb" not in name:
            found += size / 4.0 ** level_of(name.split("."), levels)
    return found


def level_of(parts: list[str], levels: int) -> int:
    """How often the side was halved where a kernel works."""
    if "down_blocks" in parts:
        return int(parts[parts.index("down_blocks") + 1]) + ("downsamplers" in parts)
    if "up_blocks" in parts:
        return levels - 1 - int(parts[parts.index("up_blocks") + 1]) - ("upsamplers" in parts)
    if "mid_block" in parts:
        return levels - 1
    return int("encoder" in parts and "fine" not in parts)
