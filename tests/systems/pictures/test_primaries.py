import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.pictures.data import load_image

# from linear light to that of sRGB, as the specifications of the spaces print them (CSS Color 4, W3C)
P3 = np.array(
    [[1.2249401763, -0.2249401763, 0], [-0.0420569547, 1.0420569547, 0], [-0.0196375546, -0.0786360455, 1.0982736]]
)
BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
CHRM = {"P3": (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}
P3_CICP, BT2020_CICP = bytes([12, 13, 0, 1]), bytes([9, 13, 0, 1])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chrm(values):
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def gama(gamma):
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(40, 200, (8, 8, 3), np.uint8)


def saved(path, pixels, *chunks):
    Image.fromarray(pixels).save(path)
    png = path.read_bytes()
    path.write_bytes(png[:33] + b"".join(chunks) + png[33:])
    return path


def expected(pixels, matrix, decode=None):
    v = pixels / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) if decode is None else decode(v)
    light = (linear @ matrix.T).clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("chunks", "matrix", "decode"),
    [
        ([chunk(b"cICP", P3_CICP)], P3, None),
        ([chunk(b"cICP", BT2020_CICP)], BT2020, None),
        ([chunk(b"cICP", bytes([12, 8, 0, 1]))], P3, lambda v: v),
        ([chrm(CHRM["P3"])], P3, None),
        ([gama(0.45455), chrm(CHRM["P3"])], P3, None),
        ([gama(1 / 1.8), chrm(CHRM["P3"])], P3, lambda v: v**1.8),
        ([chunk(b"cICP", P3_CICP), chunk(b"sRGB", b"\0")], P3, None),  # the first of them counts
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_other_primaries_become_those_of_srgb(chunks, matrix, decode, mode, pixels, tmp_path):
    given = pixels if mode == "RGB" else np.dstack([pixels, np.full((8, 8), 77, np.uint8)])
    read = np.asarray(load_image(saved(tmp_path / "a.png", given, *chunks)))
    assert np.abs(read[..., :3] - expected(pixels, matrix, decode)).max() <= 1.5
    assert np.abs(read[..., :3].astype(int) - pixels).max() > 5
    assert (read[..., 3:] == 77).all()


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk(b"cICP", bytes([1, 13, 0, 1]))],
        [chunk(b"cICP", bytes([1, 13, 0, 1])), chrm(CHRM["P3"])],
        [chunk(b"sRGB", b"\0"), chrm(CHRM["P3"])],
        [chrm((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))],
        [chrm((0, 0, 0, 0, 0, 0, 0, 0))],  # none
        [chrm((0.3, 0.3) * 4)],
    ],
)
def test_what_is_srgb_or_says_nothing_stays_to_the_last_bit(chunks, pixels, tmp_path):
    assert (np.asarray(load_image(saved(tmp_path / "a.png", pixels, *chunks))) == pixels).all()


@pytest.mark.parametrize(
    ("cicp", "words"),
    [
        ([9, 16, 0, 1], "high dynamic range"),
        ([9, 18, 0, 1], "high dynamic"),
        ([22, 13, 0, 1], "not read"),
        ([1, 13, 1, 1], "not read"),
        ([1], "not a picture"),
    ],
)
def test_colours_that_are_not_read_are_refused_in_one_line(cicp, words, pixels, tmp_path):
    with pytest.raises(UserError, match=rf"a\.png: .*{words}") as error:
        load_image(saved(tmp_path / "a.png", pixels, chunk(b"cICP", bytes(cicp))))
    assert "\n" not in str(error.value)
