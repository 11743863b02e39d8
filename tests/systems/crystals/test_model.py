import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.crystals.elements import SYMBOLS
from inkwash.systems.crystals.model import CrystalModel

FACTS = {
    "engine": "joint",
    "elements": ["O", "Ti", "Ba"],
    "atoms": {"2": 1, "5": 2, "10": 1},
    "properties": {"gap": {"mean": 1.0, "std": 0.5, "low": 0.1, "min": 0.0, "max": 3.0}},
    "network": {"width": 16, "layers": 1},
    "steps": 4,
    "guidance": 2.0,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = CrystalModel.build(FACTS)
    model.network.set_scale(4 * torch.eye(3).expand(4, 3, 3), torch.full((4,), 5))
    model.network.eval()
    return model


def symbols(crystal):
    return sorted(SYMBOLS[number] for number in crystal.numbers)


def same(one, other):
    lattices = np.allclose(one.lattice, other.lattice, atol=1e-3)
    apart = (one.coordinates - other.coordinates + 0.5) % 1 - 0.5
    return lattices and abs(apart).max() < 1e-3 and (one.numbers == other.numbers).all()


def test_the_crystal_of_a_seed_is_the_same_alone_and_in_a_batch(model):
    together = model.generate(24, seed=3)
    assert {len(crystal.numbers) for crystal in together} == {2, 5, 10}
    for i in (0, 5, 11):
        (alone,) = model.generate(1, seed=3 + i)
        assert same(alone, together[i])
    assert not same(*[each for each in together if len(each.numbers) == 5][:2])


def test_sizes_are_drawn_as_often_as_in_the_training_crystals(model):
    sizes = np.array(model._sizes(list(range(4000)), 1, None, ""))
    assert [np.mean(sizes == size) for size in (2, 5, 10)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_a_formula_is_exact_and_a_multiple_that_the_data_have(model):
    crystals = model.generate(20, formula="BaTiO3")
    counts = {len(crystal.numbers) for crystal in crystals}
    assert counts == {5, 10}
    for crystal in crystals:
        assert symbols(crystal) == sorted(["Ba", "Ti", "O", "O", "O"] * (len(crystal.numbers) // 5))


def test_a_formula_of_a_size_that_the_data_lack_is_drawn_once(model):
    (crystal,) = model.generate(1, formula="TiO2")
    assert symbols(crystal) == ["O", "O", "Ti"]
    (crystal,) = model.generate(1, formula="TiO2", atoms=9)
    assert symbols(crystal) == ["O"] * 6 + ["Ti"] * 3


def test_only_the_elements_asked_for(model):
    drawn = {symbol for crystal in model.generate(20, elements=["O", "Ba"]) for symbol in symbols(crystal)}
    assert drawn == {"O", "Ba"}


def test_the_number_of_atoms(model):
    assert {len(crystal.numbers) for crystal in model.generate(5, atoms=7)} == {7}


def test_a_prototype_fits(model):
    for crystal in model.generate(6, prototype="ABX3", atoms=5):
        assert sorted(map(symbols(crystal).count, set(symbols(crystal)))) == [1, 1, 3]


def test_a_crystal_that_fits_at_once_is_the_one_of_its_seed(model):
    free = model.generate(30, atoms=5)
    fitting = [sorted(map(symbols(c).count, set(symbols(c)))) == [1, 1, 3] for c in free]
    assert 0 < sum(fitting) < 30
    redrawn = model.generate(30, prototype="ABX3", atoms=5)
    assert [same(*pair) for pair in zip(free, redrawn, strict=True)] == fitting


def test_a_property_changes_what_is_drawn_and_low_is_the_lowest_fiftieth(model):
    (free,), (low,) = model.generate(1), model.generate(1, minimise="gap")
    assert not same(free, low)
    (aimed,) = model.generate(1, target={"gap": 0.1})
    assert same(low, aimed)
    (harder,) = model.generate(1, target={"gap": 0.1}, guidance=30.0)
    assert not same(low, harder)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"formula": "SrTiO3"}, "never seen the element 'Sr'; it knows Ba, O, Ti"),
        ({"elements": ["Fe"]}, "never seen the element 'Fe'"),
        ({"atoms": 11}, "11 atoms: this model has seen cells of up to 10"),
        ({"atoms": 0}, "at least 1"),
        ({"formula": "Ba3Ti3O9"}, "Ba3Ti3O9: 15 atoms: this model has seen cells of up to 10"),
        ({"formula": "BaTiO3", "atoms": 7}, "a multiple of 5, of BaTiO3,"),
        ({"formula": "BaTiO3", "elements": ["O"]}, "leave out elements"),
        ({"formula": "BaTiO3", "prototype": "ABX3"}, "leave out elements and prototype"),
        ({"formula": "Ba0.5O"}, "whole numbers"),
        ({"prototype": "ABX3", "elements": ["O", "Ba"]}, "ABX3 has 3 elements; only 2 can be drawn"),
        ({"prototype": "ABCD2"}, "ABCD2 has 4 elements; only 3 can be drawn"),
        ({"minimise": "gab"}, "unknown property 'gab': did you mean gap?"),
        ({"target": {"gap": 3.5}}, "gap = 3.5 lies outside what this model has seen, 0 to 3"),
        ({"target": {"gap": float("nan")}}, "outside"),
        ({"target": {"gap": 1.0}, "minimise": "gap"}, "leave out one of them"),
        ({"n": 0}, "at least 1 crystal"),
        ({"steps": 0}, "steps = 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(model, asked, words):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        model.generate(**asked)
    assert words in str(error.value)


def test_progress_ends_at_its_total_and_never_falls(model):
    told = []
    model.generate(12, progress=lambda done, of: told.append((done, of)))
    shares = [done / of for done, of in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_saved_model_draws_the_same(model, tmp_path):
    model.network.to(torch.float16).to(torch.float32)  # as they are saved
    model.save(tmp_path)
    loaded = CrystalModel.load(tmp_path)
    assert loaded.facts() == FACTS
    assert all(same(*pair) for pair in zip(model.generate(4, seed=9), loaded.generate(4, seed=9), strict=True))


def test_facts_without_what_a_model_needs_are_refused():
    with pytest.raises(KeyError):
        CrystalModel.build({key: value for key, value in FACTS.items() if key != "guidance"})
    with pytest.raises(KeyError):
        CrystalModel.build(FACTS | {"engine": "magic"})
