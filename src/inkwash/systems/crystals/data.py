"""Crystals as arrays: from pymatgen's structures and ASE's atoms and back, and parted for training."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals.elements import SYMBOLS

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core.structure import Structure

MIN_VOLUME = 0.1  # cubic angstrom of a cell; less is no crystal (Xie et al. 2021, 2110.06197)
MIN_DISTANCE = 0.5  # angstrom between two atoms, by the same
IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))  # the cells around one; enough in a Niggli-reduced lattice


class Crystal(NamedTuple):
    """One cell of a crystal.

    lattice      (3, 3), rows are a, b, c in angstrom: Niggli-reduced, right-handed, c along z and a in the xz plane
    coordinates  (N, 3), fractional, in [0, 1)
    numbers      (N,), atomic numbers
    properties   numbers that are known of it, by the names of their columns
    name         as its source calls it
    """

    lattice: np.ndarray
    coordinates: np.ndarray
    numbers: np.ndarray
    properties: dict[str, float] = {}  # noqa: RUF012
    name: str = ""


def from_structure(structure: Structure, properties: dict[str, float] | None = None, name: str = "") -> Crystal:
    """The crystal of a pymatgen Structure: its cell Niggli-reduced, then turned as its six parameters say it.

    UserError for partial occupancy, sites that are no element, a cell without volume, and atoms closer than 0.5 A.
    """
    from pymatgen.core.lattice import Lattice

    if not len(structure):
        raise UserError("no atoms in it")
    if not structure.is_ordered:
        site = next(site for site in structure if not site.is_ordered)
        raise UserError(f"partial occupancy ({site.species_string}); order it first, one element for each site")
    numbers = np.array([getattr(site.specie, "Z", 0) for site in structure])
    if len(foreign := np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))):
        raise UserError(f"'{structure[int(foreign[0])].specie.symbol}' is no element")
    if not np.isfinite(structure.lattice.matrix).all() or not np.isfinite(structure.frac_coords).all():
        raise UserError("a number in it is not finite")
    if structure.volume < MIN_VOLUME:
        raise UserError(
            f"its cell has a volume of {structure.volume:.3g} cubic angstrom; at least {MIN_VOLUME} is needed"
        )
    try:
        reduced = structure.get_reduced_structure()
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        raise UserError("no Niggli-reduced cell is found for its lattice") from None
    lattice = Lattice.from_parameters(*reduced.lattice.parameters).matrix.copy()  # pymatgen's own cannot be written
    crystal = Crystal(lattice, wrap(reduced.frac_coords), numbers, properties or {}, name)
    if (distance := closest(crystal)) < MIN_DISTANCE:
        raise UserError(f"two of its atoms are {distance:.2f} A apart; at least {MIN_DISTANCE} A is needed")
    return crystal


def to_structure(crystal: Crystal) -> Structure:
    """The crystal as a pymatgen Structure, its properties beside."""
    from pymatgen.core.structure import Structure

    return Structure(
        crystal.lattice, crystal.numbers.tolist(), crystal.coordinates, properties=dict(crystal.properties)
    )


def from_atoms(atoms: Atoms, properties: dict[str, float] | None = None, name: str = "") -> Crystal:
    """The crystal of ASE Atoms. UserError for atoms without a cell, and as `from_structure`."""
    from pymatgen.core.structure import Structure

    if atoms.cell.rank != 3:
        raise UserError("it has no cell of three directions, as a crystal has")
    if not atoms.pbc.all():
        raise UserError(f"periodic in {sum(atoms.pbc)} of three directions: no crystal")
    if not atoms.numbers.all():
        raise UserError("'X' is no element")
    structure = Structure(atoms.cell.array, atoms.numbers.tolist(), atoms.positions, coords_are_cartesian=True)
    return from_structure(structure, properties, name)


def to_atoms(crystal: Crystal) -> Atoms:
    """The crystal as ASE Atoms, its properties in `info`."""
    from ase import Atoms

    return Atoms(
        numbers=crystal.numbers,
        scaled_positions=crystal.coordinates,
        cell=crystal.lattice,
        pbc=True,
        info=dict(crystal.properties),
    )


def wrap(coordinates: np.ndarray) -> np.ndarray:
    """Fractional coordinates in [0, 1): also those that are rounded up to 1 from just below 0."""
    wrapped = np.asarray(coordinates, float) % 1.0
    return np.where(wrapped == 1.0, 0.0, wrapped)


def closest(crystal: Crystal) -> float:
    """The shortest distance, in angstrom, between two atoms or between an atom and its own images."""
    differences = crystal.coordinates[:, None] - crystal.coordinates
    images = differences - np.round(differences) + IMAGES[:, None, None]
    distances = np.linalg.norm(images @ crystal.lattice, axis=-1)
    itself = (IMAGES == 0).all(1)[:, None, None] & np.eye(len(crystal.numbers), dtype=bool)
    return float(distances[~itself].min())


def split(crystals: Sequence[Crystal], seed: int = 0) -> tuple[list[Crystal], list[Crystal], list[Crystal]]:
    """(training, validation, test): seven tenths to learn from, a tenth for choices, and a fifth for the table.

    By a hash of the place of each in the list, so the same everywhere. Every crystal is in one of the three.
    """
    order = sorted(range(len(crystals)), key=lambda i: sha256(f"{seed} {i}".encode()).digest())
    validation, test = round(0.1 * len(order)), round(0.2 * len(order))
    train = len(order) - validation - test
    parts = order[:train], order[train : train + validation], order[train + validation :]
    a, b, c = ([crystals[i] for i in sorted(part)] for part in parts)
    return a, b, c
