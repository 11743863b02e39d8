"""Pictures <-> latents of an image autoencoder.

The autoencoder of our own models has four channels: the colours on white, and the opacity. So a picture is ready as
it is, and its transparent form is at hand.
"""

import numpy as np
import torch
from torch import Tensor

from inkwash.codecs.pixels import on_white
from inkwash.networks.autoencoder import Autoencoder


def to_tensor(pictures: np.ndarray, channels: int = 4) -> Tensor:
    """uint8 (N, H, W, 4), straight alpha -> float32 (N, 4, H, W) in [-1, 1]: colours on white, then opacity.

    Pictures without alpha (N, H, W, 3) are opaque. channels = 3 leaves the opacity out.
    """
    alpha = pictures[..., 3:] if pictures.shape[-1] == 4 else np.full((*pictures.shape[:3], 1), 255, np.uint8)
    x = np.concatenate([on_white(pictures), alpha], axis=-1)[..., :channels]
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode(autoencoder: Autoencoder, pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3 or 4) -> the mean latent in the units of the state, (N, latent_channels, H / f, W / f)."""
    config = autoencoder.config
    x = to_tensor(pictures, config["in_channels"])
    with torch.no_grad():
        means = [autoencoder.encode(part)[0] for part in x.split(16)]
    return config["scaling_factor"] * torch.cat(means)


def decode(autoencoder: Autoencoder, state: Tensor) -> np.ndarray:
    """State -> uint8 (N, H, W, 3 or 4): colours on white, and the opacity if the autoencoder knows of one."""
    with torch.no_grad():
        parts = [autoencoder.decode(part) for part in (state / autoencoder.config["scaling_factor"]).split(16)]
    x = ((torch.cat(parts).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return x.permute(0, 2, 3, 1).cpu().numpy()


def cut_out(decoded: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 4), colours on white and opacity a -> straight alpha: colour = 1 - (1 - on white) / a."""
    opacity = decoded[..., 3:] / 255.0
    colour = 255 - (255.0 - decoded[..., :3]) / np.maximum(opacity, 1 / 255)
    return np.concatenate([colour.clip(0, 255).round().astype(np.uint8), decoded[..., 3:]], axis=-1)
