"""Files as people have them are read as they mean them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from inkwash.errors import UserError
from inkwash.systems.pictures.data import InitImage, load_image, load_mask, surroundings

RAMP = (np.add.outer(np.arange(16), np.arange(16)) * 8).astype(np.uint8)  # 0 to 240


def grey(source):
    """What is read of a picture without colours."""
    pixels = np.asarray(load_image(source))
    assert pixels.dtype == np.uint8 and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0].astype(int)


def png(path, samples, colour_type):
    """A PNG of 16 bits, written by hand: samples (H, W, channels)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_pictures_of_every_mode_are_read_as_the_plain_one():
    plain = Image.fromarray(RAMP)
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # "turn me right"
    wide = Image.fromarray(RAMP.astype(np.uint16) * 257)
    others = [plain.convert(mode) for mode in ("RGB", "RGBA", "P", "LA", "YCbCr", "CMYK", "HSV")]
    others += [plain.convert("RGBA").convert("RGBa"), plain.convert("LA").convert("La"), turned, wide]
    for picture in (plain, *others):
        assert np.abs(grey(picture) - RAMP).max() <= 2, picture.mode
    assert {load_image(picture).mode for picture in (plain, wide, turned, *others)} == {"RGB", "RGBA"}
    assert set(grey(plain.convert("1")).flat) == {0, 255}


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_are_the_upper_eight_and_never_white(colour_type, channels, tmp_path):
    samples = (RAMP.astype(np.uint16) * 257)[..., None].repeat(channels, -1)
    file = png(tmp_path / "a.png", samples, colour_type)
    assert np.abs(grey(file) - RAMP).max() <= 1
    if channels in (2, 4):
        assert np.abs(np.asarray(load_image(file))[..., 3].astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_tiffs_of_32_bits_are_read_by_the_range_that_they_fill(dtype, white, tmp_path):
    values = (RAMP / 240 * white).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.abs(grey(tmp_path / "a.tif") - values / white * 255).max() <= 1


@pytest.mark.parametrize("values", [(-1.0, 1.0), (0.0, 3.5), (0.0, 1e6), (0.0, np.nan), (0.0, np.inf), (0, 4000)])
def test_what_is_white_is_not_guessed(values, tmp_path):
    values = np.array([values] * 2)
    Image.fromarray(values.astype(np.int32 if values.dtype == int else np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: what is white cannot be told from values of .* save it with 8"):
        load_image(tmp_path / "a.tif")


def test_colours_are_those_that_the_profile_means(tmp_path):
    """A profile with red and green exchanged; one of other channels and a broken one say nothing."""
    lab = Image.new("LAB", (4, 4), (128, 128 + 60, 128))  # a* = 60: red
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    picture = Image.new("RGB", (4, 4), (200, 50, 50))
    picture.save(tmp_path / "plain.png", icc_profile=srgb.tobytes())
    assert np.asarray(load_image(tmp_path / "plain.png"))[0, 0].tolist() == [200, 50, 50]
    data = bytearray(srgb.tobytes())
    at = {bytes(data[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, green = at[b"rXYZ"] + 4, at[b"gXYZ"] + 4
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    swapped = bytes(data).replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    for suffix in ("png", "jpg", "tif", "webp"):
        options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
        picture.save(tmp_path / f"a.{suffix}", icc_profile=swapped, **options)
        found = np.asarray(load_image(tmp_path / f"a.{suffix}"))[0, 0].astype(int)
        assert np.abs(found - [50, 200, 50]).max() <= 4, suffix
    clear = picture.convert("RGBA")
    clear.putalpha(77)
    clear.save(tmp_path / "clear.png", icc_profile=swapped)
    assert np.abs(np.asarray(load_image(tmp_path / "clear.png"))[0, 0].astype(int) - [50, 200, 50, 77]).max() <= 2
    for profile in (b"broken", swapped):
        Image.new("L", (4, 4), 99).save(tmp_path / "grey.png", icc_profile=profile)
        assert (grey(tmp_path / "grey.png") == 99).all()
    assert load_image(lab).mode == "RGB" and np.asarray(load_image(lab))[0, 0, 0] > 150


def test_cmyk_as_adobe_writes_it_is_not_inverted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    content = (tmp_path / "red.jpg").read_bytes()
    assert b"Adobe" in content
    red, green, blue = np.asarray(load_image(tmp_path / "red.jpg"))[4, 4]
    assert red > 240 and green < 20 and blue < 20


def test_what_is_transparent_is_so_in_every_mode(tmp_path):
    half = Image.fromarray(np.where(np.arange(64).reshape(8, 8) % 8 < 4, 0, 200).astype(np.uint8))
    half.save(tmp_path / "grey.png", transparency=0)
    half.convert("RGB").save(tmp_path / "colour.png", transparency=(0, 0, 0))
    half.convert("P").save(tmp_path / "palette.png", transparency=half.convert("P").getpixel((0, 0)))
    half.convert("P").save(tmp_path / "palette.gif", transparency=half.convert("P").getpixel((0, 0)))
    wide = Image.fromarray(np.asarray(half).astype(np.uint16) * 257)
    wide.info["transparency"] = 0
    for source in (*sorted(tmp_path.iterdir()), wide):
        alpha = np.asarray(load_image(source).getchannel("A"))
        assert (alpha[:, :4] == 0).all() and (alpha[:, 4:] == 255).all(), source


def test_other_shapes_are_fitted_whole_and_masks_the_same_way():
    tall = Image.new("RGB", (10, 20), "red")
    canvas = InitImage(tall, 1.0).canvas(16)
    assert (canvas[:, 4:12] == [255, 0, 0, 255]).all() and (canvas[:, :3, 3] == 0).all()
    for mask in (Image.new("L", (10, 20), 255), Image.new("L", (100, 201), 255)):
        region = InitImage(tall, 1.0, load_mask(mask)).region(16)
        assert (region[:, 4:12] == 1).all() and (region[:, :4] == 0).all() and (region[:, 12:] == 0).all()
    assert (InitImage(tall, 1.0, load_mask(Image.new("L", (30, 30), 255))).region(16) == 1).all()
    assert load_mask(Image.new("RGBA", (8, 8), (255, 255, 255, 0))).getextrema() == (0, 0)  # transparent: keep
    with pytest.raises(UserError, match="not a picture"):
        load_image(__file__)


def test_what_would_be_a_line_is_refused():
    with pytest.raises(UserError, match="8000 x 50 pixels would be no more than a line"):
        InitImage(Image.new("RGB", (8000, 50), "red"), 1.0).canvas(64)
    assert (InitImage(Image.new("RGB", (800, 50), "red"), 1.0).canvas(64)[30:34] == [255, 0, 0, 255]).all()


@pytest.mark.parametrize("size", [16, 37, 64, 128])
def test_masks_do_not_ring(size):
    """Between 0 and 1 only where a pixel is half white: nowhere beyond, at any size, with a margin or none."""
    mask = Image.new("L", (128, 96), 0)
    mask.paste(255, (40, 24, 88, 72))
    region = InitImage(Image.new("RGB", (640, 480)), 1.0, mask).region(size)
    rows, columns = np.nonzero(region)
    scale, margin = size / 128, (size - round(size * 0.75)) // 2
    assert columns.min() == int(40 * scale) and columns.max() < np.ceil(88 * scale) + 1
    assert abs(rows.min() - (margin + 24 * scale)) <= 1 and abs(rows.max() - (margin + 72 * scale)) <= 1.5


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(load_image(tmp_path / "a.gif"))[..., :3] == [255, 0, 0]).all()


def test_a_hole_is_filled_by_what_lies_around_it():
    pixels = np.full((32, 32, 3), 200, np.uint8)
    hole = np.zeros((32, 32), bool)
    hole[8:24, 8:24] = True
    pixels[hole] = 0
    assert np.abs(surroundings(pixels, hole).astype(int) - 200).max() <= 3
