"""Pictures <-> latents of an image autoencoder.

The autoencoder of our own models has four channels: the colours on white, and the opacity. So a picture is ready as
it is, and its transparent form is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inkwash.codecs.pixels import on_white, shuffled, unshuffled

if TYPE_CHECKING:
    from torch import Tensor

    from inkwash.networks.autoencoder import Autoencoder


def to_array(pictures: np.ndarray, channels: int = 4) -> np.ndarray:
    """uint8 (N, H, W, 4), straight alpha -> float32 (N, 4, H, W) in [-1, 1]: colours on white, then opacity.

    Pictures without alpha (N, H, W, 3) are opaque. channels = 3 leaves the opacity out.
    """
    alpha = pictures[..., 3:] if pictures.shape[-1] == 4 else np.full((*pictures.shape[:3], 1), 255, np.uint8)
    return scaled(np.concatenate([on_white(pictures), alpha], axis=-1)[..., :channels])


def scaled(pictures: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in [-1, 1]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1


def to_pictures(x: np.ndarray) -> np.ndarray:
    """The inverse of `scaled`, clipped and rounded."""
    return ((x.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)


def patch(channels: int) -> int:
    """The side of the squares of pixels that an autoencoder of so many input channels takes as one place.

    3 channels are colours and 4 colours and opacity, pixel by pixel; 4 n^2 are squares of n x n pixels. Convolutions
    at the full size of a picture are what a CPU does worst.
    """
    return max(1, round((channels / 4) ** 0.5))


def to_input(pictures: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (N, H, W, 3 or 4) -> what an autoencoder of so many input channels encodes."""
    side = patch(channels)
    return unshuffled(to_array(pictures, channels // side**2), side)


def from_output(x: np.ndarray) -> np.ndarray:
    """What it decodes -> uint8 (N, H, W, 3 or 4): colours on white, and the opacity if it knows of one."""
    return to_pictures(shuffled(x, patch(x.shape[1])))


def encode(autoencoder: Autoencoder, pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3 or 4) -> the mean latent in the units of the state, (N, latent_channels, h, w)."""
    import torch

    config, device = autoencoder.config, next(autoencoder.parameters()).device
    means = []
    with torch.no_grad():
        for i in range(0, len(pictures), 16):
            x = torch.from_numpy(to_input(pictures[i : i + 16], config["in_channels"])).to(device)
            means.append(autoencoder.encode(x)[0])
    return config["scaling_factor"] * torch.cat(means)


def decode(autoencoder: Autoencoder, state: Tensor) -> np.ndarray:
    """State -> uint8 (N, H, W, 3 or 4): colours on white, and the opacity if the autoencoder knows of one."""
    import torch

    with torch.no_grad():
        parts = [autoencoder.decode(part) for part in (state / autoencoder.config["scaling_factor"]).split(16)]
    return from_output(torch.cat(parts).float().numpy(force=True))


def cut_out(decoded: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 4), colours on white and opacity a -> straight alpha: colour = 1 - (1 - on white) / a."""
    opacity = decoded[..., 3:] / 255.0
    colour = 255 - (255.0 - decoded[..., :3]) / np.maximum(opacity, 1 / 255)
    return np.concatenate([colour.clip(0, 255).round().astype(np.uint8), decoded[..., 3:]], axis=-1)
