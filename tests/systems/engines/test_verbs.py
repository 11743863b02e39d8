"""Engines on the command line: pictures, progress, and what `again` says of them."""

import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.systems.engines.addresses import ADDRESSES
from inkwash.systems.engines.model import save_all
from inkwash.systems.pictures.data import load_image
from tests.systems.engines.server import MODEL, as_json, color, draw


@pytest.fixture
def folder(images, tmp_path, monkeypatch):
    text = f"qwen={images.url}#{MODEL}"
    monkeypatch.setenv(ADDRESSES, text)
    return save_all([text], tmp_path / "engines")[0]


def run(*words):
    return main([str(word) for word in words])


def test_several_pictures_have_seeds_that_follow(images, folder, tmp_path, capsys):
    size = ("--width", 32, "--height", 16)
    assert run("engines", "generate", "a fox", "--model", folder, "--n", 2, "--seed", 7, *size, "-o", tmp_path) == 0
    assert [asked.fields["seed"] for asked in images.asked] == [7, 8]
    assert all(asked.fields["n"] == 1 for asked in images.asked)
    for seed in (7, 8):
        assert load_image(tmp_path / f"a-fox-{seed}.png").getpixel((0, 0)) == color(seed)
    assert load_image(tmp_path / "a-fox-grid.png").width > 2 * 32


def test_generate_takes_an_engine_by_its_model(images, folder, tmp_path):
    assert run("generate", "a fox", "--model", folder, "--seed", 7, "-o", tmp_path / "fox.png") == 0
    assert read_recipe(tmp_path / "fox.png")["system"] == "engines"


def test_what_the_protocol_has_not_is_refused(images, folder, tmp_path, capsys):
    for option in ("--steps=4", "--negative=blue", "--device=cuda", "--size=64"):
        assert run("engines", "generate", "a fox", "--model", folder, option, "-o", tmp_path) == 2
        assert option.partition("=")[0] in capsys.readouterr().err
    assert images.asked == []


def test_a_failure_is_one_line(images, folder, tmp_path, capsys):
    images.answer = lambda asked: as_json({"detail": "against the policy"}, 400)
    assert run("engines", "generate", "a fox", "--model", folder, "-o", tmp_path / "out") == 2
    assert capsys.readouterr().err == "inkwash: the engine qwen refuses this (400): against the policy\n"
    assert not list((tmp_path / "out").glob("*"))


def test_again_asks_the_engine_and_promises_nothing(images, folder, tmp_path, capsys):
    file = tmp_path / "fox.png"
    size = ("--width", 32, "--height", 16)
    assert run("engines", "generate", "a fox", "--model", folder, "--seed", 7, *size, "-o", file) == 0
    again = ("again", file, "--inputs", folder.parent, "-o")
    assert run(*again, tmp_path / "1.png") == 0
    assert "the same pixels" in capsys.readouterr().out
    images.answer = lambda asked: draw(asked._replace(fields={**asked.fields, "seed": 99}))
    assert run(*again, tmp_path / "2.png") == 0
    said = f"not the same pixels: {MODEL} drew it elsewhere, and no engine promises the same"
    assert said in capsys.readouterr().out


def test_an_edit_is_made_again_from_its_picture(images, folder, tmp_path, capsys):
    Image.new("RGB", (50, 20), "red").save(tmp_path / "photo.png")
    Image.new("L", (50, 20), 255).save(tmp_path / "mask.png")
    given = ("--image", tmp_path / "photo.png", "--mask", tmp_path / "mask.png")
    file = tmp_path / "fox.png"
    assert run("engines", "generate", "a fox", "--model", folder, *given, "-o", file) == 0
    assert load_image(file).size == (48, 16)
    assert run("again", file, "--inputs", folder.parent, "-o", tmp_path / "1.png") == 0
    assert "the same pixels" in capsys.readouterr().out
