"""Crystals are the same crystal whatever describes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core.structure import Structure
from scipy.spatial.transform import Rotation

from inkwash.errors import UserError
from inkwash.systems.crystals.data import (
    Crystal,
    closest,
    from_atoms,
    from_structure,
    split,
    to_atoms,
    to_structure,
    wrap,
)

CUBE = Crystal(4.0 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([55, 17]))


def test_the_closest_atoms_are_found_through_a_wall_and_among_own_images():
    assert closest(CUBE) == pytest.approx(np.sqrt(12))
    assert closest(CUBE._replace(coordinates=np.array([[0.05, 0, 0], [0.95, 0, 0]]))) == pytest.approx(0.4)
    assert closest(Crystal(np.diag([2.0, 5, 5]), np.zeros((1, 3)), np.array([6]))) == pytest.approx(2.0)


def test_coordinates_just_below_zero_stay_within_the_cell():
    assert (wrap(np.array([-1e-20, 1.0, -0.25])) == [0, 0, 0.75]).all()


def test_the_parts_of_a_split_are_all_of_it_once_and_stay_when_it_is_read_again():
    crystals = [CUBE._replace(name=str(i)) for i in range(23)]
    parts = split(crystals)
    assert list(map(len, parts)) == [16, 2, 5]
    assert sorted(int(crystal.name) for part in parts for crystal in part) == list(range(23))
    assert [[c.name for c in part] for part in split(list(crystals))] == [[c.name for c in part] for part in parts]
    assert [c.name for c in split(crystals, 1)[2]] != [c.name for c in parts[2]]


# low symmetry, and of one hand: its mirror image is another crystal
QUARTZ_LIKE = Structure(
    [[4.1, 0.2, 0.1], [0.9, 5.0, 0.3], [0.4, 0.8, 6.2]],
    ["Si", "Si", "O", "O", "O"],
    [[0.1, 0.2, 0.3], [0.6, 0.7, 0.55], [0.35, 0.1, 0.8], [0.85, 0.4, 0.1], [0.3, 0.75, 0.05]],
)
UNIMODULAR = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-2, 2)), max_size=4)


def described_otherwise(structure, seed, shears):
    """The same crystal: turned, in another cell, its atoms permuted, shifted by whole cells and all together."""
    rng = np.random.default_rng(seed)
    change = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None]  # left-handed in half of all cases
    for i, j, k in shears:
        change[i] += k * change[j] if i != j else 0
    matrix = change @ structure.lattice.matrix @ Rotation.random(random_state=seed).as_matrix()
    coordinates = structure.frac_coords @ np.linalg.inv(change) + rng.integers(-3, 4, (5, 3)) + rng.uniform(size=3)
    order = rng.permutation(5)
    return Structure(matrix, [structure[i].specie for i in order], coordinates[order])


def hands(crystal):
    """The sorted signed volumes of what surrounds each silicon: they change sign in a mirror."""
    structure, found = to_structure(crystal), []
    for site in structure:
        near = sorted(structure.get_neighbors(site, 4.5), key=lambda each: each.nn_distance)[:3]
        found.append(np.linalg.det([each.coords - site.coords for each in near]))
    return sorted(found)


@settings(max_examples=40)
@given(st.integers(0, 2**31), UNIMODULAR)
def test_any_description_of_a_crystal_is_the_same_crystal(seed, shears):
    original = from_structure(QUARTZ_LIKE)
    other = from_structure(described_otherwise(QUARTZ_LIKE, seed, shears))
    assert np.linalg.det(other.lattice) > 0
    np.testing.assert_allclose(other.lattice, original.lattice, atol=1e-6)
    assert (other.coordinates >= 0).all() and (other.coordinates < 1).all()
    same = StructureMatcher(1e-4, 1e-4, 1e-2, primitive_cell=False, scale=False)
    assert same.fit(to_structure(original), to_structure(other))
    np.testing.assert_allclose(hands(other), hands(original), atol=1e-5)


def test_a_mirror_image_is_another_crystal():
    mirrored = Structure(QUARTZ_LIKE.lattice.matrix * [1, 1, -1], QUARTZ_LIKE.species, QUARTZ_LIKE.frac_coords)
    original = from_structure(QUARTZ_LIKE)
    opposite = sorted(-hand for hand in hands(original))
    np.testing.assert_allclose(hands(from_structure(mirrored)), opposite, atol=1e-5)
    assert np.abs(np.subtract(hands(original), opposite)).max() > 0.1


def test_the_cell_stands_as_pymatgen_and_the_papers_code_have_it():
    reduced = QUARTZ_LIKE.get_reduced_structure()
    crystal = from_structure(QUARTZ_LIKE)
    np.testing.assert_allclose(to_structure(crystal).lattice.parameters, reduced.lattice.parameters)
    a, _, c = crystal.lattice
    assert c[0] == c[1] == 0 and abs(a[1]) < 1e-12
    np.testing.assert_allclose(wrap(reduced.frac_coords), crystal.coordinates, atol=1e-9)


def test_atoms_of_ase_and_structures_come_back_as_they_were():
    crystal = from_structure(QUARTZ_LIKE, {"gap": 1.5})
    for back in (from_atoms(to_atoms(crystal), {"gap": 1.5}), from_structure(to_structure(crystal), {"gap": 1.5})):
        np.testing.assert_allclose(back.lattice, crystal.lattice, atol=1e-9)
        np.testing.assert_allclose(back.coordinates, crystal.coordinates, atol=1e-9)
        assert (back.numbers == crystal.numbers).all() and back.properties == crystal.properties
    assert to_atoms(crystal).info == {"gap": 1.5} == to_structure(crystal).properties


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (Structure(np.diag([4, 4, 1e-3]), ["O"], [[0] * 3]), "volume of 0.016"),
        (Structure(np.eye(3) * 4, ["O", "O"], [[0.01, 0, 0], [0.99, 0, 0]]), "0.08 A apart"),
        (Structure(np.diag([0.4, 4, 4]), ["O"], [[0] * 3]), "0.40 A apart"),
        (Structure(np.eye(3) * 4, [{"O": 0.5, "S": 0.5}], [[0] * 3]), "partial occupancy"),
        (Structure(np.eye(3) * 4, ["X"], [[0] * 3]), "'X' is no element"),
        (Structure(np.eye(3) * 4, ["O"], [[np.nan] * 3]), "not finite"),
        (Structure(np.eye(3) * 4, [], []), "no atoms"),
    ],
)
def test_what_is_no_crystal_is_refused(structure, words):
    with pytest.raises(UserError, match=words):
        from_structure(structure)
