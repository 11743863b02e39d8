"""Protein structures in and out: PDB and mmCIF, by biotite. What is chosen and left out is said, not passed over."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.protein.chains import Chain, Note, chains_of, listed
from inkwash.systems.protein.recorded import recipe_lines
from inkwash.version import __version__

ENDINGS = (".pdb", ".ent", ".cif", ".mmcif")
PACKED = tuple(ending + ".gz" for ending in ENDINGS)


def structure_files(path: Path) -> list[Path]:
    """The PDB and mmCIF files in a folder and those below it, or the file itself. UserError without any, and for
    packed ones, which would be passed over."""
    from inkwash.weights.files import files_below

    if not path.is_dir():
        return [path]
    files = files_below(path)
    if packed := [file.name for file in files if file.name.lower().endswith(PACKED)]:
        raise UserError(f"{path}: {listed(packed)}: packed by gzip; unpack first (gunzip)")
    found = [file for file in files if file.suffix.lower() in ENDINGS]
    if not found:
        raise UserError(f"{path}: no PDB or mmCIF file in it ({', '.join(ENDINGS)})")
    return found


def read_chains(path: str | Path, note: Note | None = None) -> dict[str, Chain]:
    """The chains of a PDB or mmCIF file, by name, in the file's order; `note` hears what was chosen and left out.

    Raises UserError for a file that is neither, and one without amino acids.
    """
    array = read_atoms(path, note)
    try:
        chains = chains_of(array, lambda text: note and note(f"{Path(path).name}: {text}"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not chains:
        raise UserError(f"{path}: no amino acids in it; a PDB or mmCIF file of a protein is needed")
    return chains


def read_atoms(path: str | Path, note: Note | None = None) -> Any:
    """All atoms of the first model, a biotite AtomArray with b_factor, occupancy and altloc_id.

    Raises UserError for a file that is neither PDB nor mmCIF.
    """
    import biotite.structure.io.pdb as pdb
    import biotite.structure.io.pdbx as pdbx

    path = Path(path)
    mmcif = is_mmcif(path)
    fields = {"altloc": "all", "extra_fields": ["b_factor", "occupancy"]}
    try:
        with warnings.catch_warnings():  # of elements that are guessed
            warnings.simplefilter("ignore")
            if mmcif:
                file: Any = pdbx.CIFFile.read(str(path))
                block = next(iter(file.values()))
                models, blocks = pdbx.get_model_count(block), len(file)
                array = pdbx.get_structure(block, model=1, **fields)
            else:
                file = pdb.PDBFile.read(str(path))
                models, blocks = file.get_model_count(), 1
                array = file.get_structure(model=1, **fields)
    except Exception as error:  # whatever biotite stumbles over
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: no PDB or mmCIF file that can be read ({reason})") from None
    if not np.isfinite(array.coord).all():
        raise UserError(f"{path}: coordinates that are not numbers; mend the file")
    for count, what in ((models, "models"), (blocks, "blocks of data")):
        if count > 1 and note:
            note(f"{path.name}: {count} {what}; the first is taken")
    return array


def is_mmcif(path: Path) -> bool:
    """By its content, since a file's name may say nothing: mmCIF begins with data_."""
    try:
        with path.open("rb") as opened:
            start = opened.read(3)
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if start[:2] == b"\x1f\x8b":
        raise UserError(f"{path}: packed by gzip; unpack it first (gunzip)")
    if start == b"\xef\xbb\xbf":  # its first line, perhaps an atom, would be passed over
        raise UserError(f"{path}: begins with a byte order mark (BOM); save it as UTF-8 without one")
    return first.startswith("data_")


def write(path: Path, atoms: Any, facts: Mapping[str, str] | None = None) -> None:
    """Writes an AtomArray as PDB, or mmCIF for a name that ends with .cif, both as a theoretical model.

    facts: in mmCIF the items of a category of our own, _inkwash.seed and so on; in PDB lines of REMARK 999.

    Raises UserError for places that PDB has no room for.
    """
    import biotite.structure.io.pdb as pdb
    import biotite.structure.io.pdbx as pdbx

    from inkwash.weights.files import atomic

    facts = facts or {}
    if path.suffix == ".cif":
        cif = pdbx.CIFFile()
        pdbx.set_structure(cif, atoms, data_block="model")
        about = {"exptl": {"entry_id": "model", "method": "THEORETICAL MODEL"}}
        about["software"] = {"pdbx_ordinal": "1", "name": "inkwash", "version": __version__}
        for category, items in (about | ({"inkwash": facts} if facts else {})).items():
            cif.block[category] = pdbx.CIFCategory(dict(items))
        with atomic(path) as temporary:
            cif.write(str(temporary))
        return
    if np.abs(atoms.coord).max() >= 1000:
        raise UserError(f"{path.name}: a place 1000 A from the origin is too far for PDB; take --format cif")
    file = pdb.PDBFile()
    file.set_structure(atoms)
    remarks = [f"REMARK 999 {name.upper()} {value}" for name, value in facts.items() if name != "recipe"]
    head = ["EXPDTA    THEORETICAL MODEL", *remarks, *recipe_lines(facts.get("recipe", ""))]
    text = [*head, *map(str.rstrip, file.lines), "END"]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
