"""inkwash: diffusion as one small, exact idea, and what can be made with it.

>>> import inkwash
>>> emoji = inkwash.load("emoji")
>>> picture = emoji.generate("a red fox", style="flat", seed=7)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkwash.version import __version__ as __version__

if TYPE_CHECKING:
    from inkwash.studio.client import AsyncStudio as AsyncStudio
    from inkwash.studio.client import Studio as Studio
    from inkwash.systems.language.model import Writer
    from inkwash.systems.pictures.pipeline import Pipeline
    from inkwash.systems.series.model import Forecaster


def load(
    name: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    runtime: str | None = None,
    threads: int | None = None,
    **components: Any,
) -> Pipeline | Forecaster | Writer:
    """A model by its shipped name, or from a folder that inkwash saved.

    runtime: "onnx" draws faster on a CPU and loads no torch, "torch" runs everywhere; if not given, the first where
    it can; forecasters and writers have torch alone. threads: how many to compute with; one if not given, unless
    OMP_NUM_THREADS says otherwise. components: what stands in the place of a picture model's own, a folder or an
    object of torch: `load("emoji", vae="my/vae")`.
    """
    from inkwash.systems import load

    model: Pipeline | Forecaster | Writer = load(name, device, precision, runtime, threads, **components)
    return model


if not TYPE_CHECKING:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> object:
        """The clients of a studio, which are loaded only when they are asked for."""
        if name not in ("AsyncStudio", "Studio"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from inkwash.studio import client

        return getattr(client, name)
