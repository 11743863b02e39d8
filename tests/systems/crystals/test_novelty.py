"""How far a crystal is from all that a model was trained on."""

from pathlib import Path

import numpy as np
import pytest

from inkwash.systems.crystals import novelty
from inkwash.systems.crystals.data import split
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.fingerprints import structure_fingerprint
from inkwash.weights.shipped import locate
from tests.systems.crystals.toy import perovskite, rocksalt

DATA = Path(__file__).parents[4] / "shared" / "data" / "crystals" / "perov5_val.csv.gz"

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


def test_a_composition_is_known_whatever_its_structure_and_cell_and_others_are_not(tmp_path):
    assert novelty.composition_is_known(TRAINING, tmp_path) is None
    novelty.save_compositions(TRAINING, tmp_path)
    assert novelty.composition_is_known(TRAINING, tmp_path).all()
    moved, salt, other = perovskite(shift=0.1), rocksalt(), perovskite("Sr", "Zr")
    doubled = perovskite()._replace(numbers=np.tile(perovskite().numbers, 2))
    assert novelty.composition_is_known([moved, doubled, salt, other], tmp_path).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_the_shipped_model_says_which_compositions_it_was_trained_on():
    folder = locate("perov")
    assert (folder / novelty.COMPOSITIONS).stat().st_size < 60_000
    assert novelty.composition_is_known([rocksalt()], folder).tolist() == [False]


@pytest.mark.skipif(not DATA.exists(), reason="the crystals of Perov-5 are not here")
def test_the_shipped_compositions_are_those_of_the_training_part():
    train, validation, test = split(read_crystals(DATA))
    found = [novelty.composition_is_known(part, locate("perov")).mean() for part in (train, validation, test)]
    assert found[0] == 1 and max(found[1:]) < 0.2
