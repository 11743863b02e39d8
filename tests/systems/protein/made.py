"""A protein that tests make: a chain with ideal bonds, as the lines of a PDB file."""

import numpy as np

from inkwash.systems.protein.files import read_chains

SEQUENCE = ("ALA", "VAL", "LEU", "SER", "LYS", "GLU", "PHE", "ASN", "THR", "TRP")


def extend(a, b, c, length, angle, dihedral):
    """The point at `length` from c, with the angle b-c-d and the dihedral a-b-c-d, in degrees."""
    angle, dihedral = np.deg2rad((angle, dihedral))
    bc = (c - b) / np.linalg.norm(c - b)
    n = np.cross(b - a, bc)
    n /= np.linalg.norm(n)
    local = length * np.array([-np.cos(angle), np.sin(angle) * np.cos(dihedral), np.sin(angle) * np.sin(dihedral)])
    return c + local @ np.stack([bc, np.cross(n, bc), n])


def backbone(residues, phi=-63.0, psi=-42.0):
    """(L, 3, 3) N, CA, C and (L, 3) O of an ideal helix, or of other dihedral angles: each phi and psi."""
    phi, psi = (np.broadcast_to(angle, residues) for angle in (phi, psi))
    points = [np.zeros(3), np.array([1.458, 0.0, 0.0])]
    points.append(extend(np.array([0.0, 1.0, 0.0]), *points, 1.525, 111.0, 60.0))
    for i in range(1, residues):
        points.append(extend(*points[-3:], 1.329, 116.6, psi[i - 1]))
        points.append(extend(*points[-3:], 1.458, 121.7, 180.0))
        points.append(extend(*points[-3:], 1.525, 111.0, phi[i]))
    atoms = np.array(points).reshape(residues, 3, 3)
    oxygens = [extend(*atoms[i], 1.231, 120.4, psi[i] + 180.0) for i in range(residues)]
    return atoms, np.array(oxygens)


def atom(name, residue, chain, number, place, code=" ", altloc=" ", occupancy=1.0, b=20.0, record="ATOM"):
    """A line of a PDB file."""
    x, y, z = place
    return (
        f"{record:<6}{1:>5}  {name:<3}{altloc}{residue:>3} {chain}{number:>4}{code}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{b:6.2f}          {name[0]:>2}"
    )


def lines(residues, chain="A", first=1, names=SEQUENCE, **changes):
    """The lines of a helix of so many residues: N, CA, C, O of each."""
    atoms, oxygens = backbone(residues)
    return [
        atom(name, names[i % len(names)], chain, first + i, place, **changes)
        for i in range(residues)
        for name, place in zip(("N", "CA", "C", "O"), [*atoms[i], oxygens[i]], strict=True)
    ]


def save(path, text):
    path.write_text("\n".join([*text, "END", ""]))
    return path


def read(path):
    """The chains of a file, and the notes."""
    notes = []
    return read_chains(path, notes.append), notes
