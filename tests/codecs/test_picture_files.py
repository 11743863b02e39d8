"""What pictures are read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from inkwash.codecs.picture_files import (
    check,
    is_grey,
    is_hidden,
    normalised,
    read_pages,
    resized,
    says_of_range,
    size_of,
    stem_of,
    unreadable,
)
from inkwash.errors import UserError
from tests.systems.segmentation.cells import deep_png

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
    for values, white in ((GREY, 255), (GREY.astype(np.uint16) * 9, 65535)):  # one of which stands for nothing
        Image.fromarray(values).save(tmp_path / "b.png", transparency=int(values[0, 0]))
        found = read_pages(tmp_path / "b.png")[0]
        shown = found if found.ndim == 2 else found[..., 1]
        assert (shown == np.where(values == values[0, 0], white, values)).all()


def test_a_fourth_channel_that_is_no_opacity_is_not_passed_over(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    how = {"photometric": "rgb", "extrasamples": ["unspecified"], "metadata": None}
    tifffile.imwrite(tmp_path / "padded.tif", np.dstack([COLOUR, 0 * GREY]), **how)
    assert (read_pages(tmp_path / "padded.tif")[0] == COLOUR).all()
    tifffile.imwrite(tmp_path / "four.tif", np.dstack([COLOUR, GREY]), **how)
    with pytest.raises(UserError, match="4 channels; save the one, or the three, that are meant"):
        read_pages(tmp_path / "four.tif")


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd"])
def test_compressed_numbers_are_the_same(compression, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    deep = np.random.default_rng(0).integers(0, 65536, (3, 9, 12), np.uint16)
    for name, values, how in (
        ("grey", deep[0], "minisblack"), ("stack", deep, "minisblack"), ("rgb", np.moveaxis(deep, 0, -1), "rgb"),
        ("bytes", (deep[0] >> 8).astype(np.uint8), "minisblack"),
    ):  # fmt: skip
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric=how, compression=compression)
        pages = read_pages(tmp_path / f"{name}.tif")
        assert (np.stack(pages) == (values if name == "stack" else values[None])).all()
        assert pages[0].dtype == values.dtype


def test_what_a_compression_needs_is_said():
    error = ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")
    assert str(unreadable(Path("a.tif"), error)).endswith("uncompressed, or pip install 'inkwash[segmentation]'")
    assert "pip" not in str(unreadable(Path("a.tif"), ValueError("cut off")))


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
    deep_png(tmp_path / "deep.png")
    with pytest.raises(UserError, match="16 bits a colour, which is not read; save it as TIFF"):
        read_pages(tmp_path / "deep.png")


def test_a_dark_picture_of_sixteen_bits_is_scaled_and_said():
    dark = np.tile(np.arange(201, dtype=np.uint16), (20, 1))
    notes = []
    says_of_range([dark], "dark.tif", notes.append)
    assert notes == ["dark.tif: 16 bits, of which only 0 to 200 are used: scaled"]
    says_of_range([(dark * 300).astype(np.uint16)], "bright.tif", notes.append)
    assert len(notes) == 1
    dark[0, 0] = 4095  # white, of twelve bits
    says_of_range([dark], "twelve.tif", notes.append)
    assert notes[1:] == ["twelve.tif: 16 bits, of which only 0 to 4095 are used: scaled"]
    dark[0, 0] = 0
    scaled = normalised(dark)
    assert scaled.min() == 0 and scaled.max() == 1 and scaled.shape == (20, 201, 3)
    np.testing.assert_allclose(
        normalised((dark * 300).astype(np.uint16)), scaled, atol=1e-6
    )  # the range says nothing


def test_one_value_is_dark_and_grey_is_known():
    assert (normalised(np.full((5, 5), 7, np.uint8)) == 0).all()
    assert is_grey(GREY) and is_grey(np.dstack([GREY] * 3)) and not is_grey(COLOUR)


TIFFS = {
    "CMYK": ({"photometric": "separated"}, np.dstack([COLOUR, GREY]), "CMYK, the colours of print; save it as RGB"),
    "LAB": ({"photometric": "cielab"}, COLOUR, "LAB; save it as RGB"),
    "YCbCr": ({"photometric": "ycbcr"}, COLOUR, "YCbCr; save it as RGB"),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_of_colours_that_are_not_rgb_is_refused(kind, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    options, values, says = TIFFS[kind]
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(UserError, match=says):
        read_pages(tmp_path / "a.tif")


def test_a_tiff_is_read_as_the_same_picture_in_a_png(tmp_path):
    pytest.importorskip("tifffile")
    alpha = np.where(GREY > 128, 255, GREY)
    pictures = [
        Image.fromarray(np.dstack([COLOUR, alpha])),
        Image.fromarray(np.dstack([GREY, alpha]), "LA"),
        Image.fromarray(COLOUR).quantize(16),
        Image.fromarray(GREY > 128),
    ]
    for picture in pictures:
        for ending in ("png", "tif"):
            picture.save(tmp_path / f"a.{ending}")
        one, other = (read_pages(tmp_path / f"a.{ending}")[0] for ending in ("png", "tif"))
        other = other.astype(int) * (255 if other.dtype == bool else 1)
        other = other if one.ndim == other.ndim else np.dstack([other] * 3)
        assert np.abs(one.astype(int) - other).max() <= 1, picture.mode


def test_white_is_zero_where_a_tiff_says_so(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for values, expected in ((GREY, 255 - GREY), (GREY > 128, GREY <= 128)):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
        assert (read_pages(tmp_path / "a.tif")[0] == expected).all()


def test_pages_written_one_after_the_other_are_slices(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for value in (1, 2, 3):
            file.write(GREY + value)
    assert [
        (page == GREY + value).all() for page, value in zip(read_pages(tmp_path / "a.tif"), (1, 2, 3), strict=True)
    ]
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(GREY)
        file.write(GREY[1:])
    with pytest.raises(UserError, match="2 pictures of different sizes in one file"):
        read_pages(tmp_path / "b.tif")


def test_a_file_of_an_ome_set_is_itself_and_not_the_set(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    data = "".join(
        f'<TiffData FirstT="{i}" IFD="0" PlaneCount="1"><UUID FileName="{i}.ome.tif">urn:uuid:{i}</UUID></TiffData>'
        for i in range(2)
    )
    size = 'SizeX="9" SizeY="6" SizeZ="1" SizeC="1" SizeT="2"'
    for i in range(2):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{i}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {size}>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", GREY + i, description=xml, metadata=None)
    for i in range(2):
        (page,) = read_pages(tmp_path / f"{i}.ome.tif")
        assert (page == GREY + i).all()


def test_a_stack_that_was_cut_off_is_refused(tmp_path):
    pytest.importorskip("tifffile")
    pages = [Image.fromarray(DEEP)] * 4
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: len(whole) // 2])
    assert len(read_pages(tmp_path / "a.tif")) == 4
    with pytest.raises(UserError, match="cut off, and slices are missing"):
        read_pages(tmp_path / "b.tif")


@pytest.mark.parametrize("scale", [1e-16, 1.0, 1e300])
def test_numbers_of_any_size_become_0_to_1(scale):
    expected = normalised(GREY)
    np.testing.assert_allclose(normalised(GREY * scale), expected, atol=1e-6)
    np.testing.assert_allclose(normalised(GREY + np.uint32(4_000_000_000)), expected, atol=1e-6)


def test_size_is_that_of_the_turned_picture(tmp_path):
    pytest.importorskip("tifffile")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(COLOUR).save(tmp_path / "a.tif")
    assert size_of(tmp_path / "a.jpg") == (6, 9) and size_of(tmp_path / "a.tif") == (9, 6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 3, 4)),
        np.zeros(5),
        np.zeros((0, 0)),
        np.full((3, 3), np.inf),
        np.full((3, 3), -3.4e38, np.float32),
        np.full((3, 3), 1j),
    ],
)
def test_arrays_that_are_no_picture_are_one_line(array):
    with pytest.raises(UserError, match=r"a: "):
        check(array, "a")


def test_a_picture_s_name_is_one_whatever_wrote_it():
    names = (
        "f\u00fcr 1.5.PNG",
        "fu\u0308r 1.5.png",
        " f\u00fcr 1.5",
        "C:\\my data\\f\u00fcr 1.5.tif",
        "a/b/f\u00fcr 1.5.jpg",
    )
    assert {stem_of(name) for name in names} == {"f\u00fcr 1.5"}


def test_what_is_hidden_is_so_by_itself_or_by_a_folder():
    hidden = [is_hidden(Path(".x/data", name), Path(".x/data")) for name in ("a.png", "._a.png", ".git/a.png")]
    assert hidden == [False, True, True]


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (16, 24), (11, 4), (1, 1)])
def test_another_size_is_what_an_independent_implementation_says(size):
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    expected = F.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=False, antialias=True)
    np.testing.assert_allclose(resized(x, size), expected, atol=1e-6)


@pytest.mark.parametrize("entry", [b"\x02\0\x02\0\0\0x\0\0\0", b"\x03\0\x01\0\0\0\x63\0\0\0"], ids=["text", "99"])
def test_an_orientation_that_is_none_turns_nothing(entry, tmp_path):
    head = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"  # one entry follows: type, count, value
    Image.new("L", (9, 6)).save(tmp_path / "a.jpg", exif=head + entry + b"\0\0\0\0")
    assert size_of(tmp_path / "a.jpg") == (9, 6) == read_pages(tmp_path / "a.jpg")[0].shape[::-1]
