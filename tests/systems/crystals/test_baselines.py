"""Crystals that take no learning."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.crystals.baselines import random_crystals, substitute
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.validity import volume

SITES = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def perovskite(length: float, a: int, b: int, x: int) -> Crystal:
    return Crystal(length * np.eye(3), SITES, np.array([a, b, x, x, x]))


TRAINING = [perovskite(4, 56, 22, 8), perovskite(4.3, 38, 40, 7), perovskite(3.7, 20, 26, 9)]


def test_random_elements_keep_the_sites() -> None:
    found = random_crystals(TRAINING, 200)
    elements = {int(z) for crystal in TRAINING for z in crystal.numbers}
    for crystal in found:
        assert (crystal.coordinates == SITES).all()
        assert len(set(crystal.numbers[2:])) == 1 and len(set(crystal.numbers.tolist())) == 3
        assert round(volume(crystal) ** (1 / 3), 6) in (4, 4.3, 3.7)
    assert {int(z) for crystal in found for z in crystal.numbers} == elements
    assert not np.array_equal(random_crystals(TRAINING, 5, 1)[0].numbers, found[0].numbers)


def test_one_element_gets_random_places_and_volumes_of_cells_of_its_size() -> None:
    small = Crystal(3 * np.eye(3), SITES[:2], np.array([6, 6]))
    large = Crystal(5 * np.eye(3), SITES, np.full(5, 6))
    for crystal in random_crystals([small, large], 50):
        assert round(volume(crystal) ** (1 / 3), 6) == {2: 3, 5: 5}[len(crystal.numbers)]
        assert not (crystal.coordinates == SITES[: len(crystal.numbers)]).all()


@settings(max_examples=30, deadline=None)
@given(st.permutations([12, 14, 16, 16, 16]), st.integers(0, 1000))
def test_substitution_has_the_composition_that_is_wanted(numbers: list[int], seed: int) -> None:
    for crystal in substitute(np.array(numbers), TRAINING, 4, np.random.default_rng(seed)):
        assert sorted(crystal.numbers) == sorted(numbers)
        assert set(crystal.numbers[2:]) == {16}


def test_nothing_to_substitute_into() -> None:
    assert substitute(np.array([12, 12, 16]), TRAINING, 4, np.random.default_rng(0)) == []
