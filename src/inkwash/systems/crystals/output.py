"""What is written of crystals: CIFs, an extxyz, a table. All are written of the same arrays, so that they agree."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from inkwash.systems.crystals.data import Crystal, to_atoms, to_structure
from inkwash.systems.crystals.generation import Sample
from inkwash.systems.crystals.matching import matcher, space_group
from inkwash.systems.crystals.recorded import KEY, in_frame
from inkwash.systems.crystals.relaxation import quiet
from inkwash.systems.crystals.validity import density, structure_is_valid, volume

Row = dict[str, Any]


def describe(sample: Sample, symprec: float) -> Row:
    """The line of a crystal in the table: of the relaxed one, if it was relaxed. docs/crystals.md has the columns."""
    crystal = sample.final
    symbol, number = space_group(crystal, symprec)
    row: Row = {
        "seed": sample.seed,
        "formula": formula(crystal),
        "atoms": len(crystal.numbers),
        "space_group": symbol,
        "space_group_number": number,
        "structure_valid": structure_is_valid(crystal),
        "volume_per_atom": volume(crystal) / len(crystal.numbers),
        "density": density(crystal),
    }
    if (relaxed := sample.relaxed) is not None:
        row |= {
            "relaxed_energy_per_atom": relaxed.energy,
            "energy_drop_per_atom": relaxed.drop,
            "largest_force_before": relaxed.force,
            "rmsd_to_relaxed": relaxed.rmsd,
            "volume_change": relaxed.volume,
            "converged": relaxed.converged,
        }
    return {key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}


def rounded(value: float | None) -> float | None:
    """A figure as tables have it: to a millionth, None where it is none."""
    return None if value is None or not isfinite(value) else round(float(value), 6)


def formula(crystal: Crystal) -> str:
    """Of all atoms of the cell, electronegative ones last: Ba2Ti2O6."""
    with quiet():  # pymatgen warns of noble gases, which have no electronegativity
        return re.sub(r"(?<=[a-zA-Z])1(?!\d)| ", "", to_structure(crystal).composition.formula)


def write_cif(file: Path, crystal: Crystal, comment: str) -> None:
    """The crystal without symmetry (P 1), every atom of its cell; the comment is its first line."""
    from pymatgen.io.cif import CifWriter

    with quiet():
        text = str(CifWriter(to_structure(crystal), significant_figures=8))
    save(file, text, comment)


def write_symmetrised(file: Path, crystal: Crystal, symprec: float, comment: str) -> bool:
    """The conventional cell that spglib makes of the crystal within a tolerance in angstrom, with its symmetry.

    False, and nothing is written, where it finds none, or what it makes no longer matches the crystal.
    """
    from pymatgen.io.cif import CifParser, CifWriter

    structure = to_structure(crystal)
    with quiet():
        try:
            # by default pymatgen takes angles for equal that differ by 5 degrees, whatever the tolerance
            text = str(CifWriter(structure, symprec=symprec, angle_tolerance=-1, significant_figures=8))
            (written,) = CifParser.from_str(text).parse_structures(primitive=False)
        except Exception:  # whatever spglib and pymatgen stumble over: the P 1 file has the crystal
            return False
    if written.composition.reduced_formula != structure.composition.reduced_formula or not matcher().fit(
        written, structure
    ):
        return False
    save(
        file,
        text,
        f"{comment}\n# conventional cell, symmetry within {symprec:g} angstrom: atoms may have moved so far",
    )
    return True


def save(file: Path, cif: str, comment: str) -> None:
    """A CIF with another first line than pymatgen's own."""
    file.write_text(f"{comment}\n{cif.partition(chr(10))[2]}", encoding="utf-8")


def write_extxyz(file: Path, crystals: Sequence[Crystal], rows: Sequence[Row], recipe: dict[str, Any]) -> None:
    """A frame for each crystal, its line of the table beside it, and what makes all of them anew."""
    from ase.io import write

    frames = []
    for crystal, row in zip(crystals, rows, strict=True):
        atoms = to_atoms(crystal._replace(properties={}))
        atoms.info = {key: value for key, value in row.items() if value is not None} | {KEY: in_frame(recipe)}
        frames.append(atoms)
    write(file, frames, format="extxyz")


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """CSV; a figure that is not known is an empty cell."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
