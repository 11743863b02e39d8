"""Which file is a prediction of which design, by the names that structure predictors give.

ESMFold, OmegaFold   NAME.pdb
ColabFold            NAME_unrelaxed_rank_001_alphafold2_ptm_model_1_seed_000.pdb, and relaxed ones
AlphaFold 2          NAME/ranked_0.pdb
AlphaFold server     fold_name_model_0.cif
AlphaFold 3          name_model.cif, and its samples name_seed-1_sample-0_model.cif or seed-1_sample-0/model.cif
Boltz                NAME_model_0.cif
Chai                 NAME/pred.model_idx_0.cif

NAME is a design's, BACKBONE-NUMBER. AlphaFold's programs write it in small letters, and the server all signs as "_",
so names are compared like that where none is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from inkwash.errors import UserError
from inkwash.systems.protein.chains import listed

EXACT = re.compile(r"(?P<backbone>.+)-(?P<number>\d+)")
NAMED = re.compile(  # of plain names, see `plain`
    r"(?:fold_)?(?P<backbone>.+?)_(?P<number>\d+)(?:_(?P<kind>unrelaxed|relaxed)_rank_(?P<rank>\d+)_.*"
    r"|_model(?:_(?P<model>\d+))?|(?P<sample>_seed_\d+_sample_\d+_model))?"
)
NAMELESS = re.compile(r"(?:ranked_|pred\.model_idx_)(?P<model>\d+)|model")  # the name is a folder's


class Order(NamedTuple):
    """Which of a design's predictions is taken: the least."""

    rank: int
    relaxed: bool
    file: Path


def predictions(
    files: Sequence[Path], names: Iterable[str], note: Callable[[str], None]
) -> dict[tuple[str, int], Path]:
    """One file for each design, (backbone, number): the predictor's first, as predicted rather than relaxed.

    Raises UserError where no file is a prediction.
    """
    names = set(names)
    known: dict[str, str] = {}
    for name in names:
        known[plain(name)] = "" if plain(name) in known else name  # "" of two that are one without signs
    found: dict[tuple[str, int], list[Order]] = {}
    strange = []
    for file in files:
        of = named(file.stem, names, known) or in_folder(file, names, known)
        if of is None:
            strange.append(file.name)
            continue
        backbone, number, rank, relaxed = of
        found.setdefault((backbone, number), []).append(Order(rank, relaxed, file))
    if not found:
        raise UserError(
            f"{listed(strange)}: none is a prediction of these backbones; their names begin with {min(names)}-1"
        )
    if strange:
        note(f"left out, as no design's names: {listed(strange)}")
    if more := sum(map(len, found.values())) - len(found):
        note(f"left out: {more} more files of the same designs, of lower rank, relaxed, or there twice")
    return {design: min(orders).file for design, orders in found.items()}


def plain(name: str) -> str:
    """In small letters, all signs as "_"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def named(stem: str, names: set[str], known: dict[str, str]) -> tuple[str, int, int, bool] | None:
    """The backbone, the number, the rank and whether it is relaxed, of a file or a folder that is called so."""
    if (exact := EXACT.fullmatch(stem)) and exact["backbone"] in names:
        return exact["backbone"], int(exact["number"]), 0, False
    match = NAMED.fullmatch(plain(stem))
    backbone = known.get(match["backbone"], "") if match else ""
    if match is None or not backbone:
        return None
    rank = int(match["rank"] or match["model"] or bool(match["sample"]))
    return backbone, int(match["number"]), rank, match["kind"] == "relaxed"


def in_folder(file: Path, names: set[str], known: dict[str, str]) -> tuple[str, int, int, bool] | None:
    """The same of a file without a name of its own, by the folder that it lies in, or that of its sample."""
    match = NAMELESS.fullmatch(file.stem)
    for depth, folder in enumerate(file.parents[:2] if match else ()):
        if match and (of := named(folder.name, names, known)):
            return of[0], of[1], int(match["model"] or 0) + depth, False
    return None
