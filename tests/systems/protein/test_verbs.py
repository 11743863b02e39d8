"""From a motif's file to scaffolds: what is written agrees with what is told, and mistakes cost nothing."""

import csv
import json

import numpy as np
import pytest
from biotite.structure.io.pdbx import CIFFile

from inkwash.diffusion import DiffusionError
from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.systems.base import File
from inkwash.systems.protein import output, verbs
from inkwash.systems.protein.files import read_atoms, read_chains
from inkwash.systems.protein.request import Sample, Scaffold
from inkwash.version import __version__
from tests.systems.protein import made
from tests.systems.protein.toy import ToyContext, ToyModel

MOTIF = File("0" * 64, "helix.pdb")


def context(tmp_path, text=None, model=None, **options):
    """With a helix of chain P, residues 254 to 265, whose third residue has a side chain."""
    text = text or [*made.lines(12, chain="P", first=254), made.atom("CB", "LEU", "P", 256, (1.5, 2.5, 3.5))]
    source = made.save(tmp_path / "upload", text)
    (tmp_path / "out").mkdir()
    return ToyContext(tmp_path / "out", model or ToyModel(), {MOTIF: source}, **options)


def asked(**options):
    return Scaffold(**{"motif": MOTIF, "contig": "4-8/P255-258/6", "seed": 5, "particles": 8, "steps": 12} | options)


def run(request, where):
    results = list(verbs.scaffold([request], where))
    if request.n == 1:
        return results, results[0]
    *each, whole = results
    assert whole.place is None
    return each, whole


def test_files_say_how_they_were_made(tmp_path):
    """Both formats the model, the seed, the contig as drawn, and the whole recipe, which makes it anew."""
    where = context(tmp_path)
    for format in ("pdb", "cif"):
        (one, _), _ = run(asked(n=2, format=format), where)
        (file,) = (file for ending, file in one.files.items() if ending == f".{format}")
        if format == "pdb":
            remarks = [line[11:] for line in file.read_text().splitlines() if line.startswith("REMARK 999")]
            said = [f"NOTE {output.MADE}", "MODEL backbone", "SEED 5", f"CONTIG {one.row['contig']}"]
            assert remarks[:4] == said and all(line.startswith("RECIPE ") for line in remarks[4:])
        else:
            block = CIFFile.read(str(file)).block
            found = {name: column.as_item() for name, column in block["inkwash"].items()}
            assert json.loads(found.pop("recipe")) == json.loads(json.dumps(one.recipe))
            assert found == {"note": output.MADE, "model": "backbone", "seed": "5", "contig": one.row["contig"]}
            assert block["software"]["version"].as_item() == __version__
            assert block["exptl"]["method"].as_item() == "THEORETICAL MODEL"
    (one,) = verbs.sample([Sample(length="20", seed=3, steps=4, format="cif")], where)
    found = CIFFile.read(str(one.files[".cif"])).block["inkwash"]
    assert found["seed"].as_item() == "3" and json.loads(found["recipe"].as_item())["verb"] == "sample"


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_the_motif_in_the_files_is_the_input_atom_for_atom(tmp_path, format):
    where = context(tmp_path)
    each, _ = run(asked(n=3, format=format), where)
    source = read_chains(where.files[MOTIF])["P"]
    for one in each:
        atoms = read_atoms(one.files[f".{format}"])
        first = int(one.row["contig"].split("/")[0]) + 1
        chain = read_chains(one.files[f".{format}"])["A"]
        assert chain.labels == tuple(str(i + 1) for i in range(one.row["length"]))
        assert chain.residues[first - 1 : first + 3] == source.residues[1:5]
        assert set(chain.residues[: first - 1] + chain.residues[first + 3 :]) == {"GLY"}
        assert np.allclose(chain.coordinates[first - 1 : first + 3], source.coordinates[1:5], atol=1e-6)
        marked = np.array([str(n) for n in atoms.res_id[atoms.b_factor == 1]])
        assert set(marked) == {str(first + i) for i in range(4)}
        side = atoms[(atoms.atom_name == "CB")]
        assert side.coord.tolist() == [[1.5, 2.5, 3.5]]
        assert side.res_id.tolist() == [first + 1]
        assert {"N", "CA", "C", "O"} <= set(atoms.atom_name[atoms.res_id == first + 3])


def test_tables_and_files_say_the_same(tmp_path):
    where = context(tmp_path)
    each, whole = run(asked(n=3), where)
    with whole.files[".csv"].open() as file:
        rows = list(csv.DictReader(file))
    facts = json.loads(whole.files[".json"].read_text())
    assert whole.files["-ess.png"].read_bytes()[:4] == b"\x89PNG"
    assert [int(row["seed"]) for row in rows] == [5, 6, 7] == [one.recipe["seed"] for one in each]
    for row, fact, one in zip(rows, facts, each, strict=True):
        assert (
            int(row["length"])
            == fact["length"]
            == one.row["length"]
            == len(read_chains(one.files[".pdb"])["A"].labels)
        )
        assert row["contig"] == fact["contig"]
        assert 14 <= fact["length"] <= 18
        assert list(fact["motif"]) == ["P255", "P256", "P257", "P258"]
        assert fact["motif"]["P255"] == int(fact["contig"].split("/")[0]) + 1
        assert len(fact["ess"]) == 12
        assert float(row["median_ess"]) == pytest.approx(np.median(fact["ess"]), abs=0.02)
        assert len(fact["weights"]) == 8
        assert sum(fact["weights"]) == pytest.approx(1, abs=1e-4)
        assert row["alive"] == str(fact["alive"])
        assert 0 <= int(row["junctions_sound"]) <= int(row["junctions"]) == 2
        dead = [note for note in where.notes() if note.startswith(f"seed {row['seed']}: the filter died")]
        assert len(dead) == (not fact["alive"])
    assert f"{sum(fact['alive'] for fact in facts)} of 3 filters alive" in whole.row["text"]
    done = [(event.done, event.total) for event in where.told if isinstance(event, Progress)]
    assert done == [(i + 1, 36) for i in range(36)]


def test_a_scaffold_of_a_seed_is_the_same_alone_and_among_others(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    each, _ = run(asked(n=3), context(tmp_path / "a"))
    (alone,), _ = run(asked(seed=7), context(tmp_path / "b"))
    assert alone.files[".pdb"].read_text() == each[2].files[".pdb"].read_text()
    assert alone.recipe == each[2].recipe


@pytest.mark.parametrize("method", ["replacement", "fixed"])
def test_methods_without_particles_say_nothing_of_filters(tmp_path, method):
    each, whole = run(asked(method=method, particles=None, n=2), context(tmp_path))
    assert [*whole.files] == [".csv", ".json"]
    assert "alive" not in each[0].row
    assert each[0].row["junctions"] == 2
    assert "filters" not in whole.row["text"]
    with pytest.raises(UserError, match=f"particles means nothing with the method {method}"):
        asked(method=method)


def test_the_contig_of_the_file_is_taken_and_another_one_is_said(tmp_path):
    header = ["REMARK 999 INPUT      5   5", "REMARK 999 INPUT  P 255 257", "REMARK 999 INPUT      4   9"]
    header += ["REMARK 999 MINIMUM TOTAL LENGTH      13", "REMARK 999 MAXIMUM TOTAL LENGTH      14"]
    where = context(tmp_path, header + made.lines(12, chain="P", first=254))
    lengths = {one.row["length"] for one in run(asked(contig=None, n=6), where)[0]}
    assert lengths == {13, 14}
    (one,), _ = run(asked(contig=None, length="16"), where)
    assert one.row["contig"] == "5/P255-257/8"
    (one,), _ = run(asked(contig="3/P258-258/10"), where)
    assert one.row["contig"] == "3/P258-258/10"
    assert any("its own contig, 5-5/P255-257/4-9, is not followed" in note for note in where.notes())


def test_a_header_that_cannot_be_followed_does_not_stand_in_the_way_of_another_contig(tmp_path):
    header = ["REMARK 999 INPUT  P 255 256 A", "REMARK 999 INPUT  P 258 259 B"]
    where = context(tmp_path, header + made.lines(12, chain="P", first=254))
    with pytest.raises(UserError, match="motifs that move apart"):
        run(asked(contig=None), where)
    (one,), _ = run(asked(contig="3/P258-258/10"), where)
    assert one.row["contig"] == "3/P258-258/10"


def test_the_residues_that_were_taken_are_said(tmp_path):
    where = context(tmp_path)
    run(asked(), where)
    assert "the motif: 4 residues, P255 (VAL) to P258 (LYS); chains of 14 to 18 residues" in where.notes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"contig": None}, "helix.pdb: no contig in it"),
        ({"contig": "4/A1-5/4"}, "helix.pdb: A1-5 of the contig is not there: chain P has 254-265"),
        ({"contig": "4/P250-258/4"}, "there is no P250; chain P has 254-265"),
        (
            {"contig": "40-60/P255-258/40"},
            "the contig makes chains of 84 to 104 residues; the model makes at most 60",
        ),
        ({"length": "70-80"}, "length 70-80: the model makes at most 60"),
        ({"length": "20-30"}, "length 20-30: the contig makes chains of 14 to 18"),
        ({"length": "many"}, "length 'many'"),
        ({"contig": "1/P255-258/1"}, "the model makes at least 10"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(tmp_path, options, reason):
    where = context(tmp_path)
    with pytest.raises(UserError, match=reason):
        next(verbs.scaffold([asked(**options)], where))
    assert not list(where.folder.iterdir())
    assert not any(isinstance(event, Progress) for event in where.told)


def test_ca_alone_is_refused_by_a_model_of_whole_backbones_and_taken_by_one_of_ca(tmp_path):
    trace = [line for line in made.lines(12, chain="P", first=254) if line[12:16].strip() == "CA"]
    where = context(tmp_path, trace)
    with pytest.raises(UserError, match="P255, P256, P257, P258: not all of N, CA and C are in the file"):
        next(verbs.scaffold([asked()], where))
    where.own = ToyModel(atoms=1)
    (one,), _ = run(asked(), where)
    atoms = read_atoms(one.files[".pdb"])
    assert set(atoms.atom_name) == {"CA"}
    assert len(atoms) == one.row["length"]
    assert np.allclose(atoms.coord[atoms.b_factor == 1], read_chains(where.files[MOTIF])["P"].coordinates[1:5, 1])


def test_a_single_scaffold_has_its_tables_beside_it(tmp_path):
    (one,), _ = run(asked(), context(tmp_path))
    assert [*one.files] == [".pdb", ".png", ".csv", ".json", "-ess.png"]
    assert json.loads(one.files[".json"].read_text())[0]["seed"] == 5


def test_a_run_that_is_stopped_keeps_what_is_made(tmp_path):
    where = context(tmp_path, stop_after=2 * 12 + 3)  # within the third
    each, whole = run(asked(n=5), where)
    assert len(each) == 2
    assert len(json.loads(whole.files[".json"].read_text())) == 2
    assert len([event for event in where.told if isinstance(event, Progress)]) == 2 * 12 + 4


def test_a_filter_without_weights_costs_only_its_own_scaffold(tmp_path, monkeypatch):
    whole = verbs.around_motif

    def failing(model, motif, lengths, seed, **options):
        if seed != 6:
            raise DiffusionError("every particle has weight 0")
        return whole(model, motif, lengths, seed, **options)

    monkeypatch.setattr(verbs, "around_motif", failing)
    where = context(tmp_path)
    each, table = run(asked(n=3), where)
    assert [one.recipe["seed"] for one in each] == [6]
    assert table.row["text"].startswith("1 backbone: ")
    died = "the filter died, and nothing is made of it (every particle has weight 0)"
    assert [note for note in where.notes() if "nothing is made" in note] == [f"seed {n}: {died}" for n in (5, 7)]
    with pytest.raises(UserError, match="no scaffold could be made"):
        list(verbs.scaffold([asked(seed=1)], where))


def test_backbones_have_the_lengths_that_were_asked_for(tmp_path):
    where = ToyContext(tmp_path, ToyModel())
    *each, whole = verbs.sample([Sample(length="20-23", n=12, seed=1)], where)
    assert {one.row["length"] for one in each} == {20, 21, 22, 23}
    for one in each:
        assert len(read_chains(one.files[".pdb"])["A"].labels) == one.row["length"]
    assert "12 backbones: " in whole.row["text"]
    (alone,) = verbs.sample([Sample(length="20-23", seed=4)], ToyContext(tmp_path, ToyModel()))
    assert alone.row == each[3].row
    assert [*alone.files] == [".pdb", ".png", ".csv", ".json"]
    with pytest.raises(UserError, match="a number of residues is needed"):
        next(verbs.sample([Sample(length="20 to 30")], where))
