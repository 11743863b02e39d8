"""Protein structures in and out: PDB and mmCIF, by biotite.

Of a file its first model is read, of a residue's alternate places the one with the highest occupancy, and of the rest
what is a chain of amino acids; modified residues keep their atoms and get the letter of their parent. What is left
out is said, never passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError

ENDINGS = (".pdb", ".ent", ".cif", ".mmcif")
PACKED = tuple(ending + ".gz" for ending in ENDINGS)
BACKBONE = ("N", "CA", "C")
PEPTIDE_BOND = 2.0  # angstrom: C-N is 1.33, and what is farther is no bond
CA_BREAK = 4.2  # angstrom: CA-CA is 3.8
C_O, CA_C_O = 1.231, np.deg2rad(120.4)  # Engh & Huber 1991
LAST_O = np.deg2rad(-40.0)  # the dihedral angle N-CA-C-O of the last residue: psi = 140 degrees
Note = Callable[[str], None]


class Chain(NamedTuple):
    """A chain of L residues.

    name        as in the file
    labels      "163", with its insertion code "52A"
    residues    three letters; of modified ones the parent's
    coordinates (L, 3, 3) angstrom: N, CA, C; NaN where the file has none
    b_factors   (L,) of CA
    atoms       of each residue all its heavy atoms, biotite AtomArrays
    """

    name: str
    labels: tuple[str, ...]
    residues: tuple[str, ...]
    coordinates: np.ndarray
    b_factors: np.ndarray
    atoms: tuple[Any, ...]

    @property
    def sequence(self) -> str:
        """One letter a residue."""
        return "".join(map(one_letter, self.residues))


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


def chains_of(array: Any, note: Note | None = None) -> dict[str, Chain]:
    """The chains of a biotite AtomArray; see `read_chains`."""
    from biotite.structure.info import amino_acid_names

    said = note or (lambda text: None)
    array = _one_place(array, said)
    array = array[~np.isin(array.element, ("H", "D"))]
    amino = np.isin(array.res_name, amino_acid_names())
    chains = {}
    for name in dict.fromkeys(array.chain_id[amino].tolist()):
        residues = _linked(_residues(array[amino & (array.chain_id == name)]))
        if residues:
            chains[name] = _chain(name, residues, said)
    kept = {(name, label) for name, chain in chains.items() for label in chain.labels}
    rest = [r for r in _residues(array) if (r.chain_id[0], label_of(r)) not in kept and r.res_name[0] != "HOH"]
    if rest:
        names = ", ".join(sorted({str(r.res_name[0]) for r in rest}))
        said(f"left out: {names} (no part of a chain of amino acids)")
    return chains


def _chain(name: str, residues: Sequence[Any], said: Note) -> Chain:
    coordinates = np.full((len(residues), len(BACKBONE), 3), np.nan)
    for i, residue in enumerate(residues):
        for j, atom in enumerate(BACKBONE):
            found = residue.coord[residue.atom_name == atom]
            if len(found) > 1:
                raise UserError(f"{name}{label_of(residue)} is there {len(found)} times: number its residues apart")
            if len(found):
                coordinates[i, j] = found[0]
    labels, names = tuple(map(label_of, residues)), [str(r.res_name[0]) for r in residues]
    parents = [parent(residue) for residue in names]
    changed = dict.fromkeys((old, new) for old, new in zip(names, parents, strict=True) if old != new)
    if changed:
        said(f"chain {name}: " + ", ".join(f"{old} is read as {new}" for old, new in changed))
    b = np.array([r.b_factor[r.atom_name == "CA"][0] if hasattr(r, "b_factor") else 0.0 for r in residues])
    return Chain(name, labels, tuple(parents), coordinates, b, tuple(residues))


def label_of(residue: Any) -> str:
    """ "163", or with its insertion code "52A"."""
    return f"{residue.res_id[0]}{residue.ins_code[0]}".strip()


def _residues(array: Any) -> Iterable[Any]:
    """One AtomArray a residue."""
    return [array[rows] for rows in _rows_of_residues(array)]


def _rows_of_residues(array: Any) -> Iterable[list[int]]:
    """The atoms of each residue, those of the same chain, number and insertion code, wherever they stand."""
    rows: dict[Any, list[int]] = {}
    for i, key in enumerate(zip(array.chain_id, array.res_id, array.ins_code, strict=True)):
        rows.setdefault(key, []).append(i)
    return rows.values()


def _one_place(array: Any, said: Note) -> Any:
    """Of each residue with alternate places those atoms of the highest occupancy; they may be of another residue."""
    if "altloc_id" not in array.get_annotation_categories():
        return array
    places, several = np.char.strip(array.altloc_id.astype("U4"), " .?"), list[str]()
    keep = np.ones(len(array), bool)
    for rows in _rows_of_residues(array):
        letters = [letter for letter in dict.fromkeys(places[rows].tolist()) if letter]
        if len(letters) > 1:
            full = {letter: array.occupancy[rows][places[rows] == letter].mean() for letter in letters}
            keep[rows] = np.isin(places[rows], ("", max(letters, key=full.__getitem__)))
            several.append(f"{array.chain_id[rows[0]]}{label_of(array[rows])}")
    if several:
        said(f"{listed(several)}: of alternate places the one of the highest occupancy is taken")
    return array[keep]


def _linked(residues: Iterable[Any]) -> list[Any]:
    """Those with a CA that are no free ligands: a HETATM counts if a peptide bond links it to a neighbour."""
    residues = [residue for residue in residues if "CA" in residue.atom_name]
    bonded = [bool(_near(a, "C", b, "N")) for a, b in pairwise(residues)]
    return [
        residue
        for residue, before, after in zip(residues, [False, *bonded], [*bonded, False], strict=True)
        if before or after or not residue.hetero[0]
    ]


def _near(a: Any, first: str, b: Any, second: str) -> bool:
    ends = a.coord[a.atom_name == first], b.coord[b.atom_name == second]
    return all(map(len, ends)) and float(np.linalg.norm(ends[0][0] - ends[1][0])) < PEPTIDE_BOND


def bonded(chain: Chain) -> np.ndarray:
    """(L - 1,): whether each residue is bound to the next, by C-N, or by CA-CA where the file has only those."""
    carbon, nitrogen = chain.coordinates[:-1, 2], chain.coordinates[1:, 0]
    peptide = np.linalg.norm(carbon - nitrogen, axis=1)
    alpha = np.linalg.norm(np.diff(chain.coordinates[:, 1], axis=0), axis=1)
    return np.asarray(np.where(np.isnan(peptide), alpha < CA_BREAK, peptide < PEPTIDE_BOND))


def parent(residue: str) -> str:
    """The standard amino acid that a residue is made of: MET of MSE; UNK where it has none."""
    from biotite.sequence import ProteinSequence

    letter = one_letter(residue)
    return "UNK" if letter == "X" else ProteinSequence.convert_letter_1to3(letter)


def one_letter(residue: str) -> str:
    """M of MET and of MSE; X of what is no amino acid that a sequence has a letter for."""
    from biotite.structure.info import one_letter_code

    letter = one_letter_code(residue) or "X"
    return letter if letter in "ACDEFGHIKLMNPQRSTVWY" else "X"


def listed(names: Sequence[str], most: int = 6) -> str:
    """ "A1, A2, A3 and 12 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def place_oxygens(coordinates: np.ndarray) -> np.ndarray:
    """(L, 3) places of O for N, CA, C (L, 3, 3): in the plane of CA, C and the next N, 1.231 A from C at 120.4
    degrees to CA, away from N; of the last residue by psi = 140 degrees."""
    n, ca, c = np.moveaxis(coordinates, 1, 0)
    u = _unit(ca - c)
    away = np.empty_like(u)
    away[:-1] = _across(c[:-1] - n[1:], u[:-1])
    trans = _across(ca[-1:] - n[-1:], u[-1:])  # of a dihedral angle of 180 degrees
    away[-1:] = -np.cos(LAST_O) * trans + np.sin(LAST_O) * np.cross(u[-1:], trans)
    return np.asarray(c + C_O * (np.cos(CA_C_O) * u + np.sin(CA_C_O) * away))


def _across(v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The direction of v perpendicular to the unit vectors u."""
    return _unit(v - (v * u).sum(-1, keepdims=True) * u)


def _unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))


def to_atoms(
    coordinates: np.ndarray, residues: Sequence[str] | None = None, own: dict[int, Any] | None = None
) -> Any:
    """Chain A of a biotite AtomArray, residues from 1 on, with occupancy 1.

    coordinates: (L, 3, 3) of N, CA, C, to which O is added, or (L, 1, 3) of CA alone, in angstrom. residues: three
    letters each; all GLY if left out. own: {index: AtomArray}, the atoms that a residue of a motif keeps, which have
    B-factor 1 where all others have 0.
    """
    from biotite.structure import Atom, array

    names = ("CA",) if coordinates.shape[1] == 1 else (*BACKBONE, "O")
    places = coordinates if len(names) == 1 else np.concatenate([coordinates, place_oxygens(coordinates)[:, None]], 1)
    atoms = []
    for i in range(len(coordinates)):
        facts = {"chain_id": "A", "res_id": i + 1, "occupancy": 1.0, "b_factor": float(i in (own or {}))}
        facts["res_name"] = residues[i] if residues else "GLY"
        mine = own[i] if own and i in own else ()
        there = {atom.atom_name for atom in mine}
        atoms += [Atom(atom.coord, atom_name=atom.atom_name, element=atom.element, **facts) for atom in mine]
        atoms += [
            Atom(place, atom_name=name, element=name[0], **facts)
            for name, place in zip(names, places[i], strict=True)
            if name not in there
        ]
    return array(atoms)


def own_atoms(chain: Chain, i: int) -> Any:
    """The atoms that residue i keeps within another chain: not the OXT of a chain's end; of a modified residue, which
    is called by its parent's name, only the backbone."""
    residue = chain.atoms[i]
    modified = residue.res_name != chain.residues[i]
    return residue[(residue.atom_name != "OXT") & (~modified | np.isin(residue.atom_name, (*BACKBONE, "O")))]


def write(path: Path, atoms: Any, remarks: Sequence[str] = ()) -> None:
    """Writes an AtomArray as PDB, or mmCIF for a name that ends with .cif; remarks (REMARK 999) only into PDB.

    Raises UserError for places that PDB has no room for.
    """
    import biotite.structure.io.pdb as pdb
    import biotite.structure.io.pdbx as pdbx

    from inkwash.weights.files import atomic

    if path.suffix == ".cif":
        cif = pdbx.CIFFile()
        pdbx.set_structure(cif, atoms, data_block="model")
        with atomic(path) as temporary:
            cif.write(str(temporary))
        return
    if np.abs(atoms.coord).max() >= 1000:
        raise UserError(f"{path.name}: a place 1000 A from the origin is too far for PDB; take --format cif")
    file = pdb.PDBFile()
    file.set_structure(atoms)
    head = ["EXPDTA    THEORETICAL MODEL", *(f"REMARK 999 {line}" for line in remarks)]
    text = [*head, *map(str.rstrip, file.lines), "END"]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
