"""Proteins: backbones, and scaffolds around a motif."""

from inkwash.systems.base import System

SYSTEM = System(
    name="protein",
    help="Protein backbones, and scaffolds around a motif.",
    verbs={},
    load=f"{__name__}.model:BackboneModel.load",
    modules={"torch": "", "biotite": ""},
    tasks=("backbone",),
)
