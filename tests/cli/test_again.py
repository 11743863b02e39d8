"""`inkwash again FILE` for files of every system: the same atoms to the last digit, or a word that they are not."""

import json

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.systems.crystals.recorded import IN_FRAME, START, recorded
from tests.systems.protein import made

CRYSTALS = ["crystals", "generate", "--n", "3", "--seed", "11", "--steps", "8", "--prototype", "ABX3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of three crystals by the shipped model."""
    folder = tmp_path_factory.mktemp("run")
    assert main([*CRYSTALS, "-o", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_each_file_of_backbones_and_their_figures_are_made_anew(format, tmp_path, capsys):
    command = ["protein", "sample", "--length", "20-22", "--n", "3", "--steps", "4", "--seed", "5"]
    assert main([*command, "--format", format, "-o", str(tmp_path)]) == 0
    structures = sorted(tmp_path.glob(f"backbone-*.{format}"))
    assert [file.stem for file in structures] == ["backbone-5", "backbone-6", "backbone-7"]
    capsys.readouterr()
    for file, what in [*((file, "atoms") for file in structures[1:]), (tmp_path / "backbone.json", "numbers")]:
        assert main(["again", str(file)]) == 0
        made, words = capsys.readouterr().out.splitlines()
        assert words == f"the same {what}" and made == str(file.with_name(f"{file.stem}-again{file.suffix}"))
        assert file.with_name(f"{file.stem}-again{file.suffix}").read_bytes() == file.read_bytes()


def test_a_scaffold_is_made_anew_from_its_motif_which_must_be_there_unchanged(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    motif = made.save(tmp_path / "in" / "helix.pdb", made.lines(8, chain="P", first=1))
    command = ["protein", "scaffold", str(motif), "--contig", "8-10/P2-6/8", "--steps", "4", "--particles", "4"]
    assert main([*command, "--seed", "5", "-o", str(tmp_path / "out")]) == 0
    file = tmp_path / "out" / "helix-scaffold-5.pdb"
    capsys.readouterr()
    assert main(["again", str(file)]) == 2
    assert "was made from helix.pdb, which is not here: put it beside that file" in capsys.readouterr().err
    for one in (file, file.with_suffix(".json"), file.with_suffix(".png")):
        assert main(["again", str(one), "--inputs", str(motif.parent)]) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith("the same ")
    motif.write_text(motif.read_text() + "REMARK 1\n")
    assert main(["again", str(file), "--inputs", str(motif.parent)]) == 2
    assert "helix.pdb, which has changed" in capsys.readouterr().err


def names(folder, ending):
    return sorted(file for file in folder.glob(f"*{ending}") if "-again" not in file.name)


def test_each_file_of_crystals_is_made_anew_to_the_last_digit(run, capsys):
    """Those of one of several, too, whose last digits are not those that it has alone."""
    plain = [file for file in names(run, ".cif") if not file.stem.endswith("-sym")]
    files = [plain[1], *names(run, "-sym.cif")[-1:], run / "crystal.extxyz", plain[2].with_suffix(".png")]
    for file in files:
        assert main(["again", str(file)]) == 0
        written, words = capsys.readouterr().out.splitlines()
        assert words == f"the same {'pixels' if file.suffix == '.png' else 'atoms'}" and written == str(
            file.with_name(f"{file.stem}-again{file.suffix}")
        )
        assert file.with_name(f"{file.stem}-again{file.suffix}").read_bytes() == file.read_bytes()
    recipe = recorded(plain[1]).recipe
    assert recipe["n"] == 1 and recipe["run"] == {"n": 3, "seed": 11} and recipe["seed"] > 11


def test_a_changed_model_and_changed_atoms_are_said(run, tmp_path, capsys):
    file = names(run, ".cif")[0]
    text = file.read_text()
    moved = tmp_path / "moved.cif"
    moved.write_text(text.replace("  0.", "  0.1", 1))
    assert main(["again", str(moved)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("not the same atoms: ")
    other = tmp_path / "other.cif"
    other.write_text(text.replace(recorded(file).recipe["hash"], "0" * 64))
    assert main(["again", str(other)]) == 0
    shown = capsys.readouterr()
    assert "the model 'perov' has changed since; what is made will differ" in shown.err
    assert shown.out.splitlines()[1] == "the same atoms"  # it is said by the hash, and they are compared all the same


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "train"}, {"verb": "evaluate"}, {"system": "series", "verb": "forecast"}, {"system": "pictures"},
        {"run": 3}, {"run": {"n": "3"}}, {"run": {"n": 10**9, "seed": 0}}, {"seed": -1}, {"formula": 5},
        {"hash": None},
        {"elements": "Xx"},
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_followed_is_refused_before_anything_is_made(change, run, tmp_path, capsys):
    recipe = recorded(names(run, ".cif")[0]).recipe | change
    recipe = {key: value for key, value in recipe.items() if key != "hash" or value is not None}
    file = tmp_path / "a.cif"
    file.write_text(f"{START}{json.dumps(recipe)}\ndata_x\n")
    assert main(["again", str(file)]) == 2
    assert "can follow" in capsys.readouterr().err and [one.name for one in tmp_path.iterdir()] == ["a.cif"]


def test_files_without_a_recipe_are_refused_in_one_line(run, tmp_path, capsys):
    (tmp_path / "mine.cif").write_text("data_x\n_cell_length_a 4\n")
    (tmp_path / "mine.extxyz").write_text(IN_FRAME.sub("", (run / "crystal.extxyz").read_text()))
    for file in (tmp_path / "mine.cif", tmp_path / "mine.extxyz", run / "crystal.csv"):
        assert main(["again", str(file)]) == 2
        shown = capsys.readouterr().err
        assert "no recipe in it" in shown and shown.count("\n") == 1
    assert main(["again", str(tmp_path)]) == 2 and "give one of its files" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["mask", "overlay", "probability", "uncertainty"])
def test_each_picture_of_a_segmentation_is_made_anew_from_its_picture(ending, tmp_path, capsys):
    """A mask has numbers of 16 bits, of which none may be lost on the way."""
    pytest.importorskip("skimage")
    from tests.systems.segmentation import cells, toy

    toy.model().save(tmp_path / "toy")
    cells.folder(tmp_path / "in", 1)
    words = [str(tmp_path / "in" / "images"), "--model", str(tmp_path / "toy"), "--seed", "3", "-o", str(tmp_path)]
    assert main(["segment", *words]) == 0
    file = tmp_path / f"cell_0-{ending}.png"
    command = ["again", str(file), "--out", str(tmp_path / "again.png")]
    assert main([*command, "--inputs", str(tmp_path / "in" / "images")]) == 0
    assert "the same pixels" in capsys.readouterr().out
    with Image.open(file) as before, Image.open(tmp_path / "again.png") as after:
        assert (np.asarray(before) == np.asarray(after)).all() and before.mode == after.mode
