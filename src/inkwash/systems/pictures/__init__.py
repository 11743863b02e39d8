"""Pictures from words."""

from typing import Any

from inkwash.systems.base import System, Verb
from inkwash.systems.pictures import request
from inkwash.systems.train import TRAIN, Train

HERE = "inkwash.systems.pictures"
LIMITS = f"{HERE}.verbs:limits"

SYSTEM = System(
    name="pictures",
    help="Pictures from words, and the training of models of them.",
    verbs={
        "generate": Verb(request.Generate, f"{HERE}.verbs:generate", LIMITS, endings=(".png",)),
        "export": Verb(request.Export, f"{HERE}.verbs:export", lasting=True, out="MODEL", takes=()),
        "train": Verb(Train, f"{HERE}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{HERE}.verbs:evaluate", LIMITS, lasting=True, out="out/evaluate"),
        "tune": Verb(request.Tune, f"{HERE}.verbs:tune", lasting=True, out="MODEL"),
    },
    load=f"{HERE}.pipeline:Pipeline.load",
    command="generate",
    tasks=("pictures", "autoencoder", "upsampler", "student", "text-encoder"),
    makes=f"{HERE}:makes",
)


def makes(facts: dict[str, Any]) -> str:
    return f"pictures of {facts['size']} px: {', '.join(facts['styles'])}"
