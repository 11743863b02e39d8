"""What a run leaves behind: a structure of each backbone, tables of their figures, and a chart of the filters."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.extras import require
from inkwash.systems.protein.atoms import to_atoms
from inkwash.systems.protein.chirality import helices
from inkwash.systems.protein.contigs import Motif
from inkwash.systems.protein.files import write
from inkwash.systems.protein.geometry import junctions, summary
from inkwash.systems.protein.scaffold import ALIVE, Built
from inkwash.version import __version__
from inkwash.weights.files import atomic

Row = dict[str, Any]
MADE = "made by a diffusion model (inkwash " + __version__ + "); no experiment saw this structure"


def backbone_row(coordinates: np.ndarray, seed: int) -> Row:
    """The figures of a backbone, (L, atoms, 3) in angstrom."""
    right, left = helices(coordinates)
    return (
        {"seed": seed, "length": len(coordinates)} | summary(coordinates) | {"right": int(right), "left": int(left)}
    )


def scaffold_row(built: Built, motif: Motif, seed: int, method: str) -> Row:
    """The figures of a scaffold, and what its filter says: of a method without one only the first."""
    found, mask = built.found, np.isin(np.arange(len(built.coordinates)), built.indices)
    sound = junctions(built.coordinates, mask)
    row = backbone_row(built.coordinates, seed) | {"contig": built.contig, "method": method}
    row |= {"junctions": len(sound), "junctions_sound": int(sound.sum())}
    if len(found.weights) == 1:
        return row
    return row | {
        "particles": len(found.weights),
        "median_ess": round(float(np.median(found.ess)), 2),
        "last_ess": round(float(found.ess[-2]), 2),
        "first_ancestors": found.first_ancestors,
        "alive": found.alive,
    }


def scaffold_facts(built: Built, motif: Motif, row: Row) -> Row:
    """The row, and all that a line has no room for: where each residue of the motif has gone, how many particles
    counted at each step, and what they weighed at the end."""
    found = built.found
    facts = row | {"motif": dict(zip(motif.labels, (built.indices + 1).tolist(), strict=True))}
    if len(found.weights) == 1:
        return facts
    return facts | {
        "verdict": found.verdict() or "the filter lived",
        "ess": np.round(found.ess, 2).tolist(),
        "weights": np.round(found.weights, 6).tolist(),
    }


def write_backbone(file: Path, coordinates: np.ndarray, recipe: Row) -> None:
    """A backbone as a structure, all glycine."""
    write(file, to_atoms(coordinates), about(recipe))


def write_scaffold(file: Path, built: Built, motif: Motif, recipe: Row) -> None:
    """A scaffold as a structure: the motif's residues with their names, side chains and B-factor 1, all others
    glycine with 0; everything where the motif lay in its file."""
    own = dict(zip(built.indices.tolist(), motif.atoms, strict=True))
    if built.coordinates.shape[1] == 1:
        own = {i: atoms[atoms.atom_name == "CA"] for i, atoms in own.items()}
    names = dict(zip(built.indices.tolist(), motif.residues, strict=True))
    residues = [names.get(i, "GLY") for i in range(len(built.coordinates))]
    write(file, to_atoms(built.coordinates, residues, own), about(recipe) | {"contig": built.contig})


def about(recipe: Row) -> dict[str, str]:
    """What a structure's file says of how it was made."""
    return {
        "note": MADE,
        "model": str(recipe["model"]),
        "seed": str(recipe["seed"]),
        "recipe": json.dumps(recipe, sort_keys=True, separators=(",", ":")),
    }


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """A line for each row; numbers to six digits."""
    with atomic(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            for row in rows
        )


def write_json(facts: Any, file: Path) -> None:
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def plot_ess(facts: Sequence[Row], file: Path) -> None:
    """A line for each filter: of how many particles its weights speak, step by step; grey where it died."""
    require("a chart of the filters", "matplotlib")
    from matplotlib.figure import Figure

    count = facts[0]["particles"]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for row in facts:
        color, style = ("#1b3a5c", "-") if row["alive"] else ("0.6", "--")
        axis.plot(np.arange(1, len(row["ess"]) + 1), row["ess"], style, color=color, linewidth=1, alpha=0.7)
    axis.axhline(ALIVE * count, color="#D55E00", linewidth=0.8)
    alive = sum(row["alive"] for row in facts)
    axis.set(xlabel="step", ylabel="effective particles", ylim=(0, 1.03 * count), xlim=(1, len(facts[0]["ess"])))
    axis.set_title(f"{alive} of {len(facts)} filters alive (median above {ALIVE * count:g} of {count})", fontsize=10)
    with atomic(file) as temporary:
        figure.savefig(temporary, dpi=110)
