import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inkwash.codecs import pixels


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]))
def test_decode_undoes_encode(seed, patch):
    pictures = np.random.default_rng(seed).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    state = pixels.encode(pictures, patch)
    assert state.shape == (2, 3 * patch**2, 8 // patch, 12 // patch)
    np.testing.assert_array_equal(pixels.decode(state, patch), pictures)


def test_black_is_minus_one_and_a_patch_is_one_place():
    pictures = np.zeros((1, 4, 4, 3), np.uint8)
    pictures[0, 2, 3] = 255
    state = pixels.encode(pictures, 2)
    assert state.min() == -1 and state.max() == 1
    assert np.argwhere((state == 1).any(1))[:, 1:].tolist() == [[1, 1]]


def test_values_out_of_range_are_clipped():
    assert pixels.decode(np.array([-3.0, 3.0, 0.0], np.float32).reshape(1, 3, 1, 1), 1).tolist() == [
        [[[0, 255, 128]]]
    ]


def test_on_white():
    rgba = np.array([[[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 255, 51]]]], np.uint8)
    assert pixels.on_white(rgba).tolist() == [[[[255, 255, 255], [10, 20, 30], [204, 224, 255]]]]


def test_on_white_agrees_with_pillow():
    rng = np.random.default_rng(0)
    art = rng.integers(0, 256, (1, 16, 16, 4), dtype=np.uint8)
    white = Image.new("RGBA", (16, 16), "white")
    expected = np.asarray(Image.alpha_composite(white, Image.fromarray(art[0])).convert("RGB")).astype(int)
    assert np.abs(pixels.on_white(art)[0] - expected).max() <= 1
    np.testing.assert_array_equal(pixels.on_white(art[..., :3]), art[..., :3])


def test_shuffled_and_unshuffled_are_those_of_torch():
    state = torch.randn(2, 64, 3, 5)
    expected = torch.nn.functional.pixel_shuffle(state, 4).numpy()
    np.testing.assert_array_equal(pixels.pixel_shuffle(state.numpy(), 4), expected)
    np.testing.assert_array_equal(pixels.pixel_unshuffle(expected, 4), state.numpy())
