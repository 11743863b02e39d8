"""What pictures are read, and what is refused in one line."""

import numpy as np
import pytest
from PIL import Image

from inkwash.codecs.picture_files import is_grey, normalised, read_pages, says_of_range
from inkwash.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


@pytest.mark.parametrize("values", [GREY, COLOUR, DEEP], ids=["grey", "colour", "16 bits"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_numbers_are_read_as_they_are(values, ending, tmp_path):
    if ending == "tif":
        pytest.importorskip("tifffile")
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    (page,) = read_pages(tmp_path / f"a.{ending}")
    assert page.dtype == values.dtype and (page == values).all()


@pytest.mark.parametrize(
    ("shape", "axes", "pages"),
    [
        ((3, 6, 9), "ZYX", 3),
        ((5, 6, 9), "TYX", 5),
        ((2, 3, 6, 9), "TCYX", 2),
        ((4, 6, 9, 3), "ZYXS", 4),
        ((2, 6, 9), "CYX", 1),
    ],
)
def test_slices_and_channels_of_a_stack(shape, axes, pages, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = RNG.integers(0, 65536, shape, dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", values, metadata={"axes": axes}, photometric="rgb" if "S" in axes else "minisblack"
    )
    found = read_pages(tmp_path / "a.ome.tif")
    assert len(found) == pages
    expected = {"ZYX": lambda: values[1], "TYX": lambda: values[1], "TCYX": lambda: values[1].transpose(1, 2, 0)}
    expected |= {"ZYXS": lambda: values[1], "CYX": lambda: np.stack([*values, 0 * values[0]], -1)}
    assert (found[-1 if pages == 1 else 1] == expected[axes]()).all()


def test_what_is_transparent_lies_on_white(tmp_path):
    clear = np.dstack([COLOUR, np.full(GREY.shape, 0, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "a.png")
    assert (read_pages(tmp_path / "a.png")[0] == 255).all()


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    assert (read_pages(tmp_path / "a.png")[0] == np.rot90(COLOUR, -1)).all()


def bad(tmp_path):
    """name: (file, what is said)."""
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.tif").write_text("no picture")
    whole = (tmp_path / "whole.png", tmp_path / "cut.png")
    Image.fromarray(RNG.integers(0, 256, (99, 99), dtype=np.uint8)).save(whole[0])
    whole[1].write_bytes(whole[0].read_bytes()[:3000])
    Image.fromarray(GREY[:1]).save(tmp_path / "thin.png")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    return {
        "cmyk.jpg": "CMYK, the colours of print; save it as RGB",
        "film.gif": "animated, of 2 frames; save the one that is meant",
        "film.png": "animated, of 2 frames",
        "text.png": "not a picture that can be read",
        "text.tif": "not a TIFF that can be read",
        "cut.png": "a broken picture",
        "thin.png": "9 x 1 pixels are too few",
        "nan.tif": "values that are not finite",
        "none.png": "no such file",
    }


@pytest.mark.parametrize(
    "name", ["cmyk.jpg", "film.gif", "film.png", "text.png", "text.tif", "cut.png", "thin.png", "nan.tif", "none.png"]
)
def test_bad_pictures_are_one_line(name, tmp_path):
    if name.endswith(".tif"):
        pytest.importorskip("tifffile")
    says = bad(tmp_path)[name]
    with pytest.raises(UserError) as caught:
        read_pages(tmp_path / name)
    assert says in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_sixteen_bits_of_colour_in_a_png_are_not_cut_to_eight(tmp_path):
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + np.full((3, 3), 200, ">u2").tobytes() for _ in range(3))
    parts = (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(UserError, match="16 bits a colour, which is not read; save it as TIFF"):
        read_pages(tmp_path / "deep.png")


def test_a_dark_picture_of_sixteen_bits_is_scaled_and_said():
    dark = np.tile(np.arange(201, dtype=np.uint16), (20, 1))
    notes = []
    says_of_range([dark], "dark.tif", notes.append)
    assert notes == ["dark.tif: 16 bits, of which only 0 to 200 are used: scaled"]
    says_of_range([(dark * 300).astype(np.uint16)], "bright.tif", notes.append)
    assert len(notes) == 1
    scaled = normalised(dark)
    assert scaled.min() == 0 and scaled.max() == 1 and scaled.shape == (20, 201, 3)
    np.testing.assert_allclose(
        normalised((dark * 300).astype(np.uint16)), scaled, atol=1e-6
    )  # the range says nothing


def test_one_value_is_dark_and_grey_is_known():
    assert (normalised(np.full((5, 5), 7, np.uint8)) == 0).all()
    assert is_grey(GREY) and is_grey(np.dstack([GREY] * 3)) and not is_grey(COLOUR)
