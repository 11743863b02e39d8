"""Pictures to learn from, made a little different each time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ZOOM = (0.8, 1.25)
GAMMA, GAIN, NOISE = 0.35, 0.1, 0.03  # of the logarithm of a gamma, of a channel's brightness, of a pixel


def recoloured(picture: Tensor, grey: bool, rng: np.random.Generator) -> Tensor:
    """A picture (3, H, W) from 0 to 1, brighter or darker, of other colours unless it is grey, and with noise."""
    gains = np.exp(rng.normal(0, GAIN, 3)) if not grey else np.full(3, np.exp(rng.normal(0, GAIN)))
    noise = rng.normal(0, NOISE * rng.random(), (1 if grey else 3, *picture.shape[1:]))
    made = picture ** float(np.exp(rng.normal(0, GAMMA))) * torch.from_numpy(gains).float()[:, None, None]
    return (made + torch.from_numpy(noise).float()).clamp(0, 1)
