"""Which crystals are the same: matches with references, copies within a set, and what training had already."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from inkwash.systems.crystals.data import Crystal, to_structure
from inkwash.systems.crystals.validity import structure_is_valid

if TYPE_CHECKING:
    from pymatgen.core import Structure

TOLERANCE = {"stol": 0.5, "angle_tol": 10, "ltol": 0.3}  # of a match (Xie et al. 2021, 2110.06197)
SYMMETRY = 0.1  # angstrom by which atoms may be off a symmetry
Key = tuple[Any, ...]


@cache
def matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**TOLERANCE)


def rms_distance(prediction: Crystal, reference: Crystal) -> float | None:
    """The root mean square distance of the atoms of two crystals, brought together as well as they can be, in units
    of (volume / atoms)^(1/3); None where they do not match, or the prediction's atoms overlap."""
    if not structure_is_valid(prediction):
        return None
    try:
        found = matcher().get_rms_dist(to_structure(prediction), to_structure(reference))
    except ValueError:  # no reduced cell is found for one that is very flat
        return None
    return None if found is None else float(found[0])


def metre(predictions: Sequence[Crystal], references: Sequence[Crystal]) -> list[float | None]:
    """The least `rms_distance` of each reference to any of all the predictions, None where none matches: "match
    everyone to reference" (METRe; Martirossyan et al. 2025, 2509.12178).

    Its rate is the share of references that are matched. So a prediction for one reference may serve another, as
    polymorphs of one composition should, and many copies of one crystal count once. Their cRMSE is the mean with
    stol, 0.5, for those without a match; see `corrected_rmse`.
    """
    groups = by_kind(predictions)
    out = []
    for reference in references:
        found = [rms_distance(prediction, reference) for prediction in groups.get(kind_of(reference), [])]
        out.append(min((distance for distance in found if distance is not None), default=None))
    return out


def corrected(distances: Sequence[float | None]) -> list[float]:
    """The distances of `metre`, with the matcher's tolerance, 0.5, for no match: their mean is cRMSE."""
    return [TOLERANCE["stol"] if distance is None else distance for distance in distances]


def by_kind(crystals: Sequence[Crystal]) -> dict[Key, list[Crystal]]:
    """Valid crystals by their compositions."""
    groups: dict[Key, list[Crystal]] = {}
    for crystal in crystals:
        if structure_is_valid(crystal):
            groups.setdefault(kind_of(crystal), []).append(crystal)
    return groups


def kind_of(crystal: Crystal) -> Key:
    """The reduced composition, which two crystals that match have in common."""
    numbers, counts = np.unique(crystal.numbers, return_counts=True)
    return tuple(numbers.tolist()), tuple((counts // np.gcd.reduce(counts)).tolist())


class Seen:
    """Crystals to look others up among. Each is brought to its primitive cell once, which is what takes long."""

    def __init__(self, crystals: Sequence[Crystal] = ()) -> None:
        self.groups: dict[Key, list[Structure]] = {}
        for crystal in crystals:
            self.add(crystal)

    def add(self, crystal: Crystal) -> None:
        key, structure = self.reduced(crystal)
        self.groups.setdefault(key, []).append(structure)

    def __contains__(self, crystal: Crystal) -> bool:
        key, structure = self.reduced(crystal)
        return any(matcher().fit(structure, b, skip_structure_reduction=True) for b in self.groups.get(key, []))

    @staticmethod
    def reduced(crystal: Crystal) -> tuple[Key, Structure]:
        structure = to_structure(crystal)
        # As it is, if it is too flat for a reduced cell to be found.
        with suppress(ValueError):
            structure = structure.get_reduced_structure().get_primitive_structure()
        return (len(structure), *kind_of(crystal)), structure


def unique(crystals: Sequence[Crystal]) -> list[bool]:
    """Of each crystal whether it matches none before it."""
    seen, out = Seen(), []
    for crystal in crystals:
        out.append(crystal not in seen)
        if out[-1]:
            seen.add(crystal)
    return out


def novel(
    crystals: Sequence[Crystal], training: Sequence[Crystal], progress: Callable[[int, int], None] | None = None
) -> list[bool]:
    """Of each crystal whether it matches none of the training data."""
    kinds = {kind_of(crystal) for crystal in crystals}
    seen, out = Seen([crystal for crystal in training if kind_of(crystal) in kinds]), []
    for done, crystal in enumerate(crystals, 1):
        out.append(crystal not in seen)
        if progress is not None:
            progress(done, len(crystals))
    return out


def space_group(crystal: Crystal, tolerance: float = SYMMETRY) -> tuple[str, int]:
    """Symbol and number (1 to 230) of the space group by spglib, to a tolerance in angstrom; P1 without one."""
    import spglib

    cell = (crystal.lattice, crystal.coordinates, crystal.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib's own, of how it will fail in time to come
        found = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    return ("P1", 1) if found is None else (str(found.international), int(found.number))
