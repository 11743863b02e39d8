"""Fingerprints of crystals and how well one set of them covers another (Xie et al. 2021, CDVAE, 2110.06197)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.extras import require
from inkwash.systems.crystals.cache import cached
from inkwash.systems.crystals.data import Crystal, to_structure

FILE = "fingerprints.jsonl"
CUTOFFS = (0.2, 4.0)  # of structures and compositions, the paper's for Perov-5 and Carbon-24


class Fingerprints(NamedTuple):
    """Of n crystals; NaN where a crystal has none, as with atoms that have no neighbours.

    structure    (n, 61), CrystalNN's order parameters (preset "ops"), the mean over atoms (Zimmermann & Jain 2020)
    composition  (n, 132), Magpie's statistics of elements (Ward et al. 2016), as they are: not standardised
    """

    structure: np.ndarray
    composition: np.ndarray


def fingerprints(
    crystals: Sequence[Crystal], folder: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Fingerprints:
    """The fingerprints of crystals. That of a structure takes 0.1 s of a small one, and is kept in the folder if one
    is given. UserError without matminer."""
    require("a fingerprint of a crystal", "matminer")
    file = None if folder is None else folder / FILE
    found = cached(crystals, structure_fingerprint, file, "the mean of CrystalNN ops over atoms", progress)
    structures = [[np.nan] * 61 if each is None else each for each in found]
    return Fingerprints(np.reshape(structures, (-1, 61)), composition_fingerprints(crystals))


def structure_fingerprint(crystal: Crystal) -> list[float] | None:
    """61 numbers; None where an atom has none, as one without neighbours."""
    structure = to_structure(crystal)
    site, _ = featurizers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that atoms have no oxidation states: nobody knows them
        try:
            atoms = [site.featurize(structure, i) for i in range(len(structure))]
        except (ValueError, ArithmeticError, IndexError, RuntimeError):
            return None
    mean: list[float] = np.asarray(atoms, float).mean(0).round(6).tolist()
    return mean if np.isfinite(mean).all() else None


def composition_fingerprints(crystals: Sequence[Crystal]) -> np.ndarray:
    """(n, 132), with 0 for what Magpie does not know of an element."""
    from pymatgen.core import Composition, Element

    _, featurizer = featurizers()
    known: dict[bytes, list[float]] = {}
    for crystal in crystals:
        key = np.sort(crystal.numbers).tobytes()
        if key not in known:
            elements, counts = np.unique(crystal.numbers, return_counts=True)
            of = {Element.from_Z(int(z)): int(n) for z, n in zip(elements, counts, strict=True)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of elements with gaps
                known[key] = featurizer.featurize(Composition(of))
    rows = [known[np.sort(crystal.numbers).tobytes()] for crystal in crystals]
    return np.nan_to_num(np.reshape(np.array(rows, float), (-1, 132)))


@cache
def featurizers() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.composition import ElementProperty
        from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

        return CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")


def standardise(of: Fingerprints, training: np.ndarray) -> Fingerprints:
    """With compositions less the mean of the training data's (m, 132), in units of their standard deviation. (The
    paper has fixed constants for that, of other data: so a distance here is not quite one of theirs.) A feature that
    is the same in all the training data, but for rounding, counts as it is."""
    mean, spread = training.mean(0), training.std(0)
    return of._replace(composition=(of.composition - mean) / np.where(spread > 1e-6, spread, 1.0))


def coverage(
    reference: Fingerprints, generated: Fingerprints, cutoffs: tuple[float, float] = CUTOFFS
) -> tuple[np.ndarray, np.ndarray]:
    """(of each reference whether it is covered, of each generated crystal whether it covers one). Means of these are
    COV-R and COV-P. Covered: the nearest structure of the others lies within the first cutoff, and the nearest
    composition within the second, each by itself, as in the paper's own code. Without a fingerprint: never. The more
    crystals there are on the other side, the more are covered: compare sets of one size, by one reference.
    """
    sets = zip(reference, generated, cutoffs, strict=True)
    structure, composition = (distances(a, b) <= cutoff for a, b, cutoff in sets)  # NaN is not near
    recall, precision = (np.asarray(structure.any(axis) & composition.any(axis)) for axis in (1, 0))
    return recall, precision


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean, (n, m) of (n, d) and (m, d)."""
    from scipy.spatial.distance import cdist

    out: np.ndarray = cdist(a, b)
    return out
