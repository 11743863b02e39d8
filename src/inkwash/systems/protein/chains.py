"""The chains of a structure, from its atoms.

Of a residue's alternate places the one with the highest occupancy is taken, and of the rest what is a chain of amino
acids; modified residues keep their atoms and get the letter of their parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError

BACKBONE = ("N", "CA", "C")
PEPTIDE_BOND = 2.0  # angstrom: C-N is 1.33, and what is farther is no bond
CA_BREAK = 4.2  # angstrom: CA-CA is 3.8
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
