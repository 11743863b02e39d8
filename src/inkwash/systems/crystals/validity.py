"""Whether a crystal can be one at all: atoms that do not overlap, and charges that can balance.

Both as Xie et al. 2021 (CDVAE, 2110.06197) have them, for tables that can be set beside theirs. Most of what passes
is no stable crystal: these tests only find what is none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from math import gcd

import numpy as np

from inkwash.systems.crystals.data import MIN_DISTANCE, MIN_VOLUME, Crystal, closest, to_structure, wrap


def structure_is_valid(crystal: Crystal) -> bool:
    """Whether the cell has a volume of at least 0.1 cubic angstrom and no two atoms are closer than 0.5 A, images of
    an atom itself among them."""
    if not len(crystal.numbers) or not (
        np.isfinite(crystal.lattice).all() and np.isfinite(crystal.coordinates).all()
    ):
        return False
    return volume(crystal) >= MIN_VOLUME and shortest_distance(crystal) > MIN_DISTANCE


def volume(crystal: Crystal) -> float:
    """Of the cell, in cubic angstrom."""
    return float(abs(np.linalg.det(crystal.lattice)))


def density(crystal: Crystal) -> float:
    """In grams per cubic centimetre."""
    return float(to_structure(crystal).density)


def shortest_distance(crystal: Crystal) -> float:
    """Between two atoms or an atom and its own image, in angstrom, in any cell: it need not be reduced."""
    from pymatgen.core import Lattice

    reduced = Lattice(crystal.lattice).get_lll_reduced_lattice().matrix
    coordinates = crystal.coordinates @ crystal.lattice @ np.linalg.inv(reduced)
    return closest(crystal._replace(lattice=reduced, coordinates=wrap(coordinates)))


def composition_is_valid(numbers: Sequence[int] | np.ndarray) -> bool:
    """SMACT's test (Davies et al. 2019) of atomic numbers: some choice of one oxidation state for each element makes
    the whole neutral, with every anion more electronegative than every cation. Crystals of one element pass, and of
    metals alone.

    Oxidation states are the set `smact14`, whatever the default of the installed smact is: with others the same real
    crystals pass in 65 to 98 of 100 cases. An element without any makes the test fail; an electronegativity that is
    not known forbids nothing.
    """
    atoms = {int(z): int(n) for z, n in zip(*np.unique(numbers, return_counts=True), strict=True)}
    metals = [element_facts(z)[2] for z in atoms]
    if len(atoms) == 1 or all(metals):
        return True
    divisor = gcd(*atoms.values())
    known = [(element_facts(z)[1], element_facts(z)[0], n // divisor) for z, n in atoms.items()]
    thresholds = {e for e, _, _ in known if e is not None}
    return any(can_balance(known, threshold) for threshold in thresholds or {0.0})


def can_balance(elements: Collection[tuple[float | None, Sequence[int], int]], threshold: float) -> bool:
    """Whether charges can sum to 0 with anions only among the elements (electronegativity, oxidation states, number
    of atoms) above the threshold, and cations only among the others."""
    sums = {0}
    for electronegativity, states, n in elements:
        if electronegativity is not None:
            states = [q for q in states if q == 0 or (q < 0) == (electronegativity > threshold)]
        sums = {total + n * q for total in sums for q in states}
    return 0 in sums


@cache
def element_facts(number: int) -> tuple[tuple[int, ...], float | None, bool]:
    """(oxidation states in smact14, Pauling's electronegativity, whether it is a metal) of an element."""
    from ase.data import chemical_symbols
    from smact import Element, metals

    symbol = chemical_symbols[number]
    element = Element(symbol)
    return tuple(element.oxidation_states_smact14 or ()), element.pauling_eneg, symbol in metals
