import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkwash.systems.pictures.distance_fields import (
    LIMIT,
    SIZE,
    SUPERSAMPLING,
    average,
    decode,
    encode,
    ink,
    signed_distance,
)

pytest.importorskip("scipy")

SIDE = SIZE * SUPERSAMPLING


def disc(radius: float, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A disc in the middle, and the true distance of each pixel from its outline, in pixels of 64 a side."""
    x = (np.arange(side) + 0.5) * SIZE / side - SIZE / 2
    distance = radius - np.hypot(x[:, None], x)
    return (distance > 0).astype(float), distance


def test_a_field_is_the_distance_from_the_outline_and_positive_inside():
    coverage, _ = disc(20)
    _, true = disc(20, SIZE)
    field = decode([encode(coverage)], SIZE)[0]
    assert field.dtype == np.float32 and field[32, 32] > 0 > field[0, 0]
    near = np.abs(true) < LIMIT - 1
    assert np.abs(field - true)[near].max() < 0.1  # an eighth of a pixel is one of the drawing
    assert field.max() == LIMIT and field.min() == -LIMIT


@pytest.mark.parametrize("size", [64, 32])
def test_the_outline_stands_where_it_was_drawn(size):
    """Level 0 of the field, made large again, covers what was drawn: half a pixel more would be 5 % here."""
    coverage, _ = disc(10)
    field = Image.fromarray(decode([encode(coverage)], size)[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    large, shape = np.asarray(field) > 0, coverage > 0
    assert (large & shape).sum() / (large | shape).sum() > 0.99


def test_a_smaller_field_is_what_it_would_be_without_the_limit():
    """Its pixels are twice as wide, and the limit of 6 px is never met within 2 px of that size."""
    picture = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(picture).polygon([(40, 60), (480, 200), (90, 400)], fill=255)
    coverage = np.asarray(picture) / 255
    whole = average(signed_distance(coverage >= 0.5), 2 * SUPERSAMPLING)
    small = decode([encode(coverage)], 32)[0]
    assert np.abs(small - whole.clip(-2, 2)).max() < LIMIT / 127 / 2  # a step of the stored bytes, half as large
    assert small.max() == 2 and small.min() == -2


def test_white_is_paper():
    picture = Image.new("RGBA", (8, 8))
    picture.paste((0, 0, 0, 255), (0, 0, 8, 4))
    picture.paste((255, 255, 255, 255), (0, 0, 4, 8))
    file = io.BytesIO()
    picture.save(file, "png")
    expected = np.zeros((8, 8))
    expected[:4, 4:] = 1
    assert (ink(file.getvalue()) == expected).all()


def test_nothing_and_all_are_infinitely_far():
    assert (signed_distance(np.zeros((4, 4), bool)) == -np.inf).all()
    assert (signed_distance(np.ones((4, 4), bool)) == np.inf).all()
