"""Superposition, RMSD and TM-score: against scipy, against the formula, and against what is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inkwash.systems.protein.chirality import mirrored
from inkwash.systems.protein.structures import (
    deviations,
    mean_distance,
    nearest,
    pairwise_tm,
    rmsd,
    superpose,
    tm_score,
)
from tests.systems.protein.made import backbone

HELIX = backbone(40)[0]


def moved(chain, seed=1):
    return chain @ Rotation.random(rng=seed).as_matrix().T + np.array([5.0, -3.0, 40.0])


def walk(length, seed):
    """A chain that is like no other."""
    steps = np.random.default_rng(seed).normal(size=(length, 1, 3))
    return (3.8 * steps / np.linalg.norm(steps, axis=-1, keepdims=True)).cumsum(0)


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(3, 30))
def test_scipy_finds_the_same_superposition(seed, points):
    a, b = np.random.default_rng(seed).normal(0, 5, (2, points, 3))
    _, distance = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
    assert rmsd(a, b) == pytest.approx(distance / np.sqrt(points), rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_moved_copy_comes_back(seed):
    chain = np.random.default_rng(seed).normal(0, 5, (12, 3))
    np.testing.assert_allclose(superpose(moved(chain, seed), chain), chain, atol=1e-9)


def test_a_mirror_image_does_not_fit():
    assert rmsd(mirrored(HELIX), HELIX) > 1


def test_points_that_do_not_count_follow_as_a_rigid_body():
    fixed = HELIX[:, 1]
    other = moved(fixed)
    other[20:] += 9.0
    by = np.arange(40) < 20
    found = superpose(other, fixed, by)
    np.testing.assert_allclose(found[:20], fixed[:20], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found[20:] - fixed[20:], axis=1), 9 * np.sqrt(3), atol=1e-9)


def test_the_two_kinds_of_rmsd_by_hand():
    """Four points of a square whose diagonal is shrunk by 0.8 at both ends: 0, 0, 0.8 and 0.8 away."""
    square = np.array([(1.0, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)])
    shrunk = square * (1, 0.2, 1)
    np.testing.assert_allclose(deviations(shrunk, square), [0, 0, 0.8, 0.8], atol=1e-12)
    assert mean_distance(shrunk, square) == pytest.approx(0.4)
    assert rmsd(shrunk, square) == pytest.approx(0.8 / np.sqrt(2))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_mean_is_never_more_than_the_rms(seed):
    a, b = np.random.default_rng(seed).normal(0, 5, (2, 9, 3))
    assert mean_distance(a, b) <= rmsd(a, b) + 1e-12


def test_all_atoms_of_a_chain_count():
    bent = HELIX.copy()
    bent[:, 0] += 1.0
    assert rmsd(bent, HELIX) > 0.4
    assert rmsd(bent[:, 1], HELIX[:, 1]) == pytest.approx(0, abs=1e-9)


def test_tm_of_a_chain_to_itself_is_one_and_to_another_is_low():
    pytest.importorskip("tmtools")
    chain = walk(60, 0)
    assert tm_score(moved(chain), chain) == pytest.approx(1)
    assert tm_score(walk(60, 1), chain) < 0.5


def test_tm_of_half_a_chain_is_in_units_of_the_reference():
    pytest.importorskip("tmtools")
    chain = walk(60, 0)
    assert tm_score(chain[:30], chain) == pytest.approx(0.5, abs=0.02)
    assert tm_score(chain, chain[:30]) == pytest.approx(1, abs=0.02)


def test_diversity_counts_each_pair_once_and_novelty_finds_the_copy():
    pytest.importorskip("tmtools")
    chains = [walk(40, seed) for seed in range(3)]
    found = pairwise_tm([*chains, moved(chains[1])])
    assert len(found) == 6 and (found > 0.99).sum() == 1
    assert nearest([chains[0], walk(40, 9)], chains)[0] == pytest.approx(1)
    assert nearest([walk(40, 9)], chains)[0] < 0.5
