"""inkwash: diffusion as one small, exact idea, and what can be made with it.

>>> import inkwash
>>> emoji = inkwash.load("emoji")
>>> picture = emoji.generate("a red fox", style="flat", seed=7)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inkwash.systems.pictures.model import Pictures

__version__ = "0.1.0"


def load(name: str | Path, device: str = "cpu", precision: str = "float32") -> Pictures:
    """A model by its shipped name, or from a folder that inkwash saved."""
    from inkwash.systems import load

    return load(name, device, precision)
