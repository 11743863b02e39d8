"""Crystals are the same crystal whatever describes them."""

import numpy as np
import pytest

from inkwash.systems.crystals.data import Crystal, closest, split, wrap

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
    assert split(crystals, 1)[2] != parts[2]
