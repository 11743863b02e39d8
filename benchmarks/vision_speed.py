"""What a picture costs the shipped models of vision, on one core: CPU seconds and peak memory, by both runtimes.

    pip install '.[segmentation,detection]'
    python benchmarks/vision_speed.py [--upscaler runs/photos/model] [--rounds 5]

Each is measured in a process of its own, whose peak memory is told; of the rounds, after one that is not counted, the
median. The picture is of noise: what it shows costs nothing. Writes docs/results/vision-speed.json.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import common
import inkwash
from common import QUICK, ROOT
from inkwash.progress import peak_memory
from inkwash.systems.report import row

RUNTIMES = ("onnx", "torch")


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def hole(side: int) -> np.ndarray:
    """A quarter of a square."""
    mask = np.zeros((side, side))
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 1
    return mask


WORK: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "masks: 128 x 128 pixels as the network sees them, 5 samples, 5 steps": (
        "nuclei", lambda model: model.segment(picture(256, 256), samples=5, steps=5),
    ),
    "masks: 1024 x 1024 pixels, 5 samples, 5 steps": (
        "nuclei", lambda model: model.segment(picture(1024, 1024), samples=5, steps=5),
    ),
    "boxes: 256 x 192 pixels, 60 boxes, 1 step": (
        "bccd", lambda model: model.detect(picture(256, 192), boxes=60, steps=1),
    ),
    "an edited photograph: 64 x 64 pixels, 4 samples, 8 steps": (
        "retouch", lambda model: model.edit(picture(64, 64), "inpaint", mask=hole(64), samples=4, steps=8),
    ),
    "a picture by kind: 64 x 64 pixels": ("cells", lambda model: model.generate("WBC")),
    "a sharper picture: 128 x 128 to 512 x 512 pixels, 1 sample, 4 steps": (
        "", lambda model: model.upscale(picture(128, 128), samples=1, steps=4),
    ),
}  # fmt: skip


def measure(name: str, model_name: str, runtime: str, rounds: int) -> dict[str, Any]:
    model = inkwash.load(model_name, runtime=runtime, threads=1)
    seconds = []
    for _ in range(1 + rounds):
        start = time.process_time()
        WORK[name][1](model)
        seconds.append(time.process_time() - start)
    return {"seconds": statistics.median(seconds[1:]), "memory": peak_memory()}


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--upscaler", help="a model of superresolution of factor 4")
    options.add_argument("--rounds", type=int, default=1 if QUICK else 5)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "vision-speed.json")
    options.add_argument("--one", nargs=3, help="WORK MODEL RUNTIME: this one alone, as JSON")
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, given.rounds)))
        return
    rows = []
    for name, (shipped, _) in WORK.items():
        model = shipped or given.upscaler
        runtimes = RUNTIMES if shipped else ("torch",)  # who trains one has exported nothing
        for runtime in runtimes[: 1 if QUICK else None] if model else ():
            command = [sys.executable, __file__, "--one", name, model, runtime, "--rounds", str(given.rounds)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append(row("CPU seconds", found["seconds"], n=given.rounds, source=name, runtime=runtime))
            rows.append(row("peak memory, MB", found["memory"] / 1e6, n=1, source=name, runtime=runtime))
            print(f"{name}, {runtime}: {found['seconds']:.2f} s, {found['memory'] / 1e6:.0f} MB", flush=True)
    common.save(given.out, {"title": "The shipped models of vision on one core.", "rows": rows})


if __name__ == "__main__":
    main()
