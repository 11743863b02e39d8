"""Matches, copies and symmetries, by crystals that are the same and crystals that are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.crystals.data import Crystal, from_structure, to_structure
from inkwash.systems.crystals.matching import (
    Seen,
    corrected,
    kind_of,
    matcher,
    metre,
    novel,
    rms_distance,
    space_group,
    unique,
)

pytest.importorskip("pymatgen")
FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


def rocksalt(length: float = 5.6, a: int = 11, b: int = 17) -> Crystal:
    return Crystal(length * FCC, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([a, b]))


def zincblende(length: float = 5.6) -> Crystal:
    return rocksalt(length)._replace(coordinates=np.array([[0, 0, 0], [0.25, 0.25, 0.25]]))


def caesium_chloride(length: float = 3.4) -> Crystal:
    return rocksalt()._replace(lattice=length * np.eye(3))


def test_distance_of_a_displaced_atom() -> None:
    """Two atoms apart by d beyond their place: each is moved by half of it, and that is the root mean square."""
    moved = rocksalt()
    shift = 0.1 * np.linalg.inv(moved.lattice)[0]  # 0.1 A along x
    moved = moved._replace(coordinates=moved.coordinates + np.array([np.zeros(3), shift]))
    normalised = 0.05 / (5.6**3 / 4 / 2) ** (1 / 3)
    assert rms_distance(moved, rocksalt()) == pytest.approx(normalised, rel=1e-3)


def test_a_prediction_that_is_no_crystal_matches_nothing() -> None:
    collapsed = rocksalt()._replace(coordinates=np.zeros((2, 3)))
    assert rms_distance(collapsed, collapsed) is None
    assert rms_distance(rocksalt(), rocksalt(a=19)) is None  # other elements
    assert rms_distance(caesium_chloride(), rocksalt()) is None
    assert metre([collapsed], [rocksalt()]) == [None]


def test_metre_counts_references_not_copies() -> None:
    references = [rocksalt(), caesium_chloride(), rocksalt(a=19)]
    assert [d is not None for d in metre([rocksalt(5.7)] * 3, references)] == [True, False, False]
    every = metre([rocksalt(a=19), rocksalt(), caesium_chloride(), rocksalt(a=3)], references)
    assert every == pytest.approx([0, 0, 0], abs=1e-6)
    assert corrected([0.1, None]) == [0.1, 0.5]


def test_metre_takes_the_nearest() -> None:
    far = rocksalt()._replace(coordinates=np.array([[0, 0, 0], [0.52, 0.5, 0.5]]))
    assert metre([far, rocksalt(), far], [rocksalt()])[0] == pytest.approx(0, abs=1e-6)


def test_unique_and_novel() -> None:
    crystals = [rocksalt(), caesium_chloride(), rocksalt(5.9), rocksalt(a=19), caesium_chloride()]
    assert unique(crystals) == [True, True, False, True, False]
    assert novel(crystals, [caesium_chloride(3.5), rocksalt(a=3)]) == [True, False, True, True, False]
    assert novel([rocksalt()], []) == [True]


def test_a_larger_cell_is_the_same_crystal() -> None:
    doubled = from_structure(to_structure(rocksalt()) * (2, 1, 1))
    assert len(doubled.numbers) == 4 and kind_of(doubled) == kind_of(rocksalt())
    assert doubled in Seen([rocksalt()])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_seen_says_what_the_matcher_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = Crystal(3 * np.eye(3) + rng.normal(size=(3, 3)) / 2, rng.random((4, 3)), np.array([6, 6, 8, 8]))
    other = base._replace(coordinates=base.coordinates + rng.choice([0.02, 0.2]) * rng.normal(size=(4, 3)))
    a, b = to_structure(base), to_structure(other)
    assert (other in Seen([base])) == matcher().fit(b, a)


def test_space_groups() -> None:
    assert space_group(rocksalt()) == ("Fm-3m", 225)
    assert space_group(caesium_chloride())[1] == 221
    assert space_group(zincblende())[1] == 216
    bent = rocksalt()._replace(lattice=rocksalt().lattice + np.array([[0.5, 0, 0], [0, 0, 0.3], [0, 0, 0]]))
    assert space_group(bent)[1] == 2  # two kinds of atoms at centres of inversion
    nearly = rocksalt()._replace(coordinates=np.array([[0, 0, 0], [0.505, 0.5, 0.5]]))
    assert space_group(nearly)[1] == 225 and space_group(nearly, 1e-3)[1] < 225
