"""Photographs come back from files as they went in, or are refused in one line."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from inkwash.codecs.png import COMPOSITE, read_recipe, xmp_packet
from inkwash.errors import UserError
from inkwash.systems.pictures.data import load_image
from inkwash.systems.restoration.photos import (
    SUFFIX,
    Photo,
    format_for,
    read_photo,
    resized_alpha,
    turned,
    write_photo,
)

RNG = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PLANES = {
    (bits, colours): RNG.integers(0, 2**bits, (6, 9, 3)[: 2 + (colours == 3)], dtype=f"uint{bits}")
    for bits in (8, 16)
    for colours in (1, 3)
}
WRITTEN = [
    (kind, bits, colours, alpha)
    for kind in ("png", "webp", "tiff")
    for bits, colours in PLANES
    for alpha in (False, True)
    if bits == 8 or kind == "tiff" or (kind == "png" and colours == 1 and not alpha)
]


@pytest.mark.parametrize(("kind", "bits", "colours", "alpha"), WRITTEN)
def test_a_picture_with_opacity_profile_and_label_comes_back(kind, bits, colours, alpha, tmp_path):
    pytest.importorskip("tifffile")
    pixels = PLANES[bits, colours]
    if kind == "webp" and colours == 1:
        pixels = np.repeat(pixels[..., None], 3, -1)  # which has no grey
    photo = Photo(pixels, PLANES[bits, 1][::-1].copy() if alpha else None, PROFILE, kind)
    file = tmp_path / f"ein Bild é{SUFFIX[kind]}"
    write_photo(photo, file, {"seed": 3}, xmp_packet(COMPOSITE, (1, 2, 3, 4)))
    found = read_photo(file)
    assert found.format == kind and found.icc == PROFILE
    assert found.pixels.dtype == pixels.dtype and (found.pixels == pixels).all()
    assert found.alpha is None if photo.alpha is None else (found.alpha == photo.alpha).all()
    content = file.read_bytes()
    assert COMPOSITE.encode() in content and b"<Iptc4xmpExt:rbW>3</Iptc4xmpExt:rbW>" in content
    if kind != "tiff":
        assert read_recipe(file) == {"seed": 3}


def test_a_jpeg_keeps_its_profile_and_its_label(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 48, 0)
    write_photo(Photo(smooth, None, PROFILE, "jpeg"), tmp_path / "a.jpg", {}, xmp_packet(COMPOSITE))
    found = read_photo(tmp_path / "a.jpg")
    assert found.format == "jpeg" and found.icc == PROFILE
    assert np.abs(found.pixels.astype(int) - smooth).max() <= 2
    with Image.open(tmp_path / "a.jpg") as picture:
        assert COMPOSITE in picture.info["xmp"].decode()


@pytest.mark.parametrize("way", range(1, 9))
def test_a_deep_tiff_is_turned_as_pillow_turns_pictures(way, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    exif = Image.Exif()
    exif[0x0112] = way
    file = io.BytesIO()
    Image.fromarray(PLANES[8, 3]).save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert (turned(PLANES[8, 3], way) == expected).all()
    deep = PLANES[8, 3].astype(np.uint16) * 257
    tags = [(274, "H", 1, way, True)]
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=tags, metadata=None)
    assert (read_photo(tmp_path / "a.tif").pixels == expected.astype(np.uint16) * 257).all()


@pytest.mark.parametrize("way", range(1, 9))
def test_a_tiff_of_eight_bits_is_turned_too(way, tmp_path):
    """Grey and uncompressed: Pillow maps such a file into memory, if it opens it itself, and does not turn it."""
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(PLANES[8, 1]).save(tmp_path / "a.tif", exif=exif)
    assert (read_photo(tmp_path / "a.tif").pixels == turned(PLANES[8, 1], way)).all()


def test_what_is_inverted_planar_or_multiplied_in_a_tiff_is_read_so(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    grey, colour = PLANES[16, 1], PLANES[16, 3]
    tifffile.imwrite(tmp_path / "white.tif", 65535 - grey, photometric="miniswhite", metadata=None)
    assert (read_photo(tmp_path / "white.tif").pixels == grey).all()
    tifffile.imwrite(
        tmp_path / "planar.tif", np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate", metadata=None
    )
    assert (read_photo(tmp_path / "planar.tif").pixels == colour).all()
    alpha = np.full(grey.shape, 32768, np.uint16)
    half = (colour * (32768 / 65535)).round().astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "half.tif", np.dstack([half, alpha]), photometric="rgb", extrasamples=["assocalpha"], metadata=None
    )
    found = read_photo(tmp_path / "half.tif")
    assert (found.alpha == alpha).all() and np.abs(found.pixels.astype(int) - colour).max() <= 2


def test_a_png_of_another_gamma_looks_as_it_did(tmp_path):
    """By `load_image`, which shows a picture as viewers do, up to what a power of 2.2 is beside sRGB's own curve."""
    gamma, primaries = PngInfo(), PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    white_to_blue = 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000
    primaries.add(b"gAMA", (45_455).to_bytes(4, "big"))
    primaries.add(b"cHRM", b"".join(number.to_bytes(4, "big") for number in white_to_blue))
    for info in (gamma, primaries):
        for pixels in (PLANES[8, 3], PLANES[8, 1]):
            Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=info)
            write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png", None, "")
            one, other = (np.asarray(load_image(tmp_path / name), int) for name in ("a.png", "b.png"))
            assert np.abs(one - other).mean() < 1.5 and np.abs(one - other).max() < 12
            assert pixels.ndim == 2 or (read_photo(tmp_path / "b.png").pixels == pixels).all()


def test_palettes_and_values_that_stand_for_nothing(tmp_path):
    indexed = Image.fromarray(PLANES[8, 3] // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE)
    indexed.save(tmp_path / "p.png", transparency=0)
    found = read_photo(tmp_path / "p.png")
    assert (found.pixels == np.asarray(indexed.convert("RGB"))).all()
    assert ((found.alpha == 0) == (np.asarray(indexed) == 0)).all()
    deep = PLANES[16, 1]
    Image.fromarray(deep).save(tmp_path / "g.png", transparency=int(deep[0, 0]))
    found = read_photo(tmp_path / "g.png")
    assert (found.pixels == deep).all() and ((found.alpha == 0) == (deep == deep[0, 0])).all()


def bad(tmp_path):
    """name: (file, what is said)."""
    tifffile = pytest.importorskip("tifffile")
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    frames = [Image.fromarray(PLANES[8, 1]), Image.fromarray(255 - PLANES[8, 1])]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(PLANES[8, 1].astype(np.float32)).save(tmp_path / "float.tif")
    tifffile.imwrite(tmp_path / "many.tif", np.zeros((6, 9, 5), np.uint16), photometric="rgb", metadata=None)
    for bits in (8, 16):
        four = np.dstack([PLANES[bits, 3], PLANES[bits, 1]])
        how = {"photometric": "rgb", "extrasamples": ["unspecified"], "metadata": None}
        tifffile.imwrite(tmp_path / f"four{bits}.tif", four, **how)
    two = {"photometric": "minisblack", "extrasamples": ["unspecified"], "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "two.tif", np.dstack([PLANES[8, 1]] * 2), **two)
    tifffile.imwrite(tmp_path / "signed.tif", PLANES[8, 1].view(np.int8), metadata=None)
    (tmp_path / "text.png").write_text("no picture")
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(12) for _ in range(2))  # two pixels of 3 x 16 bits in each of two rows
    head = struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    return {
        "cmyk.jpg": "CMYK, which no screen shows; save it as RGB",
        "film.gif": "animated, or a stack, of 2 pages",
        "stack.tif": "a stack, of 2 pages",
        "float.tif": "save it with 8 or 16 bits",
        "many.tif": "5 channels",
        "four8.tif": "4 channels; save the one, or the three, that are meant",
        "four16.tif": "4 channels; save the one, or the three, that are meant",
        "two.tif": "2 channels; save the one, or the three, that are meant",
        "signed.tif": r"numbers of 8 bits \(signed\): save it with 8 or 16 bits, unsigned",
        "text.png": "not a picture that can be read",
        "deep.png": "a PNG of 16 bits a colour, which is not read; save it as TIFF",
        "none.png": "no such file",
    }


def test_what_cannot_be_read_is_one_line(tmp_path):
    for name, says in bad(tmp_path).items():
        with pytest.raises(UserError, match=says) as error:
            read_photo(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_the_kind_that_was_read_is_written_where_it_can_hold_the_picture():
    grey, deep = PLANES[8, 1], PLANES[16, 3]
    assert format_for(Photo(grey, format="jpeg"), None, lossless=False) == "jpeg"
    assert format_for(Photo(grey, format="jpeg"), None, lossless=True) == "png"
    assert format_for(Photo(grey, grey, format="jpeg"), None, lossless=False) == "png"
    assert format_for(Photo(deep, format="png"), None, lossless=True) == "tiff"  # of a grey one that got colours
    assert format_for(Photo(np.zeros((2, 20_000), np.uint8), format="webp"), None, lossless=True) == "png"
    with pytest.raises(UserError, match="format = jpeg: a JPEG has no opacity: take png or tiff"):
        format_for(Photo(grey, grey), "jpeg", lossless=False)
    with pytest.raises(UserError, match="a WebP has no grey, of which the colour profile is: take png or tiff"):
        format_for(Photo(grey, icc=PROFILE), "webp", lossless=True)
    with pytest.raises(UserError, match="no PNG of colours or opacity in 16 bits is written: take tiff"):
        format_for(Photo(deep), "png", lossless=True)


def test_opacity_of_another_size_stays_in_its_range():
    alpha = np.where(np.arange(8) < 4, 0, 65535).astype(np.uint16)[None].repeat(8, 0)
    large = resized_alpha(alpha, (32, 32))
    assert large.shape == (32, 32) and large.min() == 0 and large.max() == 65535 and (large[:, :8] == 0).all()


def test_a_tiff_that_was_cut_off_is_no_photograph(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for bits in (8, 16):
        tifffile.imwrite(tmp_path / "a.tif", np.stack([PLANES[bits, 1]] * 4), metadata=None, photometric="minisblack")
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            second = file.pages[1].offset
        (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:second])
        with pytest.raises(UserError, match="cut off, and slices are missing"):
            read_photo(tmp_path / "b.tif")
