"""Sequences for backbones, as files that structure predictors read."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, Result, seeded
from inkwash.systems.protein import mpnn
from inkwash.systems.protein.chains import bonded
from inkwash.systems.protein.files import read_chains, structure_files
from inkwash.systems.protein.geometry import Array
from inkwash.systems.protein.request_design import Design
from inkwash.weights.files import atomic

COLUMNS = ("name", "backbone", "sequence", "score", "length", "motif_residues", "weights", "temperature", "seed")


class Backbone(NamedTuple):
    """chain: (L, 3, 3) angstrom, N, CA, C, or (L, 1, 3), CA alone. motif: (L,), which residues are a motif's.
    sequence: one letter a residue, as the file has them. name: of the file, in letters that FASTA and file systems
    share."""

    name: str
    chain: Array
    motif: Array
    sequence: str


def read_backbones(path: Path, note: Callable[[str], None]) -> list[Backbone]:
    """The backbones of a file, or of a folder's files. A motif has B-factor 1, all other residues 0.

    Raises UserError for several chains in a file, N and C that only some residues have, and files whose names differ
    only by signs that no header of FASTA may have.
    """
    backbones: dict[str, Backbone] = {}
    unmarked = 0
    for file in structure_files(path):
        backbone, marked = read_backbone(file, note)
        if backbone.name in backbones:
            raise UserError(f"{file}: another backbone is called {backbone.name}, too; rename one")
        backbones[backbone.name] = backbone
        unmarked += not marked
    if unmarked:
        note(f"{unmarked} of {len(backbones)} files: B-factors other than 0 and 1 mark no motif, and none is taken")
    return list(backbones.values())


def read_backbone(file: Path, note: Callable[[str], None] | None = None) -> tuple[Backbone, bool]:
    """The backbone of a file, and whether its B-factors are marks, 0 and 1."""
    chains = read_chains(file, note)
    if len(chains) > 1:
        raise UserError(f"{file}: chains {', '.join(chains)}; give a file with one of them")
    (found,) = chains.values()
    missing = np.isnan(found.coordinates).any(2)  # (L, 3); of CA none is
    if missing.any() and not missing[:, [0, 2]].all():
        raise UserError(f"{file}: residue {found.labels[int(missing.any(1).argmax())]} lacks N or C, others do not")
    chain = found.coordinates[:, 1:2] if missing.any() else found.coordinates
    if note and (gaps := np.flatnonzero(~bonded(found))).size:
        note(f"{file.name}: broken after residue {found.labels[gaps[0]]}; it is taken for one chain all the same")
    marked = bool(np.isin(found.b_factors, (0.0, 1.0)).all())
    motif = found.b_factors == 1 if marked else np.zeros(len(chain), bool)
    return Backbone(re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem), chain, motif, found.sequence), marked


def run(requests: list[Design], context: Context) -> Iterator[Result]:
    """The verb `design`."""
    torch.set_num_threads(context.threads or 1)
    for of, request in enumerate(requests):
        request = seeded(request)
        backbones = read_backbones(context.open(request.backbones), lambda text: context.tell(Note(text)))
        rows = []
        for done, backbone in enumerate(backbones):
            rows += design(backbone, request.n, request.seed, request.weights, request.temperature)
            context.tell(Progress(done + 1, len(backbones)))
        files = {".fasta": context.folder / f"design-{of}.fasta", ".csv": context.folder / f"design-{of}.csv"}
        write(rows, files[".fasta"], files[".csv"])
        yield Result(of, 0, files, {"text": in_words(rows, len(backbones)), "rows": rows}, request.facts())


def in_words(rows: Sequence[dict[str, Any]], backbones: int) -> str:
    """What came out, in a sentence; a sure score of mere alanine and glycine is no good sign."""
    text = f"{len(rows)} sequence{'s' * (len(rows) != 1)} for {backbones} backbone{'s' * (backbones != 1)}"
    if poor := sum(mpnn.plain_share(row["sequence"]) > 0.5 for row in rows):
        text += f"; {poor} of them more than half alanine and glycine, what ProteinMPNN writes where nothing fits"
    return text


def design(
    backbone: Backbone, n: int, seed: int, weights: mpnn.Weights | None = None, temperature: float = 0.1
) -> list[dict[str, Any]]:
    """n sequences, number i of seed `seed` + i: rows of COLUMNS. The motif stays. weights: vanilla where there are N,
    CA and C, else ca, if left out.

    Raises UserError, with the backbone's name, for what ProteinMPNN cannot design.
    """
    weights = weights or ("vanilla" if backbone.chain.shape[1] == 3 else "ca")
    letters = zip(backbone.sequence, backbone.motif, strict=True)
    motif = "".join(letter if stays else mpnn.FREE for letter, stays in letters)
    rows = []
    for i in range(n):
        own = (seed + i) % 2**64
        try:
            found = mpnn.design(backbone.chain, own, weights=weights, temperature=temperature, motif=motif)
        except UserError as error:
            raise UserError(f"{backbone.name}: {error}") from None
        values = (
            f"{backbone.name}-{i + 1}", backbone.name, found.sequence, round(found.score, 4), len(found.sequence),
            int(backbone.motif.sum()), weights, temperature, own,
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write(rows: Sequence[dict[str, Any]], fasta: Path, table: Path) -> None:
    """The sequences as FASTA, with names alone in the headers since predictors call their files by them, and all that
    is known of them as CSV."""
    with atomic(fasta) as temporary:
        text = "".join(f">{row['name']}\n{row['sequence']}\n" for row in rows)
        temporary.write_text(text, encoding="ascii")
    write_csv(rows, table)


def write_csv(rows: Sequence[dict[str, Any]], file: Path) -> None:
    with atomic(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
