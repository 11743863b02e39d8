"""What is known of a model of pictures without loading it: what it narrows, and how long it will take."""

import re
from pathlib import Path
from typing import Any, get_args

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.pictures.model import SAMPLERS, TUNED, knows_opacity, read_config, read_index
from inkwash.systems.pictures.request import Evaluate, Format, Generate, Tune
from inkwash.weights.graph import fastest
from inkwash.weights.shipped import load_json

BYTES_PER_PIXEL = 1.5  # of a file, for each pixel
FORMATS = get_args(Format)
PIXEL_FORMATS = tuple(format for format in FORMATS if format not in ("svg", "favicon"))
LOADING_SECONDS, SCORING_SECONDS = 0.5, 60.0  # seconds


def limits(folder: Path) -> dict[str, Limit]:
    """Styles and opacity; and its defaults. One without words has no prompts, and is not guided."""
    config, words = read_config(folder), "text_encoder" in read_index(folder)
    return {
        "prompt": Limit(absent=not words),
        "style": Limit((*config.style_aliases, *config.styles), absent=not config.styles),
        "transparent": Limit(absent=not knows_opacity(folder)),
        "sampler": Limit((*SAMPLERS, TUNED), default=config.sampler),
        "steps": Limit(default=config.steps),
        "grid": Limit(default="uniform"),
        "guidance": Limit(default=config.guidance, absent=not words),
        "negative": Limit(absent=not words),
        "to": Limit(absent=not words),
        "like": Limit(absent=not config.reference),
        "format": Limit(FORMATS if config.distance_field else PIXEL_FORMATS, default="png"),
        "weight": Limit(absent=not config.distance_field),
        "colors": Limit(absent=not config.distance_field),
        "size": Limit(default=config.picture_size),
    }


def plan(request: Any, folder: Path, device: str, threads: int) -> Plan:
    config, index = read_config(folder), read_index(folder)
    guidance, size = getattr(request, "guidance", None), getattr(request, "size", None) or config.picture_size
    calls = 1 if (config.guidance if guidance is None else guidance) == 1 else 2  # of the network for a step
    steps = plans.tuning(request) if isinstance(request, Tune) else request.steps or config.steps
    pictures, extra_seconds, files = 0, 0.0, 0
    if isinstance(request, Generate):
        n = request.n or 1
        pictures = n if request.to is None else 2 * n  # by the words of both prompts
        files = round(n * BYTES_PER_PIXEL * size**2)
    elif isinstance(request, Evaluate):
        pictures, extra_seconds = (10 if config.distance_field else 7) * request.per_row, SCORING_SECONDS
    else:
        pictures = request.samples
    work = steps * calls * operations(index["unet"].folder, config.size // config.patch)
    if size > config.picture_size and "upsampler" in index:
        work += 4 * operations(index["upsampler"].folder, config.size)
    runtime = fastest([component.folder for component in index.values()], device, "float32")
    seconds = plans.seconds(pictures * work, device, threads, runtime)
    return Plan(None if seconds is None else LOADING_SECONDS + seconds + extra_seconds, files or None)


def operations(network: Path, side: int) -> float:
    """Of one call of a U-Net in the diffusers format, on a state of `sample_size` rows and columns, or of `side`."""
    config = load_json(network / "config.json")
    side, levels, total = config.get("sample_size") or side, len(config["block_out_channels"]), 0.0
    for name, size in plans.sizes(next(network.glob("*.safetensors"))).items():
        block = re.match(r"(down|up)_blocks\.(\d+)", name)
        level = levels - 1 if name.startswith("mid") else 0
        if block:
            level = int(block[2]) if block[1] == "down" else levels - 1 - int(block[2])
        once = "emb" in name  # of time, style and words: not at each place
        total += 2 * size * (1 if once else (side >> level) ** 2)
    return total
