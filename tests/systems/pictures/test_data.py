"""Files as people have them are read as they mean them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from inkwash.errors import UserError
from inkwash.systems.pictures.data import InitImage, is_animated, load_image, load_mask, surroundings

RAMP = (np.add.outer(np.arange(16), np.arange(16)) * 8).astype(np.uint8)  # 0 to 240


def grey(source):
    """What is read of a picture without colours."""
    pixels = np.asarray(load_image(source))
    assert pixels.dtype == np.uint8 and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0].astype(int)


def png(path, samples, colour_type, *more):
    """A PNG of 8 or 16 bits, written by hand: samples (H, W, channels), and more chunks."""
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in samples)
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
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


def tiff(path, samples, **tags):
    """A TIFF without compression, written by hand: samples (H, W) or (H, W, channels), and its tags."""
    height, width, channels = (*samples.shape, 1)[:3]
    bits = 8 * samples.itemsize
    found = {254: 0, 256: width, 257: height, 259: 1, 273: 8, 277: channels, 278: height, 279: samples.nbytes}
    if channels == 1:  # those of more lie elsewhere
        found[258] = bits
    at, more = 8 + samples.nbytes, b""
    if channels > 1:
        found[258] = at
        more = struct.pack("<4H", *[bits] * 4)
    found |= {int(tag[1:]): value for tag, value in tags.items()}
    entries = b"".join(
        struct.pack("<HHII", tag, 3, channels if tag == 258 else 1, found[tag]) for tag in sorted(found)
    )
    directory = struct.pack("<H", len(found)) + entries + bytes(4)
    content = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(b"II*\0" + struct.pack("<I", at + len(more)) + content + more + directory)
    return path


TURNS = {1: np.array, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 6: lambda a: np.rot90(a, 3),
         5: lambda a: a.swapaxes(0, 1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: np.rot90}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
def test_tiffs_that_lie_on_their_side_are_turned(orientation, tmp_path):
    """In every mode that Pillow may map into memory: TIFF 6.0, Orientation."""
    grey = np.arange(24).reshape(6, 4)
    colours = np.dstack([grey, grey, grey, 255 + 0 * grey])
    turned = TURNS[orientation](grey)
    for photometric, samples, more in (
        (1, grey.astype(np.uint8), {}),
        (1, grey.astype(np.uint16) * 257, {}),
        (2, colours.astype(np.uint8), {"t338": 2}),
    ):
        file = tiff(tmp_path / "a.tif", samples, t262=photometric, t274=orientation, **more)
        assert np.array_equal(np.asarray(load_image(file))[..., 0], turned)
        assert not is_animated(file)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_may_say_that_nought_is_white(dtype, tmp_path):
    samples = RAMP.astype(dtype) * (257 if dtype == np.uint16 else 1)
    assert np.array_equal(grey(tiff(tmp_path / "a.tif", samples, t262=1)), RAMP)
    assert np.array_equal(grey(tiff(tmp_path / "a.tif", samples, t262=0)), 255 - RAMP)


def test_the_preview_of_a_raw_photo_is_not_the_photo(tmp_path):
    file = tiff(tmp_path / "photo.dng", RAMP, t254=1, t262=1)
    with pytest.raises(UserError, match=r"photo\.dng: it begins with a small preview"):
        load_image(file)


@pytest.mark.parametrize("gamma", [1.0, 0.25, 1 / 1.8])
def test_a_png_is_read_by_its_gamma_unless_it_says_more(gamma, tmp_path):
    """Light = value^(1 / gamma), and sRGB shows light^(1 / 2.2): PNG, third edition, 13.13."""
    chunk = (b"gAMA", struct.pack(">I", round(1e5 * gamma)))
    light = (RAMP / 255) ** (1 / gamma)
    shown = 255 * light ** (1 / 2.2)
    for samples in (RAMP, RAMP.astype(np.uint16) * 257):
        assert np.abs(grey(png(tmp_path / "a.png", samples[..., None], 0, chunk)) - shown).max() <= 1
        srgb = png(tmp_path / "b.png", samples[..., None], 0, chunk, (b"sRGB", b"\0"))
        assert np.array_equal(grey(srgb), RAMP)
    usual = (b"gAMA", struct.pack(">I", 45455))
    assert np.array_equal(grey(png(tmp_path / "c.png", RAMP[..., None], 0, usual)), RAMP)
    assert np.array_equal(grey(png(tmp_path / "c.png", RAMP[..., None], 0, (b"gAMA", bytes(4)))), RAMP)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "avif", "tif", "bmp"])
def test_a_broken_file_is_refused_in_one_line(suffix, tmp_path):
    """Cut anywhere, or with bytes changed, a file is a picture or is refused."""
    rng = np.random.default_rng()
    file, colours = tmp_path / f"a.{suffix}", rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(colours).save(file)
    whole = file.read_bytes()
    refused = 0
    for cut in (True, False) * 40:
        content = bytearray(whole[: rng.integers(len(whole) // 2)] if cut else whole)
        for _ in range(0 if cut else 3):
            content[rng.integers(len(content))] = rng.integers(256)
        file.write_bytes(content)
        try:
            is_animated(file)
            load_image(file)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
    assert refused >= 40


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
