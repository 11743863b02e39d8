from types import SimpleNamespace

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


def test_the_state_is_the_latent_shifted_then_scaled():
    config = {"in_channels": 3, "scaling_factor": 4.0, "shift_factor": 0.25}
    halving = SimpleNamespace(config=config, encode=lambda x: (x / 2, None), decode=lambda z: 2 * z)
    pictures = np.array([0, 255, 51], np.uint8).reshape(1, 1, 1, 3)  # -1, 1, -0.6
    state = latents.encode(halving, pictures, np.asarray)
    np.testing.assert_allclose(state.ravel(), [-3, 1, -2.2], rtol=0, atol=1e-6)
    assert np.array_equal(latents.decode(halving, state), pictures)
