"""Detection: boxes around the objects of pictures, by diffusion or in one pass, and how sure they are."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.detection import request
from inkwash.systems.export import EXPORT, Export
from inkwash.systems.train import TRAIN

MACHINE = ("out", "device", "runtime", "threads")  # all of it computes in float32
LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "takes": MACHINE}

SYSTEM = System(
    name="detection",
    help="Boxes around objects in pictures: cells, or whatever a model was trained on.",
    verbs={
        "detect": Verb(request.Detect, f"{__name__}.verbs:detect", plan=f"{__name__}.limits:plan", **LIMITS),
        "train": Verb(request.Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{__name__}.evaluate:evaluate", maps=True, **LIMITS, **EVALUATE),
        "export": Verb(Export, f"{__name__}.export:export", **EXPORT),
        "convert": Verb(request.Convert, f"{__name__}.verbs:convert", takes=("out",)),
    },
    load=f"{__name__}.model:DetectionModel.load",
    command="detect",
    modules={
        "torch": "train, evaluate, export, detect --runtime torch",
        "scipy": "",
        "pycocotools": "train, evaluate",
    },
    tasks=("detection",),
    makes=f"{__name__}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    how = "by diffusion" if facts["engine"] == "diffusiondet" else "without diffusion"
    return f"boxes of {', '.join(facts['classes'])}, {how}"
