"""Handedness: what helices of both hands are known to be, and what mirrors and rotations do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inkwash.systems.protein.chirality import helices, is_mixed, mirrored, right_share, windings
from tests.systems.protein.made import backbone

HELIX = backbone(20)[0]


def joined(first, second):
    """One chain, far apart at the joint."""
    return np.concatenate([first, second + 50])


def test_an_alpha_helix_winds_to_the_right():
    assert helices(HELIX) == (1, 0)
    assert set(windings(HELIX)) == {1} and len(windings(HELIX)) == 17
    assert right_share([HELIX]) == 1


def test_in_the_mirror_it_winds_to_the_left():
    assert helices(mirrored(HELIX)) == (0, 1)
    assert right_share([mirrored(HELIX)]) == 0
    assert right_share([HELIX, mirrored(HELIX)]) == 0.5


def test_strands_have_no_hand():
    strand = backbone(20, -120.0, 130.0)[0]
    assert helices(strand) == (0, 0)
    assert np.isnan(right_share([strand]))


def test_a_turn_alone_is_no_helix():
    assert helices(backbone(6)[0]) == (0, 0)
    assert helices(backbone(7)[0]) == (1, 0)


def test_only_helices_of_both_hands_in_one_chain_make_it_mixed():
    assert is_mixed(joined(HELIX, mirrored(HELIX)))
    assert not is_mixed(joined(HELIX, HELIX))
    assert not is_mixed(mirrored(joined(HELIX, HELIX)))


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(4, 40))
def test_rotations_change_nothing_and_mirrors_the_sign(seed, length):
    chain = np.random.default_rng(seed).normal(0, 3, (length, 1, 3)).cumsum(0)
    turned = chain @ Rotation.random(rng=seed).as_matrix().T + 7
    np.testing.assert_array_equal(windings(turned), windings(chain))
    np.testing.assert_array_equal(windings(mirrored(chain)), -windings(chain))


def test_ca_alone_says_the_same():
    assert windings(HELIX[:, 1:2]).tolist() == windings(HELIX).tolist()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_mixtures(share):
    right = round(10 * share)
    assert right_share([HELIX] * right + [mirrored(HELIX)] * (10 - right)) == pytest.approx(share)
