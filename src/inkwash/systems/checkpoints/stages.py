"""A picture in two stages: SDXL's base and its refiner, and a second, larger pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from inkwash.codecs import latents
from inkwash.systems.checkpoints.canvas import encode

Denoise = Callable[..., Any]


def handed_over(
    denoise: Denoise,
    refine: Denoise,
    condition: Mapping[str, Tensor],
    entry: Callable[[Any], float],
    start: float,
    count: int,
) -> Denoise:
    """`denoise` as far as entry `count` (1 - start) of the noise's table, and below it `refine` with its condition
    (Podell et al. 2023, 2307.01952): where diffusers (`denoising_end`) and A1111 hand over, too."""
    last = round(count * (1 - start))

    def staged(x: Any, t: Any, own: Any) -> Any:
        return denoise(x, t, own) if entry(t) >= last else refine(x, t, condition)

    return staged


def enlarged(
    state: Tensor, decode: Callable[[Tensor], np.ndarray], vae: Any, size: tuple[int, int], how: str
) -> Tensor:
    """A state (1, C, h, w) at the size of a picture of so many pixels: stretched bilinearly as it is ("latent"), or
    decoded, enlarged by Lanczos' filter and encoded again ("lanczos"), as A1111 names them."""
    width, height = size
    if how == "latent":
        return functional.interpolate(state, size=(height // 8, width // 8), mode="bilinear")
    picture = Image.fromarray(decode(state)[0]).resize(size, Image.Resampling.LANCZOS)
    pixels = latents.to_input(np.asarray(picture)[None], 3)
    return encode(vae, torch.from_numpy(pixels).to(state.device))
