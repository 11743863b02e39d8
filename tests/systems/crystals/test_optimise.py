"""The engine cdvae from a recipe to crystals: trained, encoded, decoded again and optimised."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.crystals import cdvae, train
from inkwash.systems.crystals.model import CrystalModel
from inkwash.systems.crystals.optimise import latents, optimise, reconstruct
from inkwash.systems.crystals.vae_networks import Options
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.systems.crystals.perovskites import perovskite, perovskites

DATA = perovskites(40)
FAST = {"steps": 12, "corrections": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of 40 cubes, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "read_crystals", lambda path, note=None: DATA)
        settings = Settings(500, 16, 5e-3, warmup=20, lr_decay="cosine", ema_decay=0.9, preview_every=10**6)
        folder = tmp_path_factory.mktemp("run")
        recipe = train.Recipe("crystals", folder / "data", settings, "cdvae", width=24, layers=1)
        train.train(replace(recipe, cdvae=Options(latent=8)), folder, Follower())
    return CrystalModel.load(folder / "model"), folder


@pytest.fixture
def model(trained):
    return trained[0]


def test_what_it_has_seen_is_decoded_again(model):
    known = DATA[:16]
    again = reconstruct(model, known, **FAST)
    elements = [sorted(one.numbers) == sorted(other.numbers) for one, other in zip(known, again, strict=True)]
    sides = [abs(one.lattice[0, 0] - other.lattice[0, 0]) for one, other in zip(known, again, strict=True)]
    assert np.mean(elements) > 0.8
    assert np.mean(sides) < 0.15
    assert {len(crystal.numbers) for crystal in again} == {5}


def test_the_folder_says_what_was_left_out_and_comes_back(trained):
    model, folder = trained
    facts = json.loads((folder / "model" / "system.json").read_text())
    assert facts["engine"] == "cdvae" and facts["steps"] == cdvae.LEVELS
    assert facts["network"]["latent"] == 8 and facts["network"]["nearest_image"] is True
    again = CrystalModel.load(folder / "model")
    torch.testing.assert_close(latents(again, DATA[:3]), latents(model, DATA[:3]), atol=0, rtol=0)


def test_a_formula_is_kept_to_exactly(model):
    for crystal in model.generate(3, seed=5, formula="SrTiO3", steps=4):
        assert sorted(crystal.numbers.tolist()) == [8, 8, 8, 22, 38]


def test_optimised_crystals_are_smaller_by_the_models_own_opinion_and_really(model):
    start = [perovskite(56, 72, 9, 5.0)] * 2
    found = optimise(model, start, "size", updates=1500, snapshots=3, **FAST)
    assert [len(each) for each in found] == [3, 3]
    real = [crystal.lattice[0, 0] for crystal in found[0]]
    assert real[-1] < reconstruct(model, start[:1], **FAST)[0].lattice[0, 0] - 0.05
    assert real == sorted(real, reverse=True)


def test_seeds_of_decoded_crystals_are_their_own(model):
    both = reconstruct(model, DATA[:2], seed=3, **FAST)
    second = reconstruct(model, DATA[1:2], seed=4, **FAST)[0]
    assert np.array_equal(both[1].numbers, second.numbers)
    assert np.abs((both[1].coordinates - second.coordinates + 0.5) % 1 - 0.5).max() < 1e-2


def test_a_crystal_that_it_cannot_know_is_named(model):
    with pytest.raises(UserError, match=r"crystal 2, gold: .*it knows Ba, Ca"):
        reconstruct(model, [DATA[0], perovskite(79, 22, 8, 4.0, "gold")])
    with pytest.raises(UserError, match="size"):
        optimise(model, DATA[:1], "weight")


def test_only_this_engine_encodes():
    recipe = train.Recipe("crystals", None, Settings(1), width=8, layers=1)
    facts = train.describe(recipe, DATA)
    with pytest.raises(UserError, match="only a model of the engine cdvae"):
        latents(CrystalModel(train.new_network(facts), facts), DATA[:1])


def test_its_table_means_nothing_to_another_engine():
    recipe = train.Recipe("crystals", None, Settings(1), "joint", cdvae=Options())
    with pytest.raises(UserError, match=r"\[cdvae\] means nothing to the engine joint"):
        train.describe(recipe, DATA)
