"""Pictures by other tools' checkpoints."""

from typing import Any

from inkwash.systems.base import System, Verb
from inkwash.systems.checkpoints import request
from inkwash.weights.shipped import CHECKPOINTS

HERE = "inkwash.systems.checkpoints"

SYSTEM = System(
    name=CHECKPOINTS,
    help="Pictures by other tools' checkpoints of Stable Diffusion 1, 2 and XL.",
    verbs={
        "generate": Verb(
            request.Generate,
            f"{HERE}.verbs:generate",
            limits=f"{HERE}.limits:limits",
            plan=f"{HERE}.limits:plan",
            endings=(".png", ".webp"),
        ),
    },
    load=f"{HERE}.stable_diffusion:StableDiffusion.load",
    modules={"torch": ""},
    makes=f"{HERE}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)


def makes(_: dict[str, Any]) -> str:
    return "pictures from words"
