"""Crystals: cells of atoms that are sound, by composition, prototype or property."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.crystals import request
from inkwash.systems.train import TRAIN, Train

LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "plan": f"{__name__}.limits:plan"}
MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch

SYSTEM = System(
    name="crystals",
    help="Crystals by composition, prototype or property.",
    verbs={
        "generate": Verb(request.Generate, f"{__name__}.verbs:generate", endings=(".cif",), takes=MACHINE, **LIMITS),
        "train": Verb(Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{__name__}.verbs:evaluate", takes=MACHINE, **LIMITS, **EVALUATE),
    },
    load=f"{__name__}.model:CrystalModel.load",
    modules={
        "torch": "",
        "pymatgen": "",
        "spglib": "generate",
        "ase": "generate",
        "smact": "evaluate compositions, generate composition_valid",
        "matminer": "evaluate fingerprints, generate the distance to training",
        "chgnet": "evaluate --relax, generate --relax",
    },
    tasks=("crystals", "predictor"),
    makes=f"{__name__}:makes",
    recipe_of=f"{__name__}.recorded:recorded",
)


def makes(facts: dict[str, Any]) -> str:
    sizes = sorted(map(int, facts["atoms"]))
    atoms = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    return f"crystals of {atoms} atoms; elements known: {len(facts['elements'])}"
