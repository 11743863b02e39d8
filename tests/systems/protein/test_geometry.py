"""Geometry: chains built from known bonds, angles and dihedrals give them back; biotite agrees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.systems.protein import geometry
from tests.systems.protein.made import backbone

biotite = pytest.importorskip("biotite.structure")


def curve(points):
    """A chain of CA alone."""
    return np.asarray(points, float)[:, None]


@given(phi=st.floats(-175, 175), psi=st.floats(-175, 175))
def test_a_chain_gives_back_the_angles_it_was_built_with(phi, psi):
    chain, _ = backbone(6, phi, psi)
    found = geometry.backbone(chain)
    assert {name: len(values) for name, values in found.items()} == {
        "N-CA": 6, "CA-C": 6, "C-N": 5, "N-CA-C": 6, "psi": 5, "omega": 5, "phi": 5
    }  # fmt: skip
    for name, value in {"N-CA": 1.458, "CA-C": 1.525, "C-N": 1.329, "N-CA-C": 111.0, "phi": phi, "psi": psi}.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    np.testing.assert_allclose(abs(found["omega"]), 180, atol=1e-5)


def test_biotite_measures_the_same_angles_and_dihedrals():
    points = np.random.default_rng(0).normal(0, 3, (50, 3))
    ours, theirs = geometry.dihedrals(points), biotite.dihedral(points[:-3], points[1:-2], points[2:-1], points[3:])
    np.testing.assert_allclose(ours, np.degrees(theirs), atol=1e-4)
    theirs = biotite.angle(points[:-2], points[1:-1], points[2:])
    np.testing.assert_allclose(geometry.angles(points), np.degrees(theirs), atol=1e-4)


def test_pairs_are_those_that_are_far_enough_apart_in_sequence():
    line = curve(np.outer(np.arange(5), [3.8, 0, 0]))
    np.testing.assert_allclose(sorted(geometry.pair_distances(line)), [11.4, 11.4, 15.2])


def test_contact_order_of_a_hairpin_by_hand():
    """Residues 0 1 2 on one line and 5 4 3 beside them, 5 A away: of pairs three or more apart (0, 4),
    (0, 5), (1, 4) and (1, 5) are at most 6.3 A away; (0, 3) and (2, 5), 9.1 A."""
    points = [(0, 0, 0), (3.8, 0, 0), (7.6, 0, 0), (7.6, 5, 0), (3.8, 5, 0), (0, 5, 0)]
    apart = [4, 5, 3, 4]
    assert geometry.contact_order(curve(points)) == pytest.approx(np.mean(apart) / 6)


def test_a_rod_has_no_contacts():
    assert geometry.contact_order(curve(np.outer(np.arange(9), [3.8, 0, 0]))) == 0


def test_the_radius_of_a_ring_is_its_own():
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = curve(10 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1))
    assert geometry.radius_ratio(ring) == pytest.approx(10 / (2.2 * 40**0.38))


@pytest.mark.parametrize(("gap", "sound"), [(4.1, True), (4.3, False)])
def test_a_broken_chain_is_not_sound(gap, sound):
    points = np.outer(np.arange(8), [3.8, 0, 0]) + np.outer(np.arange(8) > 3, [gap - 3.8, 0, 0])
    assert geometry.is_sound(curve(points)) is sound
    assert geometry.summary(curve(points))["breaks"] == (not sound)


@pytest.mark.parametrize(("width", "sound"), [(3.6, True), (3.4, False)])
def test_residues_on_top_of_each_other_clash(width, sound):
    points = [(0, 0, 0), (3.8, 0, 0), (3.8, width, 0), (0, width, 0)]
    assert geometry.is_sound(curve(points)) is sound
    assert geometry.summary(curve(points))["clashes"] == 1  # by the usual bound both


def test_only_bonds_between_motif_and_scaffold_are_junctions():
    points = np.outer(np.arange(7), [3.8, 0, 0])
    points[3:] += (0.5, 0, 0)  # between residues 2 and 3
    points[5:] += (0.5, 0, 0)  # between residues 4 and 5, within the motif
    motif = np.array([0, 0, 0, 1, 1, 1, 0], bool)
    assert geometry.junctions(curve(points), motif).tolist() == [False, True]


def test_p_sea_sees_helices_and_strands():
    helix, strand = backbone(20)[0], backbone(20, -120.0, 130.0)[0]
    assert geometry.secondary_structure(helix).count("a") >= 16
    assert geometry.secondary_structure(strand).count("a") == 0
    assert geometry.secondary_structure(strand[:, 1:2]).count("b") >= 16


def test_the_summary_of_an_ideal_helix():
    found = geometry.summary(backbone(30)[0])
    assert found["bonds_sound"] == 1 and found["breaks"] == found["clashes"] == 0
    assert found["helix"] > 0.8 and found["strand"] == 0
