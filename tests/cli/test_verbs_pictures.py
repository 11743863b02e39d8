import json
import os
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import decode_ico, read_recipe
from tests.models import tiny


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def shape(file):
    return pixels(file).shape


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "own-icons"
    tiny(mean=True, distance_field=True, reference=True, parametrization="flow").save(folder)
    return folder


@pytest.mark.parametrize("ending", ["svg", "webp", "ico", "png"])
def test_the_ending_says_the_format_and_again_makes_the_same(ending, icons, tmp_path, capsys):
    file = tmp_path / f"my 图标.{ending}"
    options = ["--model", str(icons), "--seed", "7", "--weight", "1.5", "--colors", "#0F62FE", "--style", "flat"]
    assert main(["generate", "a fox", *options, "-o", str(file)]) == 0
    recipe = read_recipe(file)
    facts = {name: recipe.get(name, "png") for name in ("prompt", "seed", "weight", "colors", "format")}
    assert facts == {"prompt": "a fox", "seed": 7, "weight": 1.5, "colors": "#0F62FE", "format": ending}
    assert main(["again", str(file), "--inputs", str(icons.parent)]) == 0
    same = "the same bytes" if ending == "svg" else "the same pixels"
    assert capsys.readouterr().out.splitlines()[-1] == same
    again = tmp_path / f"my 图标-again.{ending}"
    assert again.read_bytes() == file.read_bytes()
    assert main(["generate", "a fox", *options, "-o", str(file)]) == 2  # it is there
    again.write_bytes(file.read_bytes()[:-20])
    if ending == "svg":
        assert main(["again", str(again), "--inputs", str(icons.parent)]) == 0
        assert "not the same bytes" in capsys.readouterr().out


def test_another_format_than_the_ending_is_refused(icons, tmp_path, capsys):
    for format, name in (("png", "a.svg"), ("svg", "a.png"), ("favicon", "a.ico")):
        words = ["generate", "fox", "--model", str(icons), "--format", format, "-o", str(tmp_path / name)]
        assert main(words) == 2
        assert f"not of the format {format}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "svg"], "unknown format 'svg'"),
        (["--format", "favicon"], "unknown format 'favicon'"),
        (["--weight", "2"], "weight means nothing"),
        (["--colors", "red"], "colors means nothing"),
    ],
)
def test_pixels_are_neither_svg_nor_of_a_weight_nor_a_colour(options, words, tiny_folder, tmp_path, capsys):
    assert main(["generate", "fox", "--model", str(tiny_folder), "-o", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weight", "0.5"], "weight = 0.5: strokes of"),
        (["--colors", "blurple"], "'blurple' is no colour"),
        (["--colors", "red,blue"], "1 colour, 2 are given"),
        (["--colors", "#0F62FE80"], "is no colour"),
        (["--format", "svg", "--size", "64"], "size means nothing with the format svg"),
        (["--format", "svg", "--to", "a cat"], "format means nothing with --to"),
        (["--format", "svg", "--image", "IMAGE", "--outpaint", "0.2"], "outpaint means nothing with the format svg"),
        (
            ["--format", "favicon", "--image", "IMAGE", "--mask", "IMAGE"],
            "mask means nothing with the format favicon",
        ),
        (["--format", "svg", "--image", "IMAGE", "--strength", "0"], "a picture of pixels, which is no SVG"),
        (["--format", "ico", "--size", "500"], "an ICO has pictures of 256 pixels at most"),
    ],
)
def test_what_an_icon_cannot_be_is_one_line(options, words, icons, tmp_path, capsys):
    Image.new("RGB", (8, 8), "white").save(file := tmp_path.with_name(f"{tmp_path.name}.png"))
    options = [str(file) if option == "IMAGE" else option for option in options]
    assert main(["generate", "fox", "--model", str(icons), "-o", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_stays_of_an_image_is_in_an_ico_too(icons, tmp_path):
    """It has pixels, of which a distance field knows nothing: those of the picture, not of the drawing."""
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    options = ["--model", str(icons), "--image", str(tmp_path / "red.png"), "--strength", "0", "--size", "32"]
    assert main(["generate", "fox", *options, "-o", str(tmp_path / "a.ico")]) == 0
    for picture in decode_ico((tmp_path / "a.ico").read_bytes()):
        assert (np.asarray(picture)[..., :3] == (255, 0, 0)).all()


def test_an_animation_is_drawn_alike_a_picture_and_a_sprite_says_what_it_cannot_use(icons, tmp_path, capsys):
    disc = Image.new("L", (64, 64), 255)
    disc.paste(0, (16, 16, 48, 48))
    disc.save(tmp_path / "box.gif", "PNG")  # by its content
    films = []
    for like in ([], ["--like", str(tmp_path / "box.gif")]):
        words = ["generate", "a fox", "--to", "a cat", "--n", "2", "--seed", "7", "--model", str(icons), *like]
        assert main([*words, "-o", str(tmp_path)]) == 0
        films.append(tmp_path / capsys.readouterr().out.split()[0])
    assert not (pixels(films[0]) == pixels(films[1])).all() and read_recipe(films[1])["like"]["name"] == "box.gif"
    (tmp_path / "rows.csv").write_text("prompt\na fox (\n")
    table = ["generate", "--csv", str(tmp_path / "rows.csv"), "--model", str(icons), "--sprite"]
    assert main([*table, "-o", str(tmp_path / "s.svg")]) == 0
    assert "'(' in the prompt has no fellow" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["gif", "jpg", "webp", "svg"])
def test_a_png_by_another_name_is_made_again_and_begun_from(ending, icons, tmp_path, capsys):
    options = ["--model", str(icons), "--seed", "7", "-o"]
    assert main(["generate", "a fox", *options, str(tmp_path / "a.png")]) == 0
    other = (tmp_path / "a.png").rename(tmp_path / f"b.{ending}")
    assert main(["again", str(other), "--inputs", str(icons.parent)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [str(tmp_path / "b-again.png"), "the same pixels"]
    for name in ("image", "like"):
        assert main(["generate", "a cat", f"--{name}", str(other), *options, str(tmp_path / f"{name}.png")]) == 0


def test_an_emoji_is_a_webp_and_an_ico_of_its_own_size_at_most(tiny_folder, tmp_path):
    options = ["--model", str(tiny_folder), "--seed", "7", "--size", "32", "-o"]
    for ending in ("png", "webp", "ico"):
        assert main(["generate", "a fox", *options, str(tmp_path / f"fox.{ending}")]) == 0
    png, webp = (pixels(tmp_path / f"fox.{ending}") for ending in ("png", "webp"))
    assert (png == webp).all()
    sizes = [picture.size for picture in decode_ico((tmp_path / "fox.ico").read_bytes())]
    assert sizes == [(16, 16), (24, 24), (32, 32)]


def test_favicons_are_a_new_folder_each_time(icons, tmp_path, capsys):
    options = ["--model", str(icons), "--seed", "7", "--format", "favicon", "-o", str(tmp_path)]
    assert main(["generate", "a fox", *options]) == 0 and main(["generate", "a fox", *options]) == 0
    assert sorted(os.listdir(tmp_path)) == ["a-fox-7", "a-fox-7-2"]
    folder = tmp_path / "a-fox-7"
    named = re.findall('href="/([^"]+)"', (folder / "favicon.html").read_text())
    assert len(named) == 3 and all((folder / name).is_file() for name in named)
    for name, size in (("apple-touch-icon", 180), ("icon-192", 192), ("icon-512", 512)):
        assert shape(folder / f"{name}.png")[:2] == (size, size)
    assert shape(folder / "apple-touch-icon.png") == (180, 180, 3)  # opaque
    for name in ("favicon.ico", "favicon.svg", "icon-192.png"):
        assert main(["again", str(folder / name), "--inputs", str(icons.parent), "-o", str(tmp_path)]) == 0
        assert "\nthe same " in capsys.readouterr().out


def test_a_table_of_formats_makes_nothing_twice_and_replaces_nothing(icons, tmp_path, capsys):
    table = tmp_path / "rows.csv"
    table.write_text(
        "name,prompt,format,weight,colors\n火箭,fox,svg,,\nmy cat.ico,cat,ico,,teal\nset,dog,favicon,,\nnew,owl,,3,\n"
    )
    out = tmp_path / "out"
    words = ["generate", "--csv", str(table), "--model", str(icons), "-o", str(out)]
    assert main(words) == 0
    made = {"results.jsonl", "火箭.svg", "my-cat.ico", "set", "new.png"}
    assert set(os.listdir(out)) == made and read_recipe(out / "new.png")["weight"] == 3
    assert main(words) == 0 and "0 made, 4 there already" in capsys.readouterr().err
    (out / "火箭.svg").write_text("mine")
    assert main(words) == 2
    assert "line 2: " in (error := capsys.readouterr().err) and "is there already" in error
    assert (out / "火箭.svg").read_text() == "mine" and set(os.listdir(out)) == made


def test_a_sprite_has_a_symbol_for_each_row(icons, tmp_path, capsys):
    table, out = tmp_path / "rows.csv", tmp_path / "my icons.svg"
    table.write_text('name,prompt,style\n,red fox,\n,red fox,noto\n3 dots,cat,\n火箭 "<&>,dog,\n')
    words = ["generate", "--csv", str(table), "--model", str(icons), "--style", "flat", "--sprite", "-o", str(out)]
    assert main(words) == 0
    symbols = ElementTree.parse(out).findall(f"{SVG}symbol")
    assert [symbol.get("id") for symbol in symbols] == ["red-fox", "red-fox-2", "icon-3-dots", "火箭"]
    assert {symbol.get("viewBox") for symbol in symbols} == {"0 0 24 24"}
    recipes = [json.loads(symbol.find(f"{SVG}metadata").text)["inkwash"] for symbol in symbols]
    assert [recipe["style"] for recipe in recipes] == ["flat", "noto", "flat", "flat"]
    assert shape(tmp_path / "my icons.png") == (196, 196, 3)
    assert main(words) == 2 and "is there already" in capsys.readouterr().err
    assert main(["again", str(out), "--inputs", str(icons.parent)]) == 2
    assert "a grid of several" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ("prompt,format\nfox,\ncat,png\n", ["-o", "a.svg"], "line 3: a sprite has one SVG of each row"),
        ("prompt,weight\nfox,\ncat,99\n", ["-o", "a.svg"], "line 3: weight = 99"),
        ("prompt\n", ["-o", "a.svg"], "no rows"),
        ("prompt\nfox\n", ["-o", "folder"], "it is one file"),
        ("prompt\nfox\n", ["-o", "a.svg", "--plan"], "leave --plan out"),
        ("prompt\nfox\n", ["-o", "a.svg", "--colors", "red,blue"], "1 colour"),
    ],
)
def test_a_sprite_that_cannot_be_made_leaves_nothing(rows, options, words, icons, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(rows)
    assert main(["generate", "--csv", "rows.csv", "--model", str(icons), "--sprite", *options]) == 2
    assert words in capsys.readouterr().err and os.listdir(tmp_path) == ["rows.csv"]


def test_a_sprite_without_a_table_is_refused(icons, tmp_path, capsys):
    assert main(["generate", "fox", "--model", str(icons), "--sprite", "-o", str(tmp_path / "a.svg")]) == 2
    assert "give one with --csv" in capsys.readouterr().err
