"""Scaffolds of a benchmark's motifs: which fit, that nothing is made twice, and what the figures count."""

import json

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.diffusion import DiffusionError, karras
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.base import options
from inkwash.systems.protein import evaluate, evaluate_targets
from inkwash.systems.protein.request_design import Evaluate
from inkwash.systems.report import markdown_tables
from tests.systems.protein.made import lines, save
from tests.systems.protein.toy import PROCESS, GaussianChain

pytest.importorskip("tmtools")


def target(path, contig, residues=12):
    """A file as Genie2 writes them: INPUT lines for new residues (no chain) and for the motif's."""
    head = [f"REMARK 999 INPUT  {chain:1} {a:>3} {b:>3}" for chain, a, b in contig]
    low, high = (sum(part[i] if not part[0] else part[2] - part[1] + 1 for part in contig) for i in (1, 2))
    head += [f"REMARK 999 MINIMUM TOTAL LENGTH      {low}", f"REMARK 999 MAXIMUM TOTAL LENGTH      {high}"]
    return save(path, [*head, *lines(residues)])


class Toy:
    """A model of random walks, by their exact denoiser."""

    config = {"shortest": 8, "max_length": 24, "atoms": 3, "steps": 5, "sampler": ["ancestral", {}]}  # noqa: RUF012
    hash, device, calls = "0", "cpu", 0

    def denoiser(self, x, t, condition=None):
        Toy.calls += 1
        return GaussianChain(x.shape[1])(x, t, condition)

    def grid(self, steps):
        return karras(PROCESS, steps)


@pytest.fixture
def asked(tmp_path):
    """Makes requests for a folder of targets, and their context."""
    folder, out = tmp_path / "targets", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    target(folder / "one.pdb", [("", 3, 6), ("A", 2, 5), ("", 3, 6)])
    target(folder / "two.pdb", [("", 2, 4), ("A", 2, 3), ("", 5, 6), ("A", 7, 8), ("", 2, 4)])
    target(folder / "long.pdb", [("", 30, 40), ("A", 2, 5), ("", 30, 40)])
    save(folder / "plain.pdb", lines(12))
    context = Local(out)
    context.said = []
    context.tell = lambda event: context.said.append(event.text) if isinstance(event, Note) else None

    def ask(**given):
        given = {"filters": 2, "particles": 8, "steps": 6} | given
        targets = context.file(folder, options(Evaluate)["targets"])
        request = Evaluate(model="toy", targets=targets, **{k: v for k, v in given.items() if v is not None})
        return evaluate.measure(request, Toy(), context)

    return ask, context


def rows_of(found, **keys):
    return {row["metric"]: row for row in found.rows if all(row.get(key) == value for key, value in keys.items())}


def test_what_does_not_fit_is_said_and_the_rest_is_measured(asked):
    ask, context = asked
    found = ask()
    assert [row["target"] for row in found.rows if row["metric"] == "alive"] == ["one", "two"]
    assert any(text.startswith("left out, long: ") and "24" in text for text in context.said)
    assert any(text.startswith("left out, plain: ") and "no contig" in text for text in context.said)
    one = rows_of(found, target="one")
    assert (one["alive"]["residues"], one["alive"]["segments"], one["alive"]["n"]) == (4, 1, 2)
    (table,) = [table for table in markdown_tables(found.rows) if "| one |" in table]
    assert "| two |" in table and "| targets |" not in table
    assert one["motif RMSD, A"]["value"] == pytest.approx(0, abs=1e-9)
    assert 0 < one["median ESS"]["value"] <= 8


def test_of_two_targets_of_one_name_none_takes_the_others_place_without_a_word(asked, tmp_path):
    ask, context = asked
    target(tmp_path / "targets" / "two.ent", [("", 3, 6), ("A", 2, 9), ("", 3, 6)])
    (alive,) = [row for row in ask().rows if row["metric"] == "alive" and row["target"] == "two"]
    assert alive["residues"] == 8  # of two.ent, which comes first
    assert any("two.pdb" in text and "another target is called so" in text for text in context.said)


def test_nothing_is_made_twice_and_another_seed_adds(asked):
    ask, context = asked
    start = Toy.calls
    first = ask()
    calls = Toy.calls - start
    assert ask().rows == first.rows and Toy.calls == start + calls
    ask(seed=1)  # of its two filters of each target one, that of seed 1, is there
    assert Toy.calls == start + calls + calls // 2
    assert len(json.loads((context.folder / "scaffolds.json").read_text())) == 6


def test_other_particles_are_another_run(asked):
    ask, context = asked
    ask()
    ask(particles=4)
    assert len(json.loads((context.folder / "scaffolds.json").read_text())) == 8


def test_methods_without_filters_have_no_particles(asked):
    ask, _ = asked
    with pytest.raises(UserError, match="particles means nothing with the method replacement"):
        ask(method="replacement")
    found = ask(method="replacement", particles=None)
    assert "1 particles" not in found.title and "median ESS" not in rows_of(found, target="one")


def test_a_file_that_is_not_ours_is_left_alone(asked):
    ask, context = asked
    (context.folder / "scaffolds.json").write_text('{"precious": 1}')
    with pytest.raises(UserError, match="not inkwash's"):
        ask()
    assert (context.folder / "scaffolds.json").read_text() == '{"precious": 1}'


def test_options_of_backbones_are_refused(asked):
    ask, _ = asked
    with pytest.raises(UserError, match="samples means nothing with --targets"):
        ask(samples=5)


def test_a_filter_of_weight_zero_is_counted_as_dead(asked, monkeypatch):
    def dies(*_, **__):
        raise DiffusionError("every particle has weight 0")

    monkeypatch.setattr(evaluate_targets, "around_motif", dies)
    found = asked[0]()
    assert rows_of(found, of="targets")["with a filter alive"]["value"] == 0
    assert "motif RMSD, A" not in rows_of(found, target="one")


def facts(alive, sound, junctions=(True, True), x=0.0):
    line = np.outer(np.arange(12), [3.8, 0, 0]) + x
    return {
        "alive": alive, "sound": sound, "median_ess": 5.0, "first_ancestors": 2, "junctions": list(junctions),
        "bonds": [True] * 11, "right": 3, "left": 1, "motif_rmsd": 0.0, "alpha_carbons": line.tolist(),
    }  # fmt: skip


def test_a_target_counts_once_whatever_the_number_of_its_good_filters():
    made = {
        "a": [facts(True, True), facts(True, True)],
        "b": [facts(True, False), facts(False, True)],
        "c": [facts(False, False), {"failed": "", "alive": False, "median_ess": 0.0, "first_ancestors": 0}],
    }
    rows = evaluate_targets.total_rows(made, filtered=True)
    own = {row["metric"]: (row["value"], row["n"]) for row in rows if row["of"] == "targets"}
    assert own["with a filter alive"] == (pytest.approx(2 / 3), 3)
    assert own["with one alive and sound"] == (pytest.approx(1 / 3), 3)
    assert {row["metric"]: row["value"] for row in rows}["filters alive"] == 0.5
    assert {row["metric"]: row["value"] for row in rows}["helices to the right"] == 0.75


def test_junctions_are_pooled_over_scaffolds():
    rows = evaluate_targets.total_rows({"a": [facts(True, True), facts(True, False, (False,) * 4)]}, filtered=True)
    assert {row["metric"]: row["value"] for row in rows}["sound junction bonds"] == pytest.approx(2 / 6)
