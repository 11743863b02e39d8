"""The verbs on the command line: what is kept is recorded, and drawn again."""

import json

import numpy as np
import pytest
from PIL import Image, ImageSequence

import inkwash
from inkwash.cli import main
from inkwash.codecs.png import KEY, read_recipe
from inkwash.errors import UserError
from inkwash.systems import systems
from inkwash.systems.base import Request, options
from tests.models import tiny, wordless


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
    assert "photo.png, which has changed: put it beside that file" in capsys.readouterr().err
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


FILM = {
    "style": "noto", "seed": 7, "negative": "a hat", "sampler": "ancestral", "steps": 2, "grid": "karras",
    "guidance": 2.5, "size": 24, "transparent": True,
}  # fmt: skip


def frames_of(file):
    with Image.open(file) as animation:
        return [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(animation)]


def test_an_animation_takes_the_options_of_a_picture_and_is_made_anew(tmp_path, capsys):
    """Each option changes it, its ends are the pictures of the prompts, and its file says how it was made."""
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    model = inkwash.load(tmp_path / "m")
    frames = [array(frame) for frame in model.interpolate("a fox", "a cat", 3, **FILM)]
    for end, prompt in ((frames[0], "a fox"), (frames[-1], "a cat")):
        assert np.abs(end - array(model.generate(prompt, **FILM))).max() <= 1
    for name in FILM:
        other = model.interpolate("a fox", "a cat", 3, **{key: FILM[key] for key in FILM if key != name})[1]
        assert array(other).shape != frames[1].shape or (array(other) != frames[1]).any(), name
    options = [f"--{name}" if value is True else f"--{name}={value}" for name, value in FILM.items()]
    command = ["generate", "a fox", "--to", "a cat", "--n", "3", *options, "--model", str(tmp_path / "m")]
    assert main([*command, "-o", str(tmp_path)]) == 0
    animation, _ = capsys.readouterr().out.split()
    recipe = read_recipe(tmp_path / animation)
    assert (FILM | {"prompt": "a fox", "to": "a cat", "n": 3, "hash": model.hash}).items() <= recipe.items()
    shown = frames_of(animation)
    clear = [frame[..., 3] < 128 for frame in frames]
    assert all((new[..., 3] == 0).tolist() == old.tolist() for new, old in zip(shown, clear, strict=False))
    assert len(shown) == 4 and any(c.any() for c in clear) and not all(c.all() for c in clear)
    assert main(["again", animation]) == 0
    again, words = capsys.readouterr().out.splitlines()
    assert words == "the same pixels" and again.endswith("-again.gif")
    assert (tmp_path / again).read_bytes() == (tmp_path / animation).read_bytes()
    model.interpolate("a fox", "a cat", 3, seed=7)[1].save(tmp_path / "frame.png")
    assert main(["again", str(tmp_path / "frame.png")]) == 2
    assert "it asks for several pictures" in capsys.readouterr().err


def test_an_animation_has_as_many_pictures_as_are_asked_for_and_a_seed_of_its_own(tmp_path, capsys):
    tiny(latent=True, parametrization="flow", steps=1).save(tmp_path / "m")
    command = ["generate", "a fox", "--to", "a cat", "--model", str(tmp_path / "m"), "-o", str(tmp_path)]
    seeds = set()
    for given, n in ((["--n", "2"], 2), (["--n", "9"], 9), ([], 8)):
        assert main([*command, *given]) == 0
        animation, _ = capsys.readouterr().out.split()
        recipe = read_recipe(tmp_path / animation)
        assert recipe["n"] == n and len(frames_of(animation)) == 2 * n - 2
        seeds.add(recipe["seed"])
    assert len(seeds) == 3 and 0 not in seeds
    assert main([*command, "--n", "1"]) == 2
    assert "n = 1: from one prompt to another there are 2 pictures at least" in capsys.readouterr().err
    model = inkwash.load(tmp_path / "m")
    films = [model.generate("a fox", to="a cat") for _ in range(2)]
    assert [len(film) for film in films] == [8, 8] and films[0][0].info[KEY]["seed"] != films[1][0].info[KEY]["seed"]
    for given, words in (({"n": 1}, "from 2 to"), ({"image": films[0][0]}, "image means nothing with to")):
        with pytest.raises(UserError, match=words):
            model.generate("a fox", to="a cat", **given)


def test_a_model_without_words_is_asked_without_a_prompt(tmp_path, capsys):
    """By the command line, by a table and in Python; and what it cannot hear is refused."""
    wordless(tmp_path / "m")
    command = ["generate", "--model", str(tmp_path / "m"), "-o", str(tmp_path / "out")]
    assert main([*command, "--seed", "7"]) == 0
    made = tmp_path / "out" / "picture-7.png"
    assert capsys.readouterr().out == f"{made}\n"
    model = inkwash.load(tmp_path / "m")
    assert (array(Image.open(made)) == array(model.generate(seed=7))).all()
    assert main(["again", str(made), "--inputs", str(tmp_path)]) == 0 and "the same pixels" in capsys.readouterr().out
    (tmp_path / "rows.csv").write_text("seed,steps\n8,\n9,2\n")
    assert main([*command, "--csv", str(tmp_path / "rows.csv")]) == 0
    (tmp_path / "rows.csv").write_text("prompt,seed\na fox,10\n,11\n")
    capsys.readouterr()
    assert main([*command, "--csv", str(tmp_path / "rows.csv")]) == 2
    assert "line 2: prompt means nothing with the model m: leave it out" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "picture-11.png", "picture-7-again.png", "picture-7.png", "picture-8.png", "picture-9.png"
    ]  # fmt: skip
    for name, value in (("prompt", "a fox"), ("negative", "a hat"), ("to", "a cat"), ("guidance", 2.0)):
        arguments = [value] if name == "prompt" else [f"--{name}", str(value)]
        assert main([*command, *arguments]) == 2
        assert f"{name} means nothing with the model m: leave it out" in capsys.readouterr().err
        with pytest.raises(UserError, match=f"{name} means nothing with a model without words"):
            model.generate(**{name: value})


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
    assert "was made from photo.png, which is not here: put it beside that file, or give its folder" in shown
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
        "prompt,style,seed,name,steps\na fox,flat,7,,\n猫,,,second,2\na dog,flat,x,,\n,flat,,,\na cow,oil,,,\n,,,,\n",
        encoding="utf-8-sig",
    )
    arguments = ["generate", "--csv", str(csv_file), "--model", str(tmp_path / "m"), "-o", str(out)]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out.split() == [str(out / "a-fox-flat-7.png"), str(out / "second.png")]
    assert "prompts.csv, line 4, column seed: 'x' is no whole number" in captured.err
    assert "prompts.csv, line 5: the prompt is empty" in captured.err
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
    for text, words in (
        ("words\na\n", "unknown column"),
        ("style\nflat\n", "line 2: the prompt is empty"),
        ("", "no column"),
    ):
        csv_file.write_text(text, encoding="utf-8")
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


def test_no_option_hides_what_a_request_does():
    for system in systems().values():
        for verb in system.verbs.values():
            assert not options(verb.request).keys() & vars(Request).keys(), verb.request


def test_it_is_said_that_of_several_frames_the_first_is_taken(tiny_folder, tmp_path, monkeypatch, capfd):
    """And nothing by Pillow of a picture that is large, and none the less read."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "gray")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.png")
    begin = ["generate", "a fox", "--model", str(tiny_folder), "--steps", "1", "-o", str(tmp_path), "--image"]
    assert main([*begin, str(tmp_path / "moving.gif")]) == 0
    assert capfd.readouterr().err == "inkwash: image: it has several frames or pages: the first is taken\n"
    assert main([*begin, str(tmp_path / "still.png")]) == 0
    assert not capfd.readouterr().err
    assert main([*begin, str(tmp_path / "still.png"), "--mask", str(tmp_path / "moving.gif")]) == 0
    assert capfd.readouterr().err.startswith("inkwash: mask: it has several frames")
