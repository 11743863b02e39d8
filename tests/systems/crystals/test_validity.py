"""Validity, by cells of known distances and compositions of known charges."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inkwash.systems.crystals.data import Crystal, to_structure
from inkwash.systems.crystals.validity import (
    composition_is_valid,
    density,
    element_facts,
    shortest_distance,
    structure_is_valid,
    volume,
)

pytest.importorskip("pymatgen")
NA, CL, OXYGEN, C, FE, AU, CU, HE = 11, 17, 8, 6, 26, 79, 29, 2


def cubic(length: float, *places: tuple[float, float, float]) -> Crystal:
    return Crystal(length * np.eye(3), np.array(places, float), np.full(len(places), C))


def test_distances_go_through_the_walls_of_a_cell() -> None:
    assert shortest_distance(cubic(4, (0.05, 0, 0), (0.95, 0, 0))) == pytest.approx(0.4)
    assert not structure_is_valid(cubic(4, (0.05, 0, 0), (0.95, 0, 0)))
    assert structure_is_valid(cubic(4, (0.07, 0, 0), (0.93, 0, 0)))  # 0.56 A
    assert shortest_distance(cubic(4, (0.9, 0.9, 0.9), (0.1, 0.1, 0.1))) == pytest.approx(0.8 * 3**0.5)


def test_an_atom_may_be_too_close_to_its_own_image() -> None:
    thin = Crystal(np.diag([0.4, 5, 5]), np.zeros((1, 3)), np.array([C]))
    assert shortest_distance(thin) == pytest.approx(0.4)
    assert not structure_is_valid(thin)


def test_a_skewed_cell_is_the_same_crystal() -> None:
    straight = cubic(3, (0, 0, 0), (0.5, 0.5, 0.5))
    shear = np.array([[1, 0, 0], [7, 1, 0], [-5, 9, 1]])
    places = straight.coordinates @ np.linalg.inv(shear)
    skewed = straight._replace(lattice=shear @ straight.lattice, coordinates=places)
    assert shortest_distance(skewed) == pytest.approx(1.5 * 3**0.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_shortest_distance_is_the_least_over_many_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = rng.normal(size=(3, 3)) + 3 * np.eye(3)
    assume(np.linalg.det(lattice) > 8)  # in a flat cell, five images are not many
    crystal = Crystal(lattice, rng.random((3, 3)), np.array([C, C, C]))
    shifts = np.array(list(product(range(-4, 5), repeat=3)))
    between = crystal.coordinates[:, None, None] - crystal.coordinates[:, None] + shifts
    distances = np.linalg.norm(between @ lattice, axis=-1)
    assert shortest_distance(crystal) == pytest.approx(distances[distances > 1e-9].min(), rel=1e-6)


def test_no_volume_and_no_numbers_are_no_crystal() -> None:
    assert not structure_is_valid(Crystal(np.diag([5, 5, 0.003]), np.zeros((1, 3)), np.array([C])))
    assert not structure_is_valid(Crystal(np.diag([5, 5, np.nan]), np.zeros((1, 3)), np.array([C])))
    assert not structure_is_valid(Crystal(5 * np.eye(3), np.full((1, 3), np.inf), np.array([C])))
    assert not structure_is_valid(Crystal(5 * np.eye(3), np.zeros((0, 3)), np.array([], int)))


def test_density_and_volume_of_diamond() -> None:
    places = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    diamond = Crystal(3.567 * np.eye(3), np.concatenate([places, places + 0.25]), np.full(8, C))
    assert volume(diamond) == pytest.approx(3.567**3)
    assert density(diamond) == pytest.approx(3.515, abs=0.01)  # as in any table
    assert to_structure(diamond).density == pytest.approx(density(diamond))


@pytest.mark.parametrize(
    ("numbers", "valid"),
    [
        ([NA, CL], True),
        ([NA, CL, CL], False),  # sodium gives one electron
        ([NA] * 4 + [CL] * 4, True),  # a larger cell of the same
        ([FE, FE, OXYGEN, OXYGEN, OXYGEN], True),
        ([56, 22, OXYGEN, OXYGEN, OXYGEN], True),  # BaTiO3
        ([C], True),  # an element by itself
        ([AU, CU], True),  # metals alone
        ([AU, CU, CU, CU], True),
        ([HE, OXYGEN], False),  # helium has no oxidation states
    ],
)
def test_compositions(numbers: list[int], valid: bool) -> None:
    pytest.importorskip("smact")
    assert composition_is_valid(numbers) == valid


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 3, 6, 7, 8, 9, 15, 17, 22, 26, 29, 50]), st.integers(1, 3)), min_size=2,
                max_size=4, unique_by=lambda pair: pair[0]))  # fmt: skip
def test_as_all_combinations_of_oxidation_states_say(atoms: list[tuple[int, int]]) -> None:
    pytest.importorskip("smact")
    from smact import neutral_ratios
    from smact.screening import pauling_test

    facts = [element_facts(z) for z, _ in atoms]
    divisor = np.gcd.reduce([n for _, n in atoms])
    counts = [(n // divisor,) for _, n in atoms]
    electronegativities = [e for _, e, _ in facts]
    expected = all(metal for _, _, metal in facts) or any(
        neutral_ratios(states, stoichs=counts, threshold=3) and pauling_test(states, electronegativities)
        for states in product(*(of for of, _, _ in facts))
    )
    assert composition_is_valid([z for z, n in atoms for _ in range(n)]) == expected
