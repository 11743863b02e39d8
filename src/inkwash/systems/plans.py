"""How long work will take, told by the sizes of a model's weights and the speed of this machine: no model is loaded,
and no torch."""

from __future__ import annotations

import json
import math
import time
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.systems.base import Plan
from inkwash.systems.tune import Tune

RUN = "run.json"  # as `training.run`, which brings torch, calls it

# Networks' share of the speed of small products. On one core with AVX2, products of 64 x 64 matrices made 85
# billion operations a second, emoji's U-Net 60 on ONNX and 36 on torch.
SHARE = {"onnx": 0.7, "torch": 0.4}


@cache
def speed() -> float:
    """Floating-point operations of a core in a second of its own time, by products of 64 x 64 matrices: so small
    that no library divides them among threads."""
    a, done, start = np.ones((64, 64), np.float32), 0, time.process_time()
    while (seconds := time.process_time() - start) < 0.02:
        for _ in range(100):
            a @ a
        done += 100
    return 2 * 64**3 * done / seconds


def seconds(operations: float, device: str, threads: int, runtime: str = "torch") -> float | None:
    """Of so much work; None where it was never measured, on a GPU."""
    return operations / (SHARE[runtime] * speed() * threads) if device == "cpu" else None


def sizes(file: Path) -> dict[str, int]:
    """How many numbers each matrix or kernel of a safetensors file holds, by the header alone."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    return {name: prod(shape) for name, shape in shapes.items() if len(shape) > 1}


def tuning(request: Tune) -> int:
    """Calls of the network for a sample: 100 of its trajectory, then for each table 33 tries and 20 baselines."""
    return 100 + sum(53 * steps for steps in request.steps)


def training(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the log of the run that goes on in the folder; of one that has not begun nothing is known."""
    unknown = Plan(text="how long it takes shows after its first steps")
    if folder is None:
        return unknown
    try:
        recipe = json.loads((folder / RUN).read_text(encoding="utf-8"))["recipe"]
        lines = (folder / "log.csv").read_text(encoding="utf-8").splitlines()[1:]
        done, pace = int(lines[-1].split(",")[0]), np.median([float(line.split(",")[-1]) for line in lines[-50:]])
        left = (request.steps or recipe["fit.steps"]) - done
    except (OSError, TypeError, ValueError, KeyError, IndexError):
        return unknown
    return Plan(min(max(left, 0) * float(pace), 60 * (request.minutes or math.inf)), 0)
