"""A model that draws from a list, and a judge whose energies are known."""

import numpy as np
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from inkwash.systems.crystals.data import Crystal, from_structure


def perovskite(a="Ba", b="Ti", x="O", length=4.0, shift=0.0) -> Crystal:
    positions = [[shift, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return from_structure(Structure(Lattice.cubic(length), [a, b, x, x, x], positions))


def rocksalt(a="Na", b="Cl", length=5.64) -> Crystal:
    return from_structure(Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [a, b], [[0] * 3, [0.5] * 3]))


class Drawer:
    """Of seed i the i-th of its crystals, over and over."""

    hash, folder = "toy", None

    def __init__(self, *crystals: Crystal) -> None:
        self.crystals, self.calls, self.wanted = crystals, [], {}

    def generate(self, n, seed, *, progress=None, **wanted):
        self.calls.append(n)
        self.wanted = wanted
        if progress is not None:
            progress(1, 2)
            progress(2, 2)
        return [self.crystals[(seed + i) % len(self.crystals)] for i in range(n)]


OVERLAPPING = Crystal(4.0 * np.eye(3), np.array([[0, 0, 0], [0.1, 0, 0]]), np.array([56, 8]))
FLAT = Crystal(np.diag([4.0, 4.0, 0.001]), np.zeros((1, 3)), np.array([56]))
