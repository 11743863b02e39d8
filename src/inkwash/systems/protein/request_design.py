"""What can be asked of the judges: sequences for backbones, scores of predictions, and how good a model is."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from inkwash.systems.base import File, Help, Media, Request


@dataclass(frozen=True, kw_only=True)
class Design(Request):
    """Write sequences for backbones by ProteinMPNN, as a FASTA file for ColabFold, ESMFold or OmegaFold to fold.

    Residues of a motif, whose B-factor is 1 where that of all others is 0, stay as they are.
    """

    backbones: Annotated[
        File | tuple[File, ...], Media("folder"), Help("A PDB or mmCIF file, or a folder of them.", argument=True)
    ]
    n: Annotated[int, Ge(1), Le(1000), Help("Sequences for each backbone.")] = 8
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed makes the same sequences; random if left out.")
    ] = None
    temperature: Annotated[float, Ge(1e-6), Le(10), Help("Below 1 likely residues come more often.")] = 0.1
    weights: Annotated[
        Literal["ca", "vanilla", "soluble"] | None,
        Help("ca reads CA alone; vanilla, the default where there are N, CA and C, and soluble read those."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Score(Request):
    """Compare what a structure predictor made of designed sequences with the backbones that they are for."""

    predicted: Annotated[
        File | tuple[File, ...], Media("folder"), Help("The predictor's PDB or mmCIF files: a folder.")
    ]
    designs: Annotated[
        File | tuple[File, ...], Media("folder"), Help("The backbones that the sequences are for: a folder.")
    ]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure backbones of a model beside native ones: handedness, geometry, size, what ProteinMPNN thinks, diversity
    and novelty; or, of motifs, how its filters fare."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "backbone"
    data: Annotated[
        File | tuple[File, ...] | None,
        Media("folder"),
        Help("The chains that the model was trained on: an .npz, or a folder of PDB and mmCIF files."),
    ] = None
    samples: Annotated[int | None, Ge(2), Le(10_000), Help("Backbones in all; 100 if left out.")] = None
    length: Annotated[
        tuple[int, ...], Ge(1), Le(1000), Help("Residues; again for more. 50, 64, 80 and 100 if left out.")
    ] = ()
    targets: Annotated[
        File | tuple[File, ...] | None,
        Media("folder"),
        Help("Motifs to build scaffolds around, instead: PDB files with the headers of Genie2's."),
    ] = None
    filters: Annotated[int | None, Ge(1), Le(100), Help("Of each target; 4 if left out.")] = None
    particles: Annotated[int | None, Ge(2), Le(1000), Help("Of each filter; 64 if left out.")] = None
    method: Annotated[
        Literal["smcdiff", "tds", "replacement", "fixed"] | None, Help("Of scaffolding; smcdiff if left out.")
    ] = None
    seed: Annotated[int, Ge(0), Le(2**64 - 1), Help("Of the backbones.")] = 0
    steps: Annotated[
        int | None, Ge(1), Le(10_000), Help("Of each backbone; the model's own, or 100 of a scaffold, if left out.")
    ] = None
