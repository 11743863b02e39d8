"""Segmentation: masks of pictures, several for each, and how sure they are."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.export import EXPORT
from inkwash.systems.segmentation import request
from inkwash.systems.train import TRAIN
from inkwash.systems.tune import TUNE

MACHINE = ("out", "device", "runtime", "threads")  # all of it computes in float32
LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "takes": MACHINE}

SYSTEM = System(
    name="segmentation",
    help="Masks of pictures: cells, or whatever a model was trained on.",
    verbs={
        "segment": Verb(request.Segment, f"{__name__}.verbs:segment", plan=f"{__name__}.limits:plan", **LIMITS),
        "train": Verb(request.Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{__name__}.evaluate:evaluate", maps=True, **LIMITS, **EVALUATE),
        "export": Verb(request.Export, f"{__name__}.export:export", **EXPORT),
        "tune": Verb(request.Tune, f"{__name__}.verbs:tune", **LIMITS, **TUNE),
    },
    load=f"{__name__}.model:SegmentationModel.load",
    command="segment",
    modules={"torch": "train, evaluate, export, segment --runtime torch", "scipy": "", "skimage": ""},
    tasks=("segmentation",),
    makes=f"{__name__}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    how = "by diffusion" if facts["engine"] == "segdiff" else "without diffusion"
    return f"masks of {', '.join(facts['classes'])}, {how}"
