"""The settings in pictures of other tools."""

import json

import pytest
from PIL import Image, PngImagePlugin

from inkwash.codecs.png import encode_webp, write_png
from inkwash.errors import UserError
from inkwash.systems.checkpoints.settings import COMMENT, EXIF, settings_of
from tests.systems.checkpoints.test_workflows import BASE

TEXT = "a café 猫\nNegative prompt: a dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x8"


def picture(path, **texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_pngs_of_a1111_and_comfyui(tmp_path):
    a1111 = settings_of(picture(tmp_path / "a.png", parameters=TEXT)).options
    assert (a1111["prompt"], a1111["negative"], a1111["sampler"]) == ("a café 猫", "a dog", "euler_ancestral")
    comfyui = settings_of(picture(tmp_path / "b.png", prompt=json.dumps(BASE), workflow="{}")).options
    assert comfyui["seed_like"] == "comfyui" and comfyui["prompt"].startswith("beautiful")


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize(
    ("mark", "coding"), [(b"UNICODE\0", "utf-16-be"), (b"UNICODE\0", "utf-16-le"), (b"\0" * 8, "utf-8")]
)
def test_comments_in_exif(tmp_path, kind, mark, coding):
    exif = Image.Exif()
    exif.get_ifd(EXIF)[COMMENT] = mark + TEXT.encode(coding)
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    assert settings_of(path).options["prompt"] == "a café 猫"


def test_ours_are_the_recipe_itself(tmp_path):
    recipe = {"prompt": "a", "seed": 5, "grid": "uniform", "strength": None, "version": "0.1", "model": "m"}
    write_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", recipe)
    found = settings_of(tmp_path / "a.png")
    assert found == ({"model": "m", "prompt": "a", "seed": 5, "grid": "uniform"}, [])


def test_ours_of_a_webp_and_what_else_it_was_drawn_with(tmp_path):
    recipe = {"prompt": "a", "seed": 5, "adapters": [{"name": "ink"}], "refiner": None, "image": {"name": "x"}}
    (tmp_path / "a.webp").write_bytes(encode_webp(Image.new("RGB", (8, 8)), recipe))
    options, notes = settings_of(tmp_path / "a.webp")
    assert options == {"prompt": "a", "seed": 5}
    assert notes == [f"it was drawn with an {what}, not taken: give it again" for what in ("adapter", "image")]
    write_png(Image.new("RGB", (8, 8)), tmp_path / "b.png", recipe | {"system": "pictures"})
    assert settings_of(tmp_path / "b.png").notes[-1].startswith("it was drawn by no checkpoint")


def test_what_holds_none(tmp_path):
    with pytest.raises(UserError, match="no settings in it"):
        settings_of(picture(tmp_path / "a.png", Comment="a fox", parameters=" "))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(UserError, match="not a picture"):
        settings_of(tmp_path / "b.png")
    with pytest.raises(UserError, match="no such file"):
        settings_of(tmp_path / "c.png")
    with pytest.raises(UserError, match=r"d\.png: no workflow of ComfyUI"):
        settings_of(picture(tmp_path / "d.png", prompt="a fox"))
