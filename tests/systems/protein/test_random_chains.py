"""The random baseline has the bonds, angles and size that it says, and no hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.protein.chirality import right_share
from inkwash.systems.protein.geometry import alpha_carbons, angles, distances, pair_distances, radius_ratio
from inkwash.systems.protein.random_chains import random_chain


@settings(max_examples=15)
@given(length=st.integers(10, 100), seed=st.integers(0, 2**32 - 1))
def test_bonds_and_angles_are_sound_and_nothing_clashes(length, seed):
    chain = random_chain(length, seed)
    ca = alpha_carbons(chain)
    assert len(ca) == length
    np.testing.assert_allclose(distances(ca), 3.8, atol=1e-9)
    assert angles(ca).min() >= 85 and angles(ca).max() <= 145
    assert pair_distances(chain).min() >= 4


def test_it_is_as_wide_as_native_chains_and_winds_both_ways():
    chains = [random_chain(64, seed) for seed in range(30)]
    assert np.mean([radius_ratio(chain) for chain in chains]) == pytest.approx(1.07, abs=0.1)
    assert right_share(chains) == pytest.approx(0.5, abs=0.08)


def test_a_seed_is_a_chain():
    assert (random_chain(30, 4) == random_chain(30, 4)).all()
    assert (random_chain(30, 4) != random_chain(30, 5)).any()
