import numpy as np
import pytest

from inkwash.codecs import latents


@pytest.mark.parametrize("channels, patch", [(3, 1), (4, 1), (16, 2), (64, 4)])
def test_what_goes_into_an_autoencoder_comes_out(channels, patch):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3 if channels == 3 else 4), np.uint8)
    pictures[..., 3:] = 255
    x = latents.to_input(pictures, channels)
    assert x.shape == (2, channels, 8 // patch, 16 // patch)
    np.testing.assert_array_equal(latents.from_output(x), pictures)
