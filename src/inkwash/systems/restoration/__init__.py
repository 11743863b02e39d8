"""Restoration: pictures from pictures, larger ones and edited ones; and from nothing by stages that make them larger.
Three systems, since each has a word of its own on the command line, options of its own, and models that the others
cannot use."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.export import EXPORT, Export
from inkwash.systems.restoration import cascade_request, request
from inkwash.systems.train import TRAIN

LOSSLESS = (".png", ".webp", ".tif", ".tiff")  # of which a file is the one sample that is asked for
MACHINE = ("out", "device", "runtime", "threads")  # all of it computes in float32
LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "takes": MACHINE}
CASCADES: dict[str, Any] = {"limits": f"{__name__}.limits:cascade_limits", "takes": MACHINE}
PLAN = f"{__name__}.limits:plan"
TORCH = "train, evaluate, export"
MODULES = {"scipy": "", "skimage": "evaluate"}

UPSCALING = System(
    name="superresolution",
    help="Larger pictures, with the detail that a model learned from others.",
    verbs={
        "upscale": Verb(
            request.Upscale, f"{__name__}.verbs:upscale", plan=PLAN, endings=(*LOSSLESS, ".jpg", ".jpeg"), **LIMITS
        ),
        "train": Verb(request.TrainUpscaler, f"{__name__}.verbs:train_upscaler", **TRAIN),
        "evaluate": Verb(request.EvaluateUpscaler, f"{__name__}.evaluate:evaluate", maps=True, **LIMITS, **EVALUATE),
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
        "edit": Verb(request.Edit, f"{__name__}.verbs:edit", plan=PLAN, endings=LOSSLESS, **LIMITS),
        "train": Verb(request.TrainEditor, f"{__name__}.verbs:train_editor", **TRAIN),
        "evaluate": Verb(request.EvaluateEditor, f"{__name__}.evaluate:evaluate", maps=True, **LIMITS, **EVALUATE),
        "export": Verb(Export, f"{__name__}.export:export_editor", **EXPORT),
    },
    load=f"{__name__}.editor:Editor.load",
    command="edit",
    modules={"torch": f"{TORCH}, edit --runtime torch"} | MODULES,
    tasks=("editing",),
    makes=f"{__name__}:makes",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)

CASCADE = System(
    name="cascade",
    help="Pictures of single objects by kind, a small one from noise made larger in stages.",
    verbs={
        "generate": Verb(
            cascade_request.Generate, f"{__name__}.cascade_verbs:generate", endings=(".png",), **CASCADES
        ),
        "train": Verb(cascade_request.Train, f"{__name__}.cascade_verbs:train", **TRAIN),
        "evaluate": Verb(cascade_request.Evaluate, f"{__name__}.cascade_evaluate:evaluate", **CASCADES, **EVALUATE),
        "export": Verb(Export, f"{__name__}.export:export_cascade", **EXPORT),
    },
    load=f"{__name__}.cascade:Cascade.load",
    modules={"torch": f"{TORCH}, generate --runtime torch"} | MODULES,
    tasks=("cascade",),
    makes=f"{__name__}:makes_by_kind",
    recipe_of="inkwash.systems.pictures.formats:recorded",
)

SYSTEMS = (UPSCALING, EDITING, CASCADE)


def makes(facts: dict[str, Any]) -> str:
    how = "by diffusion" if facts["engine"] == "diffusion" else "without diffusion"
    if "factor" in facts:
        return f"pictures {facts['factor']} times larger, {how}"
    return f"edited photographs ({', '.join(facts['tasks'])}), {how}"


def makes_by_kind(facts: dict[str, Any]) -> str:
    if "stages" not in facts:
        return "one stage of a cascade, which draws nothing alone"
    return f"pictures of {', '.join(facts['classes'])}, {facts['stages'][-1]['size']} pixels wide"
