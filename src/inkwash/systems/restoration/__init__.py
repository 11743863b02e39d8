"""Restoration: pictures from pictures, larger ones and edited ones. Two systems, since each has a word of its own on
the command line, options of its own, and models that the other cannot use."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.export import EXPORT, Export
from inkwash.systems.restoration import request
from inkwash.systems.train import TRAIN

MACHINE = ("out", "device", "runtime", "threads")  # all of it computes in float32
LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "takes": MACHINE}
TORCH = "train, evaluate, export"
MODULES = {"scipy": "", "skimage": "evaluate"}

UPSCALING = System(
    name="superresolution",
    help="Larger pictures, with the detail that a model learned from others.",
    verbs={
        "upscale": Verb(request.Upscale, f"{__name__}.verbs:upscale", plan=f"{__name__}.limits:plan", **LIMITS),
        "train": Verb(request.TrainUpscaler, f"{__name__}.verbs:train_upscaler", **TRAIN),
        "evaluate": Verb(request.EvaluateUpscaler, f"{__name__}.evaluate:evaluate", **LIMITS, **EVALUATE),
        "export": Verb(Export, f"{__name__}.export:export_upscaler", **EXPORT),
    },
    load=f"{__name__}.upscaler:Upscaler.load",
    command="upscale",
    modules={"torch": f"{TORCH}, upscale --runtime torch"} | MODULES,
    tasks=("superresolution",),
    makes=f"{__name__}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)

EDITING = System(
    name="editing",
    help="Photographs edited by a model: colourised, filled, drawn on, restored.",
    verbs={
        "edit": Verb(request.Edit, f"{__name__}.verbs:edit", plan=f"{__name__}.limits:plan", **LIMITS),
        "train": Verb(request.TrainEditor, f"{__name__}.verbs:train_editor", **TRAIN),
        "evaluate": Verb(request.EvaluateEditor, f"{__name__}.evaluate:evaluate", **LIMITS, **EVALUATE),
        "export": Verb(Export, f"{__name__}.export:export_editor", **EXPORT),
    },
    load=f"{__name__}.editor:Editor.load",
    command="edit",
    modules={"torch": f"{TORCH}, edit --runtime torch"} | MODULES,
    tasks=("editing",),
    makes=f"{__name__}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)

SYSTEMS = (UPSCALING, EDITING)


def makes(facts: dict[str, Any]) -> str:
    how = "by diffusion" if facts["engine"] == "diffusion" else "without diffusion"
    if "factor" in facts:
        return f"pictures {facts['factor']} times larger, {how}"
    return f"edited photographs ({', '.join(facts['tasks'])}), {how}"
