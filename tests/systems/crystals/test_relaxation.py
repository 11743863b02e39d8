"""Relaxation, by potentials whose minima are known, and energies of formation by numbers that are known."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.relaxation import (
    ElementReference,
    Judge,
    chgnet,
    cross_validate,
    displacement,
    energies,
    fit_elements,
    relax,
    relax_all,
)

pytest.importorskip("ase")
FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
CU, AU, HE = 29, 79, 2


def copper(length: float, numbers: tuple[int, ...] = (CU,)) -> Crystal:
    return Crystal(length * FCC, np.zeros((1, 3)), np.array(numbers))


@pytest.fixture
def emt() -> Judge:
    from ase.calculators.emt import EMT

    return Judge(EMT(), "emt")


def test_copper_relaxes_to_its_lattice_constant(emt: Judge) -> None:
    from scipy.optimize import minimize_scalar

    def of(length: float) -> float:
        return float(energies([copper(length)], emt)[0])

    best = minimize_scalar(of, bounds=(3.4, 3.9), method="bounded")
    relaxed = relax(copper(3.75), emt, fmax=0.001)
    assert relaxed is not None and relaxed.converged
    assert relaxed.energy == pytest.approx(best.fun, abs=1e-5)
    assert relaxed.drop == pytest.approx(of(3.75) - best.fun, abs=1e-5)
    assert 1 + relaxed.volume == pytest.approx((best.x / 3.75) ** 3, rel=1e-3)
    assert relaxed.force == pytest.approx(0, abs=1e-6) and relaxed.rmsd == pytest.approx(0, abs=1e-6)
    assert relaxed.crystal.lattice[0] @ relaxed.crystal.lattice[0] == pytest.approx(best.x**2 / 2, rel=1e-3)


def test_an_atom_off_its_place_moves_back(emt: Judge) -> None:
    """Half of the displacement each, for a shift of the whole does not count."""
    body = Crystal(2.98 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([CU, AU]))
    off = body._replace(coordinates=body.coordinates + np.array([[0, 0, 0], [0.04, 0, 0]]))
    relaxed = relax(off, emt, fmax=0.005)
    assert relaxed is not None and relaxed.converged and relaxed.force > 0.05
    length = relaxed.crystal.lattice[0, 0]
    assert relaxed.rmsd == pytest.approx(0.04 * length / 2, rel=0.1)
    assert (relaxed.crystal.numbers == off.numbers).all()


def test_too_few_steps_have_not_converged(emt: Judge) -> None:
    relaxed = relax(copper(4.2), emt, steps=2)
    assert relaxed is not None and not relaxed.converged and relaxed.steps == 2


def test_a_judge_that_fails_says_nothing(emt: Judge, tmp_path: Path) -> None:
    assert relax(copper(3.6, (HE,)), emt) is None  # EMT knows seven metals
    found = relax_all([copper(3.6), copper(3.6, (HE,)), copper(3.6)], emt, tmp_path)
    assert [each is None for each in found] == [False, True, False]
    assert np.isnan(energies([copper(3.6), copper(3.6, (HE,))], emt)).tolist() == [False, True]


def test_what_is_cached_is_what_was_found(emt: Judge, tmp_path: Path) -> None:
    (first,) = relax_all([copper(3.75)], emt, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["relaxed-emt.jsonl"]
    (again,) = relax_all([copper(3.75)], Judge(None, "emt"), tmp_path)  # nobody is asked
    assert first is not None and again is not None
    assert again[1:] == first[1:]
    assert again.crystal.lattice == pytest.approx(first.crystal.lattice, abs=1e-7)
    relax_all([copper(3.7)], Judge(emt.calculator), tmp_path)  # a judge without a name leaves nothing
    assert len((tmp_path / "relaxed-emt.jsonl").read_text().splitlines()) == 2


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_displacement_does_not_see_a_shift_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved, lattice = rng.normal(size=(5, 3)), rng.normal(size=(3, 3))
    assert displacement(moved + rng.normal(size=3), lattice) == pytest.approx(displacement(moved, lattice))
    assert displacement(2 * moved, lattice) == pytest.approx(2 * displacement(moved, lattice))
    assert displacement(np.array([[0.5, 0, 0], [0, 0, 0.0]]), 2 * np.eye(3)) == pytest.approx(0.5)


def mixtures(n: int, seed: int) -> list[Crystal]:
    rng = np.random.default_rng(seed)
    return [copper(3.6, tuple(rng.choice([6, 8, 22, 56], 5))) for _ in range(n)]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-9, 9), min_size=4, max_size=4), st.integers(0, 1000))
def test_numbers_of_elements_are_found_again(mu: list[float], seed: int) -> None:
    crystals = mixtures(60, seed)
    values = np.random.default_rng(seed).normal(size=60)
    truth = ElementReference(np.array([6, 8, 22, 56]), np.array(mu))
    energy = values - truth.formation(crystals, np.zeros(60))
    found = fit_elements(crystals, energy, values, ridge=1e-9)
    assert found.values == pytest.approx(truth.values, abs=1e-5)
    assert found.formation(crystals, energy) == pytest.approx(values, abs=1e-5)
    assert cross_validate(crystals, energy, values) == pytest.approx(values, abs=0.05)


def test_an_element_without_a_number_has_no_formation() -> None:
    crystals = mixtures(30, 0)
    found = fit_elements(crystals, np.zeros(30), np.ones(30))
    said = found.formation([*crystals[:1], copper(3.6)], np.zeros(2))
    assert np.isfinite(said).tolist() == [True, False]


def test_five_folds_do_not_see_what_they_judge() -> None:
    """Values of pure noise cannot be told from compositions; the fit to all of them at once does better."""
    crystals, values = mixtures(25, 3), np.random.default_rng(3).normal(size=25)
    said = cross_validate(crystals, np.zeros(25), values)
    fitted = fit_elements(crystals, np.zeros(25), values).formation(crystals, np.zeros(25))
    assert np.mean((said - values) ** 2) > np.mean((fitted - values) ** 2)
    changed = values.copy()
    changed[0] += 100
    assert cross_validate(crystals, np.zeros(25), changed)[0] == pytest.approx(said[0])  # of its own fold
    assert abs(cross_validate(crystals, np.zeros(25), changed)[1] - said[1]) > 0.1


def test_diamond_is_at_a_minimum_of_chgnet() -> None:
    pytest.importorskip("chgnet")
    diamond = Crystal(3.567 * FCC, np.array([[0, 0, 0], [0.25, 0.25, 0.25]]), np.array([6, 6]))
    judge = chgnet()
    relaxed = relax(diamond, judge)
    assert relaxed is not None and relaxed.converged
    assert relaxed.force == pytest.approx(0, abs=1e-3)  # by symmetry
    assert relaxed.energy == pytest.approx(-9.09, abs=0.1)  # the Materials Project's for diamond, mp-66
    assert abs(relaxed.volume) < 0.03 and relaxed.drop < 0.02
    assert relax(Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([6])), judge) is None  # nothing within its reach
