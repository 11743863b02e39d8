"""What is known of a model of pictures without loading it: what it narrows, and how long it will take."""

import json
import re
from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.pictures.pipeline import SAMPLERS, TUNED, WEIGHTS, knows_opacity, part, read_config
from inkwash.systems.pictures.request import Evaluate, Generate, Tune
from inkwash.systems.pictures.runtimes import fastest
from inkwash.systems.tune import TABLES

BYTES = 1.5  # of a file, for each pixel
LOADING, SCORING = 0.5, 60.0  # seconds


def limits(folder: Path) -> dict[str, Limit]:
    """Styles, opacity, learned tables; and what is usual with the model. One without words is not guided."""
    info = read_config(folder)
    words = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8")).get("class_embed_type")
    samplers = [*SAMPLERS, *([TUNED] if (folder / TABLES).is_file() else [])]
    return {
        "style": Limit(tuple(info.styles), absent=not info.styles),
        "transparent": Limit(absent=not knows_opacity(part(folder, info, "vae"))),
        "sampler": Limit(tuple(samplers), default=info.sampler),
        "steps": Limit(default=info.steps),
        "guidance": Limit(default=info.guidance, absent=not words),
        "negative": Limit(absent=not words),
        "to": Limit(absent=not words),
        "size": Limit(default=info.size),
    }


def plan(request: Any, folder: Path, device: str, threads: int) -> Plan:
    info = read_config(folder)
    guidance, size = getattr(request, "guidance", None), getattr(request, "size", None) or info.size
    calls = 1 if (info.guidance if guidance is None else guidance) == 1 else 2  # of the network for a step
    steps = plans.tuning(request) if isinstance(request, Tune) else request.steps or info.steps
    pictures, more, files = 0, 0.0, 0
    if isinstance(request, Generate):
        pictures = request.n if request.to is None else 2 * max(request.n, 8)
        files = round(request.n * BYTES * size**2)
    elif isinstance(request, Evaluate):
        pictures, more = 7 * request.per_row, SCORING
    else:
        pictures = request.samples
    work = steps * calls * operations(folder / "unet", info.size // info.patch)
    if size > info.size and (upsampler := part(folder, info, "upsampler")) is not None:
        work += 4 * operations(upsampler, info.size)
    seconds = plans.seconds(pictures * work, device, threads, fastest(folder, device, "float32"))
    return Plan(None if seconds is None else LOADING + seconds + more, files or None)


def operations(network: Path, side: int) -> float:
    """Of one call of a U-Net in the diffusers format, on a state of `sample_size` rows and columns, or of `side`."""
    config = json.loads((network / "config.json").read_text(encoding="utf-8"))
    side, levels, total = config.get("sample_size") or side, len(config["block_out_channels"]), 0.0
    for name, size in plans.sizes(network / WEIGHTS).items():
        block = re.match(r"(down|up)_blocks\.(\d+)", name)
        level = levels - 1 if name.startswith("mid") else 0
        if block:
            level = int(block[2]) if block[1] == "down" else levels - 1 - int(block[2])
        once = "emb" in name  # of time, style and words: not at each place
        total += 2 * size * (1 if once else (side >> level) ** 2)
    return total
