"""What can be asked of models of backbones."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen

from inkwash.systems.base import File, Help, Media, Request, idle

FILTERS = ("smcdiff", "tds")  # methods of many particles
PARTICLES, STEPS = 64, 100

Count = Annotated[int, Ge(1), Le(1000), Help("How many.")]
Seed = Annotated[int | None, Ge(0), Le(2**64 - 1), Help("The same seed makes the same backbone; random if left out.")]
Format = Annotated[Literal["pdb", "cif"], Help("Of the files: PDB or mmCIF.")]
ModelName = Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")]


@dataclass(frozen=True, kw_only=True)
class Scaffold(Request):
    """Build backbones around a motif: residues of a file whose shape stays as it is. Each one comes from a filter of
    its own, and what the filter says of itself is told.

    The contig says which residues, and how many new ones before, between and after them:
    inkwash protein scaffold motif.pdb --contig "10-30/A163-181/10-30" --length 50-75 --n 20 -o out/
    """

    motif: Annotated[
        File,
        Media("chemical/x-pdb,chemical/x-cif,.pdb,.ent,.cif,.mmcif"),
        Help("A PDB or mmCIF file.", argument=True),
    ]
    contig: Annotated[
        str | None,
        MaxLen(2000),
        Help("As RFdiffusion's: 10-30/A163-181/10-30, both ends included; of the file's REMARK 999 if left out."),
    ] = None
    length: Annotated[
        str | None, MaxLen(20), Help("Residues in all, 64, or 50-75; as the contig says if left out.")
    ] = None
    n: Count = 1
    method: Annotated[
        Literal["smcdiff", "tds", "replacement", "fixed"],
        Help("smcdiff and tds are exact for many particles; the others are quick, biased, and here to compare with."),
    ] = "smcdiff"
    particles: Annotated[
        int | None,
        Ge(1),
        Le(4096),
        Help(f"Of each filter; {PARTICLES} if left out. More take longer, and fit better."),
    ] = None
    steps: Annotated[int, Ge(2), Le(10_000), Help("Calls of the network; more take longer.")] = STEPS
    seed: Seed = None
    format: Format = "pdb"
    model: ModelName = "backbone"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in FILTERS:
            idle(self, ("particles",), f"with the method {self.method}, which has none")

    def count(self) -> int:
        """Of the particles."""
        return self.particles or PARTICLES if self.method in FILTERS else 1

    def basename(self) -> str:
        return f"{PurePath(self.motif.name).stem}-scaffold"


@dataclass(frozen=True, kw_only=True)
class Sample(Request):
    """Make backbones out of nothing."""

    length: Annotated[str, MaxLen(20), Help("Residues: 64, or 50-75 for any number between.")] = "64"
    n: Count = 1
    steps: Annotated[
        int | None, Ge(1), Le(10_000), Help("Calls of the network; the model's own number if left out.")
    ] = None
    seed: Seed = None
    format: Format = "pdb"
    model: ModelName = "backbone"

    def basename(self) -> str:
        return "backbone"
