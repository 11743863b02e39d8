"""Exactly n crystals, sound and distinct, the same in any batch; what was refused is counted by its reason."""

from collections import Counter

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core.structure import Structure

from inkwash.systems.crystals.data import Crystal, from_structure
from inkwash.systems.crystals.generation import DRAWS, generate
from inkwash.systems.crystals.validity import volume
from tests.systems.crystals.toy import FLAT, OVERLAPPING, Drawer, perovskite, rocksalt

FCC = 5.6 / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
SQUASHED = FCC * [1, 1, 1.5]
NAN = Crystal(np.full((3, 3), np.nan), np.zeros((1, 3)), np.array([8]))
SOUND = [perovskite(), perovskite("Sr"), rocksalt(), perovskite("Ca", "Zr")]
# what comes before each of the sound ones is refused
MIXED = [OVERLAPPING, SOUND[0], FLAT, perovskite(shift=0.01), SOUND[1], NAN, SOUND[2], SOUND[3]]


def test_every_refusal_has_its_reason_and_the_kept_their_seeds():
    generated = generate(Drawer(*MIXED), 4)
    assert [sample.seed for sample in generated.samples] == [1, 4, 6, 7]
    reasons = ["with overlapping atoms", "without volume", "matching another", "not finite"]
    assert generated.refused == Counter(reasons) and generated.drawn == 8
    assert str(generated).startswith("4 crystals of 8 drawn; refused: 1 ")
    for sample, sound in zip(generated.samples, SOUND, strict=True):
        np.testing.assert_allclose(sample.crystal.lattice, sound.lattice, atol=1e-9)
        assert sample.final is sample.crystal


def test_the_kept_are_the_same_however_they_are_batched():
    model = Drawer(*MIXED)
    whole = [sample.seed for sample in generate(model, 4, 3).samples]
    assert sum(model.calls) > 4  # it drew in several goes
    ones = []
    for seed in range(3, 3 + len(MIXED)):
        ones += [sample.seed for sample in generate(Drawer(*MIXED), 1, seed, keep_duplicates=True).samples]
    assert set(whole) <= set(ones)
    assert [s.seed for s in generate(Drawer(*MIXED), 2, 3).samples] == whole[:2]


def test_a_seed_at_the_end_of_all_seeds_goes_on_from_0():
    seeds = [sample.seed for sample in generate(Drawer(SOUND[0], SOUND[2]), 2, 2**64 - 1).samples]
    assert seeds == [2**64 - 1, 0]


def test_fewer_than_n_after_the_limit_of_draws():
    generated = generate(Drawer(SOUND[0]), 3)
    assert len(generated.samples) == 1 and generated.drawn == 3 * DRAWS
    assert generated.refused == {"matching another": 3 * DRAWS - 1}
    assert len(generate(Drawer(SOUND[0]), 3, keep_duplicates=True).samples) == 3


@pytest.mark.parametrize(
    ("wanted", "kept", "reason"),
    [
        ({"prototype": "ABX3"}, [0, 1, 3], "of another prototype"),
        ({"formula": "BaTiO3"}, [0], "of another composition"),
        ({"formula": "NaCl"}, [2], "of another composition"),
        ({"elements": ("Ba", "Ti", "O", "Sr")}, [0, 1], "of other atoms"),
        ({"atoms": 8}, [2], "of other atoms"),
    ],
)
def test_what_is_not_as_requested_is_refused(wanted, kept, reason):
    model = Drawer(*SOUND)
    generated = generate(model, len(kept), **wanted)
    assert [sample.seed % 4 for sample in generated.samples] == kept and model.wanted == wanted
    assert generated.drawn - len(kept) == generated.refused[reason]


def test_relaxed_crystals_are_distinct_too_and_keep_what_they_were():
    """Two chains that differ until they are relaxed, when both are close-packed."""
    one, other = (from_structure(Structure(lattice, ["Ar"], [[0, 0, 0]])) for lattice in (FCC, SQUASHED))
    judge = LennardJones(sigma=3.4, epsilon=1.0, rc=8.0)
    generated = generate(Drawer(one, other), 2, judge=judge)
    (argon,) = generated.samples
    assert argon.relaxed.drop > 0 and argon.final is argon.relaxed.crystal and volume(argon.final) < volume(one)
    assert generated.refused["matching another once relaxed"] == 1


def test_a_judge_that_fails_refuses():
    class Failing(LennardJones):
        def calculate(self, *arguments, **more):
            raise ValueError("no neighbours")

    generated = generate(Drawer(SOUND[0]), 1, judge=Failing())
    assert not generated.samples and generated.refused == {
        "that could not be relaxed": 1,
        "matching another": DRAWS - 1,  # that the judge failed with
    }


def test_progress_ends_with_all_and_is_never_beyond():
    shares = []
    generate(Drawer(*MIXED), 4, progress=lambda done, total: shares.append(done / total))
    assert shares == [0.5, 1.0, 0.625, 1.0]  # of the first four draws one is kept, of the other four the rest
    shares.clear()
    judge = LennardJones(sigma=3.4, epsilon=0.01, rc=8.0)
    generate(Drawer(*MIXED), 4, judge=judge, progress=lambda done, total: shares.append(done / total))
    assert shares == [0.25, 0.5, 0.75, 1.0]
