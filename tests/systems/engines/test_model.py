"""A picture that an engine draws: what it is asked, what of its answer comes in, and what the file says of itself."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.codecs.png import KEY, LABEL, embedded_recipe
from inkwash.errors import UserError
from inkwash.systems import makes
from inkwash.systems.engines.addresses import ADDRESSES, KEYS
from inkwash.systems.engines.limits import limits as limits_of
from inkwash.systems.engines.model import save_all
from tests.systems.engines.server import MODEL, as_json, color, data, picture

SIZE = {"width": 32, "height": 16, "seed": 7}


def test_a_picture_from_words_is_asked_for_as_both_engines_document_it(images, engine):
    drawn = engine.generate("a fox", **SIZE)
    (asked,) = images.asked
    assert asked.path == "/v1/images/generations" and not asked.files
    assert asked.fields == {
        "model": MODEL, "prompt": "a fox", "n": 1, "size": "32x16", "seed": 7,
        "response_format": "b64_json", "output_format": "png",
    }  # fmt: skip
    assert drawn.size == (32, 16) and drawn.getpixel((0, 0)) == color(7)


def test_what_is_not_said_is_usual(images, engine):
    drawn = engine.generate("a fox")
    fields = images.asked[0].fields
    assert fields["size"] == "1024x1024" and drawn.size == (1024, 1024)
    assert drawn.info[KEY]["seed"] == fields["seed"] and 0 <= fields["seed"] < 2**32
    assert {name: limit.default for name, limit in limits_of(Path()).items()} == {
        "width": 1024,
        "height": 1024,
    }


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    return Image.fromarray(pixels)


def test_an_edit_sends_the_picture_at_a_size_that_engines_draw(images, engine, photo):
    drawn = engine.generate("make it blue", image=photo, seed=7)
    (asked,) = images.asked
    assert asked.path == "/v1/images/edits" and list(asked.files) == ["image"]
    assert asked.fields == {
        "model": MODEL, "prompt": "make it blue", "n": "1", "size": "48x32", "seed": "7",
        "response_format": "b64_json", "output_format": "png",
    }  # fmt: skip
    sent = Image.open(io.BytesIO(asked.files["image"]))
    assert sent.format == "PNG" and sent.size == drawn.size == (48, 32)
    assert drawn.info[KEY]["image"]["sha256"]
    engine.generate("make it blue", image=photo, width=64, height=64)
    assert Image.open(io.BytesIO(images.asked[1].files["image"])).size == (64, 64)


def test_outside_the_mask_the_picture_stays_whatever_the_engine_does(images, engine, photo):
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, 25, 30))
    drawn = engine.generate("a hat", image=photo, mask=mask, seed=7)
    files = images.asked[0].files
    sent, alpha = Image.open(io.BytesIO(files["image"])), Image.open(io.BytesIO(files["mask"]))
    assert alpha.mode == "RGBA" and alpha.getpixel((0, 0))[3] == 0 and alpha.getpixel((47, 31))[3] == 255
    pixels, kept = np.asarray(drawn), np.asarray(sent)
    assert drawn.mode == "RGB" and (pixels[:, :23] == color(7)).all() and (pixels[:, 25:] == kept[:, 25:]).all()


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_three_formats_come_in(images, engine, format):
    images.answer = lambda asked: picture(Image.new("RGB", (32, 16), "red"), format)
    red = engine.generate("a fox", **SIZE).getpixel((5, 5))
    assert np.abs(np.subtract(red, (255, 0, 0))).max() < 6


def test_transparency_comes_in_and_nothing_else_of_the_file(images, engine):
    secret = Image.new("RGBA", (32, 16), (1, 2, 3, 4))
    images.answer = lambda asked: picture(secret, pnginfo=hidden(), icc_profile=b"profile", exif=b"Exif\0\0hidden")
    drawn = engine.generate("a fox", **SIZE)
    file = io.BytesIO()
    drawn.save(file, format="PNG")
    assert drawn.getpixel((0, 0)) == (1, 2, 3, 4)
    assert not any(word in file.getvalue() for word in (b"hidden", b"profile"))


def hidden():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("inkwash", '{"prompt": "hidden"}')
    return info


def bomb():
    """A PNG that says it has 100,000 x 100,000 pixels."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="32" height="16"/>'
NOISE = Image.frombytes("RGB", (32, 16), np.random.default_rng(0).bytes(32 * 16 * 3))
HALF = base64.b64encode(base64.b64decode(encoded(NOISE))[:500]).decode()


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (as_json({"data": []}), "no picture in base64"),
        (as_json({"data": None}), "no picture in base64"),
        (as_json({}), "no picture in base64"),
        (as_json([]), "no picture in base64"),
        (as_json("text"), "no picture in base64"),
        (as_json({"data": [{"b64_json": None, "url": "http://elsewhere/a.png"}]}), "broken base64"),
        (data(7), "broken base64"),
        (data("not base64!"), "broken base64"),
        (data("é"), "broken base64"),
        (data(""), "no PNG, JPEG or WEBP"),
        (data(base64.b64encode(SVG).decode()), "no PNG, JPEG or WEBP"),
        (data(base64.b64encode(b"GIF89a" + bytes(100)).decode()), "no PNG, JPEG or WEBP"),
        (data(encoded(Image.new("RGB", (32, 16)), "GIF")), "no PNG, JPEG or WEBP"),
        (data(base64.b64encode(bomb()).decode()), "no PNG, JPEG or WEBP|drew 100000 x 100000 pixels"),
        (data(encoded(Image.new("RGB", (16, 32)))), "drew 16 x 32 pixels where 32 x 16 were asked for"),
        (data(HALF), "a broken picture"),
    ],
)
def test_an_answer_that_is_no_picture_is_one_line(images, engine, answer, line):
    images.answer = lambda asked: answer
    with pytest.raises(UserError, match=f"the engine qwen .*({line})") as error:
        engine.generate("a fox", **SIZE)
    assert "elsewhere" not in str(error.value) and len(images.asked) == 1


def test_a_recipe_says_what_drew_and_neither_where_nor_by_which_key(images, engine):
    file = io.BytesIO()
    engine.generate("a fox", **SIZE).save(file, format="PNG")
    png = file.getvalue()
    recipe = embedded_recipe(png)
    assert recipe["system"] == "engines" and recipe["model"] == "qwen" and recipe["engine"] == MODEL
    assert (recipe["prompt"], recipe["seed"], recipe["width"], recipe["height"]) == ("a fox", 7, 32, 16)
    assert LABEL.encode() in png and b"127.0.0.1" not in png and b"secret" not in png


def test_a_model_is_a_name_on_the_disk_and_an_address_in_the_environment(images, engine, tmp_path, monkeypatch):
    text = f"qwen={images.url}#{MODEL}"
    (folder,) = save_all([text], tmp_path / "engines")
    assert [file.name for file in folder.iterdir()] == ["system.json"]
    facts = json.loads((folder / "system.json").read_text())
    assert facts == {"system": "engines", "engine": "qwen", "model": MODEL}
    assert makes(folder) == f"pictures from words, drawn elsewhere by {MODEL}"
    with pytest.raises(UserError, match="the engine qwen is not known here"):
        inkwash.load(folder)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "system.json").write_text('{"system": "engines", "engine": "qwen"}')
    with pytest.raises(UserError, match="broken"):
        inkwash.load(tmp_path / "broken")
    monkeypatch.setenv(ADDRESSES, text)
    monkeypatch.setenv(KEYS, "qwen=sk-env")
    assert inkwash.load(folder).generate("a fox", **SIZE).size == (32, 16)
    assert images.asked[0].headers["authorization"] == "Bearer sk-env"


def test_a_large_picture_keeps_its_shape_and_a_mask_of_another_is_refused(images, engine):
    start = Image.new("RGB", (4000, 1000), "red")
    drawn = engine.generate("a fox", image=start)
    assert images.asked[0].fields["size"] == "2048x512" and drawn.size == (2048, 512)
    with pytest.raises(UserError, match=r"the mask has 100 x 400 pixels, the picture 4000 x 1000: give one of the"):
        engine.generate("a fox", image=start, mask=Image.new("L", (100, 400), 255))
