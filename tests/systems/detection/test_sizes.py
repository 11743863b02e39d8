"""A picture as the network sees it: what lies where."""

import numpy as np
import pytest

from inkwash.systems.detection.sizes import coarse, prepare, shape_of


def test_the_longer_side_has_the_size():
    assert shape_of((640, 480), 256) == (256, 192) and shape_of((480, 640), 256) == (192, 256)
    assert shape_of((1000, 1), 256) == (256, 1) and shape_of((10, 5), 256) == (256, 128)


@pytest.mark.parametrize("size", [(64, 48), (50, 37), (200, 150), (1203, 907)])
def test_a_mark_lies_where_the_frame_says(size):
    """The middle of a bright square, in shares of the network's picture, times the frame is where it was."""
    width, height = size
    picture = np.zeros((height, width), np.uint8)
    x, y, side = round(0.6 * width), round(0.3 * height), max(4, width // 8)
    picture[y : y + side, x : x + side] = 200
    found = prepare(picture, 64, 16)
    assert found.x.shape[2] % 16 == 0 and found.x.shape[3] % 16 == 0 and found.size == size
    bright = found.x[0, 0].clip(0)
    for axis, start in ((0, x), (1, y)):
        weights = bright.sum(axis)
        place = float((weights * (np.arange(len(weights)) + 0.5)).sum() / weights.sum()) / len(weights)
        assert place * found.frame[axis] == pytest.approx(start + side / 2, abs=0.02 * width)


def test_what_is_filled_up_is_grey_on_the_right_and_below():
    found = prepare(np.tile(np.arange(50, dtype=np.uint8), (20, 1)), 50, 16)
    assert found.x.shape == (1, 3, 32, 64)
    assert not found.x[..., 20:, :].any() and not found.x[..., 50:].any() and found.x[..., :20, :50].any()
    assert found.frame == (64.0, 32.0)


def test_coarse_is_the_mean_of_squares():
    picture = np.arange(42, dtype=np.uint8).reshape(6, 7)
    assert coarse(picture, 1) is picture
    np.testing.assert_allclose(coarse(picture, 3), [[8, 11], [29, 32]])
    colour = np.stack([picture, 2 * picture, picture], -1)
    np.testing.assert_allclose(coarse(colour, 3)[..., 1], 2 * coarse(picture, 3))
