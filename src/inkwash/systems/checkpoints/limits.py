"""What is known of a checkpoint without loading it: what it narrows, and how long it will take. Loads no torch."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any, get_args

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan, summary
from inkwash.systems.checkpoints import memory
from inkwash.systems.checkpoints.facts import EDITS, Facts, files_of, header_of, read_facts
from inkwash.systems.checkpoints.options import GUIDANCE, HIRES_STRENGTH, PIXELS, SAMPLER, STEPS, larger
from inkwash.systems.checkpoints.request import Grid
from inkwash.systems.pictures.model import default_strength

BYTES_PER_PIXEL = 1.5  # of a file, for each pixel
LOADING = 1e9  # bytes in a second
ENDLESS = ("karras", "exponential", "kl_optimal", "align_your_steps")  # grids that need a largest sigma


def limits(path: Path) -> dict[str, Limit]:
    facts = read_facts(path)
    edits = facts.extra == EDITS
    grids = [name for name in get_args(Grid) if not (facts.zero_snr and name in ENDLESS)]
    return {
        "sampler": Limit(default=SAMPLER),
        "steps": Limit(default=STEPS),
        "grid": Limit(tuple(grids), default="trailing" if facts.zero_snr else "karras"),
        "guidance": Limit(default=GUIDANCE),
        "clip_skip": Limit(default=0),
        "weighting": Limit(default="a1111"),
        "size": Limit(default=facts.side),
        "rescale": Limit(absent=edits),
        "strength": Limit(absent=edits),
        "mask": Limit(absent=edits),
        "image_guidance": Limit(absent=not edits, default=1.5),
    }


def plan(request: Any, path: Path, device: str, threads: int) -> Plan:
    """Seconds by the sizes of the U-Net's weights, bytes of disk, and what will lie in memory. UserError for pictures
    that do not fit into this machine's."""
    facts = read_facts(path)
    width, height = request.width or request.size or facts.side, request.height or request.size or facts.side
    final = (width, height) if request.hires is None else larger(width, height, request.hires)
    area = final[0] * final[1] / (width * height)
    calls = 3 if facts.extra == EDITS else 1 if request.guidance == 1 else 2
    steps = request.steps or STEPS
    again = (request.hires_steps or steps) * (request.hires_strength or HIRES_STRENGTH) * area
    if request.image is not None and facts.extra != EDITS:
        strength = request.strength or default_strength(request.mask is not None)
        steps = max(1, int(steps * strength))
    work = (
        request.n * (steps + (0 if request.hires is None else again)) * calls * operations(path, facts, width, height)
    )
    seconds = plans.seconds(work, device, threads)
    size = sum(file.stat().st_size for file in files_of(path))
    files = round(request.n * BYTES_PER_PIXEL * width * height * area)
    found = Plan(None if seconds is None else size / LOADING + seconds, files)
    parts = [summary(found)]
    if request.settings is not None:
        parts.append(f"without the settings of {request.settings.name}, which are read when it starts")
    elif device == "cpu":
        parts.append(memory.plan(path, *final).text)
    return found._replace(text="; ".join(parts))


def operations(path: Path, facts: Facts, width: int, height: int) -> float:
    """Of one call of the U-Net, without what attention adds to its matrices."""
    files = [path] if path.is_file() else [file for file in files_of(path) if file.parent.name == "unet"]
    places, total = (width // PIXELS) * (height // PIXELS), 0.0
    for file in files:
        for name, tensor in header_of(file).tensors.items():
            level = level_of(name.removeprefix("model.diffusion_model."), facts.levels)
            if level is not None and len(tensor.shape) > 1 and "emb" not in name:
                total += 2 * prod(tensor.shape) * places / 4**level
    return total


def level_of(name: str, levels: int) -> int | None:
    """How often the state has been halved where a tensor of a U-Net works; None for one of another network."""
    if name.startswith(("mid_block", "middle_block")):
        return levels - 1
    if block := re.match(r"(down|up)_blocks\.(\d+)\.", name):
        return int(block[2]) if block[1] == "down" else levels - 1 - int(block[2])
    if block := re.match(r"(input|output)_blocks\.(\d+)\.", name):
        number = int(block[2])
        return max(number - 1, 0) // 3 if block[1] == "input" else levels - 1 - number // 3
    return 0 if name.startswith(("conv_in", "conv_out", "out.")) else None
