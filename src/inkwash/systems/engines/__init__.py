"""Pictures by engines elsewhere, which speak OpenAI's images protocol: SGLang-diffusion, vLLM-Omni."""

from typing import Any

from inkwash.systems.base import System, Verb
from inkwash.systems.engines import request
from inkwash.weights.shipped import ENGINES

HERE = "inkwash.systems.engines"

SYSTEM = System(
    name=ENGINES,
    help="Pictures by engines elsewhere, which speak OpenAI's images protocol.",
    verbs={
        "generate": Verb(
            request.Generate,
            f"{HERE}.verbs:generate",
            limits=f"{HERE}.limits:limits",
            endings=(".png",),
            takes=("out",),
        ),
    },
    load=f"{HERE}.model:Engine.load",
    modules={"httpx": ""},
    makes=f"{HERE}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    return f"pictures from words, drawn elsewhere by {facts['model']}"
