"""The chemistry of backbones that coordinates show: bonds, angles, clashes, size, contacts, secondary structure.

A chain is an array of angstroms: (L, 3, 3), the N, CA and C of each residue, or (L, 1, 3), CA alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inkwash.systems.protein.data import BREAK as BREAK
from inkwash.systems.protein.data import radius_of_gyration

Array = np.ndarray[Any, Any]

SOUND = (3.7, 3.9)  # angstrom between successive CA across a trans peptide bond, 3.8 ideally
CLASH = (3.5, 4.0)  # angstrom between CA three or more residues apart: a strict bound, and the usual one
APART = 3  # residues: nearer ones are held together by bonds and angles
CONTACT = 8.0  # angstrom between CA, of the contact order


def alpha_carbons(chain: Array) -> Array:
    """(L, 3): the CA of each residue."""
    return np.asarray(chain[:, chain.shape[1] // 2], np.float64)


def distances(points: Array) -> Array:
    """(L - 1,), from each point to the next one."""
    return np.asarray(np.linalg.norm(np.diff(points, axis=0), axis=-1))


def angles(points: Array) -> Array:
    """(L - 2,), degrees at each inner point."""
    before, after = points[:-2] - points[1:-1], points[2:] - points[1:-1]
    normal = np.linalg.norm(np.cross(before, after), axis=-1)
    return np.asarray(np.degrees(np.arctan2(normal, (before * after).sum(-1))))


def dihedrals(points: Array) -> Array:
    """(L - 3,), signed degrees about each inner bond, IUPAC's sign: a right-handed helix of CA has about +50."""
    bonds = np.diff(points, axis=0)
    normals = np.cross(bonds[:-1], bonds[1:])
    axes = bonds[1:-1] / np.linalg.norm(bonds[1:-1], axis=-1, keepdims=True)
    sine = (np.cross(normals[:-1], normals[1:]) * axes).sum(-1)
    return np.asarray(np.degrees(np.arctan2(sine, (normals[:-1] * normals[1:]).sum(-1))))


def pair_distances(chain: Array, apart: int = APART) -> Array:
    """Between the CA of all pairs of residues, at least so many apart in sequence."""
    ca = alpha_carbons(chain)
    i, j = np.triu_indices(len(ca), apart)
    return np.asarray(np.linalg.norm(ca[i] - ca[j], axis=-1))


def backbone(chain: Array) -> dict[str, Array]:
    """Of a chain (L, 3, 3): lengths in angstroms of the bonds N-CA, CA-C and C-N, the last to the next residue, the
    angle N-CA-C, and the dihedrals phi, psi and omega of L - 1 residues each, in degrees."""
    atoms = np.asarray(chain, np.float64).reshape(-1, 3)
    bonds, torsions = distances(atoms), dihedrals(atoms)
    return {
        "N-CA": bonds[0::3], "CA-C": bonds[1::3], "C-N": bonds[2::3], "N-CA-C": angles(atoms)[0::3],
        "psi": torsions[0::3], "omega": torsions[1::3], "phi": torsions[2::3],
    }  # fmt: skip


def radius_ratio(chain: Array) -> float:
    """The radius of gyration of the CA over that of a folded chain of this length."""
    return radius_of_gyration(alpha_carbons(chain)) / expected_radius(len(chain))


def expected_radius(length: float) -> float:
    """2.2 N^0.38 angstroms, of a folded chain of N residues (Skolnick et al. 1997)."""
    return float(2.2 * length**0.38)


def contact_order(chain: Array) -> float:
    """The mean distance in sequence of residues in contact, CA within 8 angstroms and 3 or more residues apart, as a
    share of the length (Plaxco et al. 1998); 0 without any."""
    ca = alpha_carbons(chain)
    i, j = np.triu_indices(len(ca), APART)
    near = np.linalg.norm(ca[i] - ca[j], axis=-1) < CONTACT
    return float((j - i)[near].mean() / len(ca)) if near.any() else 0.0


def secondary_structure(chain: Array) -> str:
    """A letter for each residue by P-SEA (Labesse et al. 1997), from CA alone: a helix, b strand, c neither.

    It labels mirror images alike: a left-handed helix is "a" too. `chirality` tells them apart.
    """
    from biotite.structure import AtomArray, annotate_sse

    ca = alpha_carbons(chain)
    atoms = AtomArray(len(ca))
    atoms.coord = ca.astype(np.float32)
    atoms.res_id, atoms.atom_name[:], atoms.res_name[:] = np.arange(1, len(ca) + 1), "CA", "ALA"
    return "".join(annotate_sse(atoms))


def within(values: Array, low: float, high: float) -> Array:
    """Whether each number is in the range, its ends included."""
    return np.asarray((values >= low) & (values <= high))


def is_sound(chain: Array) -> bool:
    """Whether no bond between residues is broken and none of their CA clash, by the strict bound."""
    return bool((distances(alpha_carbons(chain)) < BREAK).all() and (pair_distances(chain) >= CLASH[0]).all())


def junctions(chain: Array, motif: Array) -> Array:
    """Of a motif's mask (L,): whether each bond between a residue of the motif and one of the scaffold is sound, 3.7
    to 3.9 angstroms from CA to CA."""
    ends = np.flatnonzero(np.diff(np.asarray(motif, np.int64)))
    return within(distances(alpha_carbons(chain))[ends], *SOUND)


def summary(chain: Array) -> dict[str, float]:
    """One chain's figures, for a line of a table."""
    bonds, pairs = distances(alpha_carbons(chain)), pair_distances(chain)
    structure = secondary_structure(chain)
    return {
        "bonds_sound": float(within(bonds, *SOUND).mean()),
        "breaks": float((bonds > BREAK).sum()),
        "clashes": float((pairs < CLASH[1]).sum()),
        "radius_of_gyration": radius_of_gyration(alpha_carbons(chain)),
        "radius_ratio": radius_ratio(chain),
        "contact_order": contact_order(chain),
        "helix": structure.count("a") / len(chain),
        "strand": structure.count("b") / len(chain),
    }
