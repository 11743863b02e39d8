"""Coordinates as atoms of a structure: O is placed by geometry, and a motif keeps its own atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inkwash.systems.protein.chains import BACKBONE, Chain

C_O, CA_C_O = 1.231, np.deg2rad(120.4)  # Engh & Huber 1991
LAST_O = np.deg2rad(-40.0)  # the dihedral angle N-CA-C-O of the last residue: psi = 140 degrees


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
