import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.crystals import train
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.model import CrystalModel, new_network
from inkwash.systems.crystals.novelty import composition_is_known
from inkwash.training.fit import Stopped
from inkwash.training.recipe import load_recipe
from inkwash.training.settings import Settings
from inkwash.weights.shipped import recipes
from tests.follower import Follower


def caesium_chloride(n, seed=0):
    """Cubes of 3.6 to 4.2 angstrom with two atoms, of Na or K and of Cl, half a diagonal apart; the side is their
    property."""
    rng, crystals = np.random.default_rng(seed), []
    for i in range(n):
        side, origin = rng.uniform(3.6, 4.2), rng.random(3)
        at = np.stack([origin, (origin + 0.5) % 1])
        numbers = np.array([11 if rng.random() < 0.5 else 19, 17])
        crystals.append(Crystal(side * np.eye(3), at, numbers, {"side": side} if i % 5 else {}, f"{i}"))
    return crystals


def of_sizes(sizes):
    rng = np.random.default_rng(0)
    return [Crystal(4 * np.eye(3), rng.random((size, 3)), np.full(size, 6), {}, "") for size in sizes]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A recipe whose data are what is put into the list."""
    crystals = caesium_chloride(100)
    monkeypatch.setattr(train, "read_crystals", lambda path, note: list(crystals))
    settings = Settings(250, 32, 4e-3, warmup=20, lr_decay="cosine", ema_decay=0.98, preview_every=10_000)
    return crystals, train.Recipe("crystals", tmp_path / "data.csv", settings, width=32, layers=2)


def test_a_model_learns_a_structure_its_sizes_and_its_property(data, tmp_path):
    train.train(data[1], tmp_path / "run", Follower())
    model = CrystalModel.load(tmp_path / "run" / "model")
    crystals = model.generate(40, steps=30)
    sides = np.array([np.linalg.norm(crystal.lattice, axis=1) for crystal in crystals])
    assert np.median(sides) == pytest.approx(3.9, abs=0.15)
    apart = [crystal.coordinates[0] - crystal.coordinates[1] for crystal in crystals]
    off = np.abs(np.array(apart) % 1 - 0.5).max(1)
    assert np.median(off) < 0.1  # of what is uniform without learning: 0.4
    pairs = [tuple(sorted(crystal.numbers.tolist())) for crystal in crystals]
    assert np.mean([pair in {(11, 17), (17, 19)} for pair in pairs]) > 0.8
    small, large = (
        np.mean([np.linalg.det(c.lattice) for c in model.generate(20, target={"side": side}, steps=30)])
        for side in (3.65, 4.15)
    )
    assert small < large - 5  # in a perfect world 23 cubic angstrom
    trained = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert trained["held_out_loss"] < 1.9  # untrained it is 2.5
    lithium = crystals[0]._replace(numbers=np.array([3, 17]))
    assert composition_is_known([data[0][0], lithium], tmp_path / "run" / "model").tolist() == [True, False]


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(data, tmp_path):
    recipe = replace(data[1], fit=replace(data[1].fit, steps=6, checkpoint_minutes=0))
    train.train(recipe, tmp_path / "whole", Follower())
    with pytest.raises(Stopped):
        train.train(recipe, tmp_path / "parts", Follower(stop_after=3))
    train.train(recipe, tmp_path / "parts", Follower())
    one, other = (CrystalModel.load(tmp_path / run / "model").network.state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_facts_say_what_the_crystals_were(data):
    facts = train.describe(data[1], data[0])
    assert (facts["elements"], facts["atoms"]) == (["Na", "Cl", "K"], {"2": 100})
    side = np.array([crystal.properties["side"] for crystal in data[0] if crystal.properties])
    assert facts["properties"]["side"] == pytest.approx(
        {"mean": side.mean(), "std": side.std(), "low": np.quantile(side, 0.02), "min": side.min(), "max": side.max()}
    )


def test_a_property_that_is_one_number_does_not_divide_by_its_spread():
    assert train.statistics([2.0, 2.0])["std"] == 1


def test_tables_hold_every_crystal_and_gaps_stay_gaps(data):
    facts = train.describe(data[1], data[0])
    model = CrystalModel(new_network(facts), facts)
    table = train.encode(model, data[0])
    for i in (0, 1, 99):
        crystal = data[0][i]
        assert np.allclose(table["lattice"][i], crystal.lattice, atol=1e-5)
        assert np.allclose(table["coordinates"][i], crystal.coordinates, atol=1e-6)
        assert [model.elements[kind] for kind in table["kinds"][i]] == [
            "Na" if crystal.numbers[0] == 11 else "K",
            "Cl",
        ]
    assert table["properties"].isnan()[:, 0].tolist() == [i % 5 == 0 for i in range(100)]
    assert table["properties"].nanmean().abs() < 1e-5


def test_coordinates_just_below_one_stay_in_the_cell(data):
    crystal = data[0][0]._replace(coordinates=np.array([[1 - 1e-12, 0, 0.5], [0.5, 1 - 1e-9, 0]]))
    facts = train.describe(data[1], data[0])
    table = train.encode(CrystalModel(new_network(facts), facts), [crystal])
    assert (table["coordinates"] < 1).all()


def test_half_of_the_crystals_are_inverted_and_none_leaves_its_cell(data):
    recipe, facts = data[1], train.describe(data[1], data[0])
    table = train.encode(CrystalModel(new_network(facts), facts), data[0])
    table["coordinates"][0] = 0
    batch, inverted = train.loader(recipe, table), 0
    for k in range(20):
        chosen = batch(k)["coordinates"]
        assert ((chosen >= 0) & (chosen < 1)).all()
        plain = (chosen[:, None] == table["coordinates"]).all((2, 3)).any(1)
        turned = ((-chosen % 1)[:, None] - table["coordinates"]).abs().amax((2, 3)).amin(1) < 1e-6
        assert (plain | turned).all()
        inverted += int((~plain).sum())
    assert inverted / (20 * 32) == pytest.approx(0.5, abs=0.06)


def test_crystals_of_alike_size_come_together_and_each_as_often():
    sizes = np.random.default_rng(0).integers(6, 25, 64)
    order = lambda k: (np.arange(4) + 4 * k) % 64  # noqa: E731
    batches = [train.by_size(order, sizes)(k) for k in range(16)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(64))
    padded = sum(sizes[rows].max() - sizes[rows].mean() for rows in batches) / 16
    assert padded < 0.4 * sum(sizes[order(k)].max() - sizes[order(k)].mean() for k in range(16)) / 16


def test_crystals_of_one_size_come_in_the_order_they_had():
    order = lambda k: np.arange(4) + 4 * k  # noqa: E731
    assert train.by_size(order, np.full(64, 5)) is order


def test_a_batch_is_padded_to_the_largest_crystal_in_it():
    facts = train.describe(train.Recipe("crystals", "x", Settings(1)), of_sizes([6] * 9 + [24]))
    table = train.encode(CrystalModel(new_network(facts), facts), of_sizes([6] * 9 + [24]))
    assert train.take(table, np.array([0, 3]))["kinds"].shape == (2, 6)
    assert train.take(table, np.array([0, 9]))["kinds"].shape == (2, 24)


def test_held_out_crystals_of_a_strange_element_are_left_out_and_said(data, tmp_path):
    crystals, recipe = data
    _, held_out, _ = train.split(list(range(100)))
    crystals[held_out[0]] = crystals[0]._replace(numbers=np.array([55, 17]))
    follower = Follower()
    train.train(replace(recipe, fit=replace(recipe.fit, steps=2)), tmp_path / "run", follower)
    assert any("1 of 10 held-out crystals have an element or a size" in note.text for note in follower.of(Note))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "jiont"}, "unknown engine 'jiont': did you mean joint?"),
        ({"properties": ["sides"]}, "'sides': did you mean side?"),
    ],
)
def test_mistakes_in_a_recipe_are_said_in_a_line(data, tmp_path, change, words):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        train.train(replace(data[1], **change), tmp_path / "run", Follower())
    assert words in str(error.value)
    assert not (tmp_path / "run" / "model").exists()


def test_a_handful_of_crystals_is_refused(data, tmp_path):
    del data[0][9:]
    with pytest.raises(UserError, match="6 crystals to learn from; at least 10 are needed"):
        train.train(data[1], tmp_path / "run", Follower())


@pytest.mark.parametrize("name", ["perov", "carbon"])
def test_shipped_recipes_are_recipes(name):
    recipe = load_recipe(recipes()[name], train.Recipe)
    assert recipe.engine == "joint"
