import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.systems.crystals.lattice import from_log_metric, heights, log_metric, matrix, parameters

numbers = st.lists(st.floats(-3, 3), min_size=6, max_size=6)


def test_a_hexagonal_cell_has_the_lengths_and_angles_it_is_made_of():
    cell = torch.tensor([[2.0, 0, 0], [-1.0, math.sqrt(3), 0], [0, 0, 5.0]], dtype=torch.float64)
    assert parameters(cell).tolist() == pytest.approx([2, 2, 5, 90, 90, 120])
    assert heights(cell).tolist() == pytest.approx([math.sqrt(3), math.sqrt(3), 5])


def test_the_orientation_is_that_of_pymatgen():
    lattices = pytest.importorskip("pymatgen.core.lattice")
    sides = [3.1, 4.2, 5.3, 71.0, 82.0, 113.0]
    theirs = lattices.Lattice.from_parameters(*sides).matrix
    assert np.allclose(matrix(torch.tensor(sides, dtype=torch.float64)), theirs)


def test_the_log_metric_of_a_cube_is_twice_the_logarithm_of_its_side():
    assert log_metric(4 * torch.eye(3)).tolist() == pytest.approx([2 * math.log(4)] * 3 + [0] * 3, abs=1e-6)


@given(numbers)
def test_any_six_numbers_are_a_right_handed_cell_and_come_back(values):
    logarithm = torch.tensor(values, dtype=torch.float64)
    cell = from_log_metric(logarithm)
    volume = math.exp(sum(values[:3]) / 2)  # det exp(S) = exp(trace S)
    assert torch.linalg.det(cell).item() == pytest.approx(volume, rel=1e-3)
    assert log_metric(cell).tolist() == pytest.approx(values, abs=1e-3)


@given(st.lists(st.floats(2, 12), min_size=3, max_size=3), st.lists(st.floats(62, 118), min_size=3, max_size=3))
def test_a_cell_comes_back_to_the_last_digits(lengths, angles):
    cell = matrix(torch.tensor(lengths + angles, dtype=torch.float64))
    if torch.linalg.det(cell) > 0.1:
        assert torch.allclose(from_log_metric(log_metric(cell)), cell, atol=1e-8)


def test_a_turned_cell_has_the_same_log_metric():
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    cell = matrix(torch.tensor([3.0, 4, 5, 80, 95, 110], dtype=torch.float64))
    assert torch.allclose(log_metric(cell @ turn), log_metric(cell))
