"""Which runtime computes a model of pictures: torch everywhere, ONNX the faster one on a CPU, without torch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from inkwash.errors import UserError, unknown
from inkwash.weights.shipped import locate

if TYPE_CHECKING:
    from inkwash.systems.pictures.pipeline import Pipeline

RUNTIMES = ("onnx", "torch")


def load(
    name: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    runtime: str | None = None,
    threads: int | None = None,
) -> Pipeline:
    """The model of a shipped name or a folder, as the class of its runtime."""
    folder = locate(name)
    if runtime not in (*RUNTIMES, None):
        raise unknown("runtime", str(runtime), RUNTIMES)
    if (runtime or fastest(folder, device, precision)) == "torch":
        from inkwash.systems.pictures.model import Pictures

        return Pictures.load(folder, device, precision, threads)
    if device != "cpu" or precision != "float32":
        raise UserError(
            f"runtime onnx knows the CPU and float32 only: give --runtime torch for {device}, {precision}"
        )
    if not find_spec("onnxruntime"):
        raise UserError("runtime onnx needs onnxruntime: pip install onnxruntime, or give --runtime torch")
    from inkwash.systems.pictures.onnx import OnnxPictures

    return OnnxPictures.load(folder, threads or int(os.environ.get("OMP_NUM_THREADS", "1")))


def fastest(folder: Path, device: str, precision: str) -> str:
    """The runtime to take if none is asked for: onnx where it can, since it is the faster one."""
    exported = (folder / "unet" / "model.onnx").is_file()
    able = device == "cpu" and precision == "float32" and find_spec("onnxruntime")
    return "onnx" if able and exported else "torch"
