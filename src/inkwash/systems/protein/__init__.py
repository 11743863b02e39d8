"""Proteins: backbones, and scaffolds around a motif."""

from typing import Any

from inkwash.systems.base import System, Verb
from inkwash.systems.protein import request
from inkwash.systems.train import TRAIN, Train

MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch
MADE: dict[str, Any] = {
    "plan": f"{__name__}.limits:plan", "limits": f"{__name__}.limits:limits", "endings": (".pdb", ".cif"),
    "takes": MACHINE,
}  # fmt: skip

SYSTEM = System(
    name="protein",
    help="Protein backbones, and scaffolds around a motif.",
    verbs={
        "scaffold": Verb(request.Scaffold, f"{__name__}.verbs:scaffold", **MADE),
        "sample": Verb(request.Sample, f"{__name__}.verbs:sample", **MADE),
        "train": Verb(Train, f"{__name__}.verbs:train", **TRAIN),
    },
    load=f"{__name__}.model:BackboneModel.load",
    modules={"torch": "", "biotite": "", "matplotlib": "scaffold"},
    tasks=("backbone",),
    makes=f"{__name__}:makes",
)


def makes(facts: dict[str, Any]) -> str:
    atoms = "N, CA and C" if facts["atoms"] == 3 else "CA"
    return f"backbones ({atoms}) of {facts['shortest']} to {facts['max_length']} residues"
