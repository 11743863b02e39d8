"""How far a crystal is from all that a model was trained on."""

import numpy as np
import pytest

from inkwash.systems.crystals import novelty
from inkwash.systems.crystals.fingerprints import structure_fingerprint
from tests.systems.crystals.toy import perovskite, rocksalt

TRAINING = [perovskite(), perovskite("Sr"), perovskite("Ca", "Zr"), perovskite("Ba", "Zr")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    novelty.save(TRAINING, folder)
    return folder


def test_a_training_crystal_is_at_no_distance_and_another_as_far_as_its_nearest(folder):
    new = rocksalt()
    structure, composition = novelty.distances_to_training([TRAINING[1], new, perovskite("Sr", "Zr")], folder)
    apart = [np.subtract(structure_fingerprint(new), structure_fingerprint(crystal)) for crystal in TRAINING]
    assert structure[1] == pytest.approx(min(map(np.linalg.norm, apart)), abs=1e-2) and structure[1] > 0.1
    assert structure[0] < 1e-2 and composition[0] == 0
    assert 0 < composition[2] < composition[1]  # of known elements, in a new combination; of others


def test_a_model_without_fingerprints_says_nothing(tmp_path):
    assert novelty.distances_to_training(TRAINING, tmp_path) is None
