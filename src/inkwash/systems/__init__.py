"""The applications, one room each, all built alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inkwash.errors import UserError
from inkwash.weights.shipped import describe, locate

if TYPE_CHECKING:
    from inkwash.systems.pictures.model import Pictures


def load(name: str | Path, device: str = "cpu", precision: str = "float32") -> Pictures:
    """The model of a shipped name or a folder, as the class of its system."""
    folder = locate(name)
    system = describe(folder).get("system")
    if system == "pictures":
        from inkwash.systems.pictures.model import Pictures

        return Pictures.load(folder, device, precision)
    raise UserError(f"{folder}: a model of system '{system}', which this version does not know")
