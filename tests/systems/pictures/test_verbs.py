"""The verbs on the command line: what is kept is recorded, and drawn again."""

import json

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs.png import KEY, read_recipe
from inkwash.systems import systems
from inkwash.systems.base import Request, options
from tests.models import tiny


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(file)
    return file


def array(picture):
    return np.asarray(picture).astype(int)


def test_the_command_line_edits_and_draws_again(photo, tmp_path, capsys):
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    generated = tmp_path / "made.png"
    Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
    arguments = [
        "generate",
        "--model",
        str(tmp_path / "m"),
        "--image",
        str(photo),
        "--mask",
        str(tmp_path / "mask.png"),
    ]
    assert main([*arguments, "--seed", "3", "-o", str(generated)]) == 0  # without words, too
    assert main(["again", str(generated)]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out
    recipe = read_recipe(generated)
    Image.new("RGB", (16, 16)).save(photo)
    assert main(["again", str(generated)]) == 2
    assert "photo.png, which has changed: put it beside the picture" in capsys.readouterr().err
    assert (
        main(["generate", "a fox", "--model", str(tmp_path / "m"), "--to", "a cat", "-n", "3", "-o", str(tmp_path)])
        == 0
    )
    animation, grid = capsys.readouterr().out.split()
    with Image.open(animation) as frames, Image.open(grid) as page:
        assert frames.n_frames == 4 and page.size == (2 * 18, 2 * 18)
        comment = json.loads(frames.info["comment"])
    assert comment["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    arguments = {"verb": "generate", "prompt": "a fox", "to": "a cat", "n": 3, "hash": recipe["hash"]}
    assert arguments.items() <= comment[KEY].items() and f"-{comment[KEY]['seed']}.gif" in animation
    assert main(["again", animation]) == 2
    assert "an animation; its comment says how it was made" in capsys.readouterr().err


def test_recipes_name_what_went_in_and_not_where_it_lies(photo, tmp_path, capsys, monkeypatch):
    """By its name and content `again` finds it beside the picture, in the current folder, or in the one given."""
    pictures, made = tmp_path / "pictures", tmp_path / "made"
    pictures.mkdir(), made.mkdir()
    photo = photo.rename(pictures / "photo.png")
    tiny(latent=True, parametrization="flow").save(pictures / "m")
    generated = made / "fox.png"
    command = ["generate", "a fox", "--model", str(pictures / "m"), "--image", str(photo), "-o", str(generated)]
    monkeypatch.chdir(made)
    assert main(command) == 0
    recipe = read_recipe(generated)
    assert str(tmp_path) not in json.dumps(recipe) and recipe["model"] == "m"
    assert set(recipe["image"]) == {"name", "sha256"} and recipe["image"]["name"] == "photo.png"
    assert main(["again", str(generated)]) == 2
    assert "was made by the model m, which is not here" in capsys.readouterr().err
    assert main(["again", str(generated), "--inputs", str(pictures)]) == 0
    monkeypatch.chdir(pictures)
    assert main(["again", str(generated)]) == 0
    assert capsys.readouterr().out.count("\nthe same pixels") == 2
    photo.rename(made / "photo.png")
    assert main(["again", str(generated)]) == 0  # a model here, a picture beside it
    (made / "photo.png").unlink()
    assert main(["again", str(generated)]) == 2
    shown = capsys.readouterr().err
    assert "was made from photo.png, which is not here: put it beside the picture, or give its folder" in shown
    assert shown.count("\n") == 1


def test_animations_and_tables_name_no_place_either(tmp_path, capsys, monkeypatch):
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    model = ["--model", str(tmp_path / "m")]
    assert main(["generate", "a fox", *model, "--to", "a cat", "-n", "2", "--seed", "1"]) == 0
    (tmp_path / "t.csv").write_text("prompt\na fox\n")
    for answer in ("made", "there already"):
        assert main(["generate", "--csv", str(tmp_path / "t.csv"), *model]) == 0
        assert f"1 {answer}" in capsys.readouterr().err
    written = [file.read_bytes() for file in (tmp_path / "out").iterdir()]
    assert len(written) == 4 and all(str(tmp_path).encode() not in content for content in written)


def test_a_table_of_prompts_is_drawn_row_by_row_and_resumed(tmp_path, capsys):
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    csv_file, out = tmp_path / "prompts.csv", tmp_path / "out"
    csv_file.write_text(
        "prompt,style,seed,name,steps\na fox,flat,7,,\n猫,,,second,2\na dog,flat,x,,\n,,,,\na cow,oil,,,\n",
        encoding="utf-8-sig",
    )
    arguments = ["generate", "--csv", str(csv_file), "--model", str(tmp_path / "m"), "-o", str(out)]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out.split() == [str(out / "a-fox-flat-7.png"), str(out / "second.png")]
    assert "prompts.csv, line 4, column seed: 'x' is no whole number" in captured.err
    assert "prompts.csv, line 5, column prompt: empty" in captured.err
    assert (
        "prompts.csv, line 6: unknown style 'oil'" in captured.err
        and "2 made, 0 there already, 3 broken" in captured.err
    )
    model = inkwash.load(tmp_path / "m")
    expected = array(model.generate("a fox", style="flat", seed=7))
    assert (array(Image.open(out / "a-fox-flat-7.png")) == expected).all()
    recipe = read_recipe(out / "second.png")
    assert (recipe["seed"], recipe["steps"], recipe["prompt"]) == (3, 2, "猫")  # its line, where no seed is given

    csv_file.write_text("prompt,style,seed,name,steps\na fox,flat,7,,\n猫,,3,second,3\n", encoding="utf-8")
    before = (out / "a-fox-flat-7.png").stat().st_mtime_ns
    assert main(arguments) == 0
    assert "1 made, 1 there already, 0 broken" in capsys.readouterr().err  # one row asks for other steps now
    assert (out / "a-fox-flat-7.png").stat().st_mtime_ns == before
    for text, words in (("words\na\n", "unknown column"), ("style\nflat\n", "no column 'prompt'"), ("", "no column")):
        csv_file.write_text(text, encoding="utf-8")
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


def test_no_option_hides_what_a_request_does():
    for system in systems().values():
        for verb in system.verbs.values():
            assert not options(verb.request).keys() & vars(Request).keys(), verb.request
