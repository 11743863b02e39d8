"""Fingerprints and coverage, by sets whose coverage is known."""

from pathlib import Path

import numpy as np
import pytest

from inkwash.systems.crystals import fingerprints as module
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.fingerprints import (
    Fingerprints,
    composition_fingerprints,
    coverage,
    fingerprints,
    standardise,
)


def points(*places: tuple[float, float]) -> Fingerprints:
    return Fingerprints(np.array([[x] for x, _ in places]), np.array([[y] for _, y in places]))


def test_a_permuted_copy_covers_everything() -> None:
    of = points((0, 0), (1, 9), (2, 5))
    recall, precision = coverage(of, points((2, 5), (0, 0), (1, 9)))
    assert recall.all() and precision.all()


def test_coverage_by_hand() -> None:
    """Structures within 0.2 and compositions within 4, each of the nearest by itself, as the paper's code has it."""
    reference = points((0, 0), (1, 10), (5, 0))
    generated = points((0.1, 20), (1.15, 13), (9, 0), (0.05, 3))
    recall, precision = coverage(reference, generated)
    # the first by the structure of the first and the composition of the third; the third has no structure near
    assert recall.tolist() == [True, True, False]
    assert precision.tolist() == [False, True, False, True]
    assert coverage(reference, generated, (10, 100))[1].all()


def test_without_a_fingerprint_nothing_is_covered() -> None:
    recall, precision = coverage(points((0, 0), (np.nan, 1)), points((0, 0), (np.nan, 1)))
    assert recall.tolist() == precision.tolist() == [True, False]


def test_compositions_are_standardised_by_the_training_data() -> None:
    training = np.array([[1.0, 7.0], [3.0, 7.0]])
    of = standardise(Fingerprints(np.zeros((1, 1)), np.array([[5.0, 8.0]])), training)
    assert of.composition.tolist() == [[3.0, 1.0]]  # (5 - 2) / 1; a constant feature keeps its unit
    rounded = np.array([[1.0, 0.1 + 0.2], [3.0, 0.3]])
    assert standardise(Fingerprints(np.zeros((1, 1)), rounded[:1]), rounded).composition[0, 1] == pytest.approx(0)
    assert standardise(Fingerprints(np.zeros((2, 1)), training), training).composition.mean(0).tolist() == [0, 0]


def rocksalt(a: int, b: int, length: float = 5.6) -> Crystal:
    lattice = length / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(lattice, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([a, b]))


def test_the_structure_of_rocksalt_is_octahedral(tmp_path: Path) -> None:
    pytest.importorskip("matminer")
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    found = fingerprints([rocksalt(11, 17), rocksalt(12, 8, 4.2), rocksalt(17, 11)], tmp_path)
    names = CrystalNNFingerprint.from_preset("ops").feature_labels()
    octahedral = found.structure[:, names.index("octahedral CN_6")]
    assert octahedral == pytest.approx(1, abs=0.01)
    # magpie's first numbers: the least, the largest, the range and the mean of atomic numbers
    assert found.composition[0, :4].tolist() == [11, 17, 6, 14]
    assert found.composition[2].tolist() == found.composition[0].tolist()
    again = fingerprints([rocksalt(11, 17)], tmp_path)
    assert again.structure[0].tolist() == found.structure[0].tolist()
    assert composition_fingerprints([rocksalt(11, 17)] * 2).shape == (2, 132)


def test_what_has_no_fingerprint_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matminer")

    class Broken:
        def featurize(self, *_: object) -> list[float]:
            raise ValueError("no neighbours are found")

    magpie = module.featurizers()[1]
    monkeypatch.setattr(module, "featurizers", lambda: (Broken(), magpie))
    found = fingerprints([rocksalt(11, 17)])
    assert np.isnan(found.structure).all() and np.isfinite(found.composition).all()
