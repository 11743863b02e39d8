import pickle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageSequence

from inkwash.codecs.png import (
    COMPOSITE,
    GeneratedImage,
    encode_png,
    encode_webp,
    read_recipe,
    replace_recipe,
    write_gif,
    write_png,
    xmp_packet,
)
from inkwash.errors import UserError

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def test_a_recipe_and_the_label_for_generated_media_come_back(tmp_path):
    recipe = {"prompt": '狐狸 🦊 "quoted"', "seed": 2**64 - 1, "guidance": 2.5, "style": None}
    write_png(Image.new("RGB", (4, 4), "red"), tmp_path / "a.png", recipe)
    assert read_recipe(tmp_path / "a.png") == recipe
    with Image.open(tmp_path / "a.png") as picture:
        xmp = ElementTree.fromstring(picture.info["xmp"])
    (description,) = xmp.iter(f"{RDF}Description")
    (source,) = (value for key, value in description.items() if key.endswith("}DigitalSourceType"))
    assert source.endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_what_other_tools_read_is_written_with_a_recipe_alone(tmp_path):
    made = GeneratedImage(Image.new("RGB", (4, 4), "red"), {"seed": 1})
    made.parameters = "a fox\nSteps: 2, Seed: 1, Size: 4x4"
    write_png(made, tmp_path / "a.png", {"seed": 1})
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["parameters"] == made.parameters
        write_png(
            picture, tmp_path / "b.png", {"seed": 2}
        )  # nor in a picture that was read, of which it may be untrue
    write_png(made, tmp_path / "c.png", None)
    for name in ("b", "c"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert "parameters" not in picture.info


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


def test_an_animation_has_its_recipe_and_the_label_and_clears_what_is_clear(tmp_path):
    recipe, frames = {"prompt": "狐狸 🦊", "seed": 2**64 - 1}, []
    for x in range(3):
        frames.append(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
        frames[-1].paste((255, 0, 0, 200), (x, 0, x + 2, 8))
        frames[-1].paste((0, 0, 255, 100), (x + 2, 0, x + 3, 8))  # less than half: clear
    write_gif(frames, tmp_path / "a.gif", recipe)
    assert read_recipe(tmp_path / "a.gif") == recipe
    with Image.open(tmp_path / "a.gif") as animation:
        shown = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(animation)]
    for x, frame in enumerate(shown):
        assert (frame[:, x : x + 2] == [255, 0, 0, 255]).all() and frame[..., 3].sum() == 2 * 8 * 255
    raw = (tmp_path / "a.gif").read_bytes()
    packet = raw.partition(b"!\xff\x0bXMP DataXMP")[2]
    (description,) = ElementTree.fromstring(packet[: packet.index(b"\x01\xff\xfe")]).iter(f"{RDF}Description")
    assert any(value.endswith("/trainedAlgorithmicMedia") for value in description.attrib.values())
    at = 0
    while packet[at]:  # a reader that knows only blocks, each after its length, finds the end
        at += packet[at] + 1
    assert packet[at:] == b"\0;"


@pytest.mark.parametrize("encode", [encode_png, encode_webp])
def test_the_part_that_was_drawn_is_a_region_and_stays_one_with_another_recipe(encode, tmp_path):
    data = encode(Image.new("RGB", (8, 8), "red"), {"seed": 1}, xmp_packet(COMPOSITE, (1, 2, 3, 4)))
    for recipe in ({"seed": 2}, None):
        data = replace_recipe(data, recipe)
        (tmp_path / "a").write_bytes(data)
        with Image.open(tmp_path / "a") as picture:
            xmp = ElementTree.fromstring(picture.info["xmp"])
        sides = {child.tag.partition("}")[2]: child.text for child in xmp.iter()}
        assert [sides[name] for name in ("rbX", "rbY", "rbW", "rbH")] == ["1", "2", "3", "4"]
        assert COMPOSITE in [
            value for description in xmp.iter(f"{RDF}Description") for _, value in description.items()
        ]
        if recipe:
            assert read_recipe(tmp_path / "a") == recipe
    with pytest.raises(UserError, match="no recipe in it"):
        read_recipe(tmp_path / "a")
