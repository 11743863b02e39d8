"""Pictures <-> latents of an image autoencoder.

The autoencoder of our own models has four channels: the colours on white, and the opacity. So a picture is ready as
it is, and its transparent form is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inkwash.codecs.pixels import denormalize, normalize, on_white, pixel_shuffle, pixel_unshuffle
from inkwash.diffusion.arrays import Array, cast, namespace, no_grad, numpy

BATCH_SIZE = 16  # pictures that an autoencoder is given together


def to_array(pictures: np.ndarray, channels: int = 4) -> np.ndarray:
    """uint8 (N, H, W, 4), straight alpha -> float32 (N, 4, H, W) in [-1, 1]: colours on white, then opacity.

    Pictures without alpha (N, H, W, 3) are opaque. channels = 3 leaves the opacity out.
    """
    alpha = pictures[..., 3:] if pictures.shape[-1] == 4 else np.full((*pictures.shape[:3], 1), 255, np.uint8)
    return normalize(np.concatenate([on_white(pictures), alpha], axis=-1)[..., :channels])


def patch_size(channels: int) -> int:
    """The side of the squares of pixels that an autoencoder of so many input channels takes as one place.

    3 channels are colours and 4 colours and opacity, pixel by pixel; 4 n^2 are squares of n x n pixels. Convolutions
    at the full size of a picture are what a CPU does worst.
    """
    return max(1, round(math.sqrt(channels / 4)))


def to_input(pictures: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (N, H, W, 3 or 4) -> what an autoencoder of so many input channels encodes."""
    side = patch_size(channels)
    return pixel_unshuffle(to_array(pictures, channels // side**2), side)


def from_output(x: np.ndarray) -> np.ndarray:
    """What it decodes -> uint8 (N, H, W, 3 or 4): colours on white, and the opacity if it knows of one."""
    return denormalize(pixel_shuffle(x, patch_size(x.shape[1])))


def state_shape(config: Mapping[str, Any], size: int) -> tuple[int, int, int]:
    """Channels, rows and columns of the latent of a picture of this size, under an autoencoder of this config."""
    side = size // (2 ** (len(config["block_out_channels"]) - 1) * patch_size(config["in_channels"]))
    return config["latent_channels"], side, side


def scale_and_shift(config: Mapping[str, Any]) -> tuple[float, float]:
    """state = scale (latent - shift)."""
    return config["scaling_factor"], config.get("shift_factor") or 0.0


def encode(autoencoder: Any, pictures: np.ndarray, array: Callable[[np.ndarray], Array]) -> Array:
    """uint8 (N, H, W, 3 or 4) -> the mean latent in the units of the state, (N, latent_channels, h, w).

    array: makes arrays of the kind that the autoencoder takes, and where it lies.
    """
    means = []
    for i in range(0, len(pictures), BATCH_SIZE):
        x = array(to_input(pictures[i : i + BATCH_SIZE], autoencoder.config["in_channels"]))
        with no_grad(x):
            means.append(autoencoder.encode(x)[0])
    scale, shift = scale_and_shift(autoencoder.config)
    return scale * (namespace(means[0]).concatenate(means) - shift)


def decode(autoencoder: Any, state: Array) -> np.ndarray:
    """State -> uint8 (N, H, W, 3 or 4): colours on white, and the opacity if the autoencoder knows of one."""
    scale, shift = scale_and_shift(autoencoder.config)
    z = state / scale + shift
    with no_grad(z):
        batches = [autoencoder.decode(z[i : i + BATCH_SIZE]) for i in range(0, len(z), BATCH_SIZE)]
    return from_output(np.concatenate([numpy(cast(x, namespace(x).float32)) for x in batches]))


def cut_out(decoded: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 4), colours on white and opacity a -> straight alpha: colour = 1 - (1 - on white) / a."""
    opacity = decoded[..., 3:] / 255.0
    colour = 255 - (255.0 - decoded[..., :3]) / np.maximum(opacity, 1 / 255)
    return np.concatenate([colour.clip(0, 255).round().astype(np.uint8), decoded[..., 3:]], axis=-1)
