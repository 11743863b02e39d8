"""inkwash: diffusion as one small, exact idea, and what can be made with it.

>>> import inkwash
>>> emoji = inkwash.load("emoji")
>>> picture = emoji.generate("a red fox", style="flat", seed=7)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inkwash.systems.language.model import Writer
    from inkwash.systems.pictures.drawing import Drawing
    from inkwash.systems.series.model import Forecaster

__version__ = "0.1.0"


def load(
    name: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    runtime: str | None = None,
    threads: int | None = None,
) -> Drawing | Forecaster | Writer:
    """A model by its shipped name, or from a folder that inkwash saved.

    runtime: "onnx" draws faster on a CPU and loads no torch, "torch" runs everywhere; if not given, the first where
    it can; forecasters and writers have torch alone. threads: how many to compute with; one if not given, unless
    OMP_NUM_THREADS says otherwise.
    """
    from inkwash.systems import load

    return load(name, device, precision, runtime, threads)
