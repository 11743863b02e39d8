from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from inkwash.codecs.png import read_recipe, write_png
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
    write_png(Image.new("RGB", (4, 4)), tmp_path / "sheet.png", [{"seed": 1}, {"seed": 2}])
    for name, words in (
        ("plain", "no recipe"),
        ("text", "not a picture"),
        ("none", "no such file"),
        ("sheet", "a sheet"),
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
