"""From a kind to files, on the command line as people type it."""

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import LABEL, read_recipe
from inkwash.errors import UserError
from inkwash.systems.restoration import cascade_verbs
from inkwash.systems.restoration.cascade_request import Generate
from tests.systems.restoration.toy import Notes, cascade


def run(tmp_path, **options):
    (tmp_path / "out").mkdir(exist_ok=True)
    context = Notes(tmp_path / "out", toy=cascade())
    return list(cascade_verbs.generate([Generate(model="toy", **options)], context))


def test_kinds_come_in_turn_and_each_picture_says_how_it_was_made(tmp_path):
    found = run(tmp_path, n=3, seed=5, noise_level=0.2, steps=3)
    assert [one.row for one in found] == [
        {"kind": kind, "seed": seed} for kind, seed in (("disc", 5), ("square", 6), ("disc", 7))
    ]
    for one in found:
        recipe = read_recipe(one.files[".png"])
        assert recipe["kind"] == one.row["kind"] and recipe["seed"] == one.row["seed"] and recipe["n"] == 1
        assert (recipe["system"], recipe["noise_level"], recipe["steps"]) == ("cascade", 0.2, 3)
        assert LABEL.encode() in one.files[".png"].read_bytes()
        expected = cascade().generate(recipe["kind"], 1, recipe["seed"], 3, 0.2)[0]
        assert (np.asarray(Image.open(one.files[".png"])) == expected).all()


def test_a_seed_that_is_left_out_is_drawn_and_noted(tmp_path):
    (one,) = run(tmp_path, kind="square")
    again = cascade().generate("square", 1, read_recipe(one.files[".png"])["seed"])[0]
    assert (np.asarray(Image.open(one.files[".png"])) == again).all()


def test_on_the_command_line_and_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cascade().save(tmp_path / "my cells")
    main(["cascade", "generate", "--kind", "disc", "--n", "2", "--seed", "3", "--model", "my cells", "-o", "out"])
    made = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert made == ["disc-3.png", "disc-4.png"]
    capsys.readouterr()
    main(["again", "out/disc-4.png"])
    assert "the same pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "dics"], "did you mean disc"),
        (["--noise-level", "0.1"], "noise_level means nothing"),
        (["--truncated"], "truncated means nothing"),
    ],
)
def test_what_the_model_lacks_is_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cascade(augmentation=False, noise_level=0.0).save(tmp_path / "model")
    assert main(["cascade", "generate", "--model", "model", "-o", "out", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_the_last_seeds_are_made_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cascade().save(tmp_path / "m")
    first = 2**64 - 3
    assert main(["cascade", "generate", "--model", "m", "--n", "3", "--seed", str(first), "-o", "out"]) == 0
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [f"kinds-{seed}.png" for seed in range(first, 2**64)]


def test_names_of_kinds_are_names_of_files_and_seeds_end_where_numbers_do():
    assert Generate(model="m", kind="a/b c", seed=1).stem() == "a-b-c-1" and Generate(model="m").stem() == "kinds"
    with pytest.raises(UserError, match=r"choose a whole number from 0 to 2\^64 - 2"):
        Generate(model="m", n=2, seed=2**64 - 1)
