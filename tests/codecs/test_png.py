import pickle
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from inkwash.codecs.png import GeneratedImage, read_recipe, write_png
from inkwash.errors import UserError


def test_a_recipe_and_the_label_for_generated_media_come_back(tmp_path):
    recipe = {"prompt": '狐狸 🦊 "quoted"', "seed": 2**64 - 1, "guidance": 2.5, "style": None}
    write_png(Image.new("RGB", (4, 4), "red"), tmp_path / "a.png", recipe)
    assert read_recipe(tmp_path / "a.png") == recipe
    with Image.open(tmp_path / "a.png") as picture:
        xmp = ElementTree.fromstring(picture.info["xmp"])
    (description,) = xmp.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    (source,) = (value for key, value in description.items() if key.endswith("}DigitalSourceType"))
    assert source.endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_files_without_a_recipe(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    write_png(Image.new("RGB", (4, 4)), tmp_path / "grid.png", [{"seed": 1}, {"seed": 2}])
    for name, words in (
        ("plain", "no recipe"),
        ("text", "not a picture"),
        ("none", "no such file"),
        ("grid", "a grid"),
    ):
        with pytest.raises(UserError, match=words):
            read_recipe(tmp_path / f"{name}.png")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def half(file, data):
        with file.open("wb") as opened:
            opened.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match="No space left"):
        write_png(Image.new("RGB", (4, 4)), tmp_path / "a.png", {})
    assert list(tmp_path.iterdir()) == []


def label(file):
    with Image.open(file) as picture:
        xmp = picture.info.get("xmp", b"")
    return b"trainedAlgorithmicMedia" in (xmp if isinstance(xmp, bytes) else xmp.encode())


def test_a_generated_picture_saves_its_recipe_and_label(tmp_path):
    recipe = {"prompt": "狐狸", "seed": 2**64 - 1}
    picture = GeneratedImage(Image.new("RGBA", (4, 4), "red"), recipe)
    write_png(picture, tmp_path / "command.png", recipe)
    picture.save(tmp_path / "a.png")
    picture.save(str(tmp_path / "b.png"), optimize=True)
    with (tmp_path / "c.png").open("wb") as file:
        picture.save(file, "PNG")
    pickle.loads(pickle.dumps(picture)).save(tmp_path / "d.png")
    for name in "abcd":
        assert read_recipe(tmp_path / f"{name}.png") == recipe and label(tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "command.png").read_bytes()
    GeneratedImage(picture).save(tmp_path / "without.png")
    assert label(tmp_path / "without.png")
    with pytest.raises(UserError, match="no recipe"):
        read_recipe(tmp_path / "without.png")


def test_other_formats_have_the_label_alone_and_what_is_made_from_it_neither(tmp_path):
    picture = GeneratedImage(Image.new("RGB", (4, 4), "red"), {"seed": 1})
    for name in ("a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"):
        picture.save(tmp_path / name)
        assert label(tmp_path / name) == (name in ("a.jpg", "a.webp"))
    picture.resize((2, 2)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="no recipe"):
        read_recipe(tmp_path / "small.png")
