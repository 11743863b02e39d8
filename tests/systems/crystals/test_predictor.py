"""Predictors: what they learn, how far they agree, and what they refuse."""

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.crystals import predictor, train
from inkwash.systems.crystals.model import CrystalModel
from inkwash.systems.crystals.predictor import Predictor
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.systems.crystals.perovskites import perovskite, perovskites

DATA = perovskites(60)
GAPS = [
    crystal._replace(properties=crystal.properties | ({"heavy": 1.0} if i % 3 else {}))
    for i, crystal in enumerate(DATA)
]
SETTINGS = Settings(150, 16, 5e-3, warmup=10, lr_decay="cosine", ema_decay=0.9, preview_every=10**6)


def small(data=DATA, members=3):
    facts = train.describe(train.Recipe("crystals", None, SETTINGS, width=8, layers=1), data)
    config = {name: facts[name] for name in ("elements", "atoms", "properties")}
    return Predictor(config | {"width": 16, "layers": 1, "members": members})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, untrained, with a predictor that has learned the sides of cubes."""
    base = tmp_path_factory.mktemp("run")
    facts = train.describe(train.Recipe("crystals", None, SETTINGS, width=8, layers=1), DATA)
    CrystalModel(train.new_network(facts), facts).save(base / "model-before")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "read_crystals", lambda path, note=None: GAPS)
        recipe = predictor.Recipe("predictor", base / "data", base / "model-before", SETTINGS, width=16, layers=1)
        predictor.train(recipe, base, Follower())
    return base / "model"


def test_the_side_of_cubes_never_seen_is_predicted(folder):
    loaded = Predictor.load(folder)
    fresh = perovskites(30, seed=9)
    sides = np.array([crystal.properties["size"] for crystal in fresh])
    mean, spread = loaded.predict(fresh)["size"]
    assert np.abs(mean - sides).mean() < 0.25 * np.abs(sides - sides.mean()).mean()
    assert (spread > 0).all() and spread.mean() < sides.std()


def test_it_lies_beside_the_model_it_was_given_which_stays_as_it_was(folder):
    before, after = (CrystalModel.load(where) for where in (folder.with_name("model-before"), folder))
    assert before.hash == after.hash and before.facts() == after.facts()
    assert Predictor.load(folder.with_name("model-before")) is None


def test_predictions_come_back_from_the_folder(tmp_path):
    torch.manual_seed(0)
    made = small()
    for parameter in made.network.parameters():
        parameter.data = parameter.data.half().float()
    made.save(tmp_path)
    again = Predictor.load(tmp_path)
    for one, other in zip(made.predict(DATA[:4])["size"], again.predict(DATA[:4])["size"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_mean_and_spread_are_those_of_the_members_in_the_unit_of_the_property():
    made = small()
    for member, value in zip(made.network, (-1.0, 0.0, 4.0), strict=True):
        torch.nn.init.zeros_(member.head[2].weight)
        torch.nn.init.constant_(member.head[2].bias, value)
    facts = made.properties["size"]
    mean, spread = made.predict(DATA[:2])["size"]
    np.testing.assert_allclose(mean, facts["mean"] + facts["std"] * 1.0)
    np.testing.assert_allclose(spread, facts["std"] * np.std([-1, 0, 4], ddof=1))


def test_a_crystal_is_predicted_the_same_alone_and_among_others():
    made = small()
    many, alone = made.predict(DATA[:7])["size"], made.predict(DATA[6:7])["size"]
    np.testing.assert_allclose(many[0][6], alone[0][0], rtol=1e-5)


def test_gaps_are_not_learned_as_numbers():
    made = small(GAPS)
    batch = train.encode(made, GAPS[:6])
    gaps = batch["properties"].isnan()
    assert gaps.any() and not gaps.all()
    found = predictor.error(made.network[0], batch)
    wanted = (made.network[0](batch) - batch["properties"])[~gaps].abs().mean()
    torch.testing.assert_close(found, wanted)


def test_another_element_is_named():
    with pytest.raises(UserError, match="crystal 1 gold: the predictor has seen up to 5 atoms of Ba, Ca"):
        small().predict([perovskite(79, 22, 8, 4.0, "gold")])


def test_data_without_columns_cannot_be_learned_from(folder, monkeypatch):
    bare = [crystal._replace(properties={}) for crystal in DATA]
    monkeypatch.setattr(predictor, "read_crystals", lambda path, note=None: bare)
    recipe = predictor.Recipe("predictor", folder / "data", folder, SETTINGS)
    with pytest.raises(UserError, match="no column of numbers"):
        predictor.train(recipe, folder.with_name("other"), Follower())
    assert not folder.with_name("other").exists()


def test_a_broken_file_is_one_line(tmp_path):
    small().save(tmp_path)
    (tmp_path / "predictor.json").write_text('{"elements": 3}')
    with pytest.raises(UserError, match=r"predictor\.json: broken"):
        Predictor.load(tmp_path)
