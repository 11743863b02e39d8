"""A picture in two stages: SDXL's base and its refiner, and a second, larger pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.errors import UserError
from inkwash.systems.checkpoints.canvas import encode

Denoise = Callable[..., Any]


def handed_over(
    denoise: Denoise,
    refine: Denoise,
    condition: Mapping[str, Tensor],
    entry: Callable[[Any], float],
    last: int,
) -> Denoise:
    """`denoise` down to entry `last` of the noise's table, and below it `refine` with its condition (Podell et al.
    2023, 2307.01952)."""

    def staged(x: Any, t: Any, own: Any) -> Any:
        return denoise(x, t, own) if entry(t) >= last else refine(x, t, condition)

    return staged


def last_entry(grid: diffusion.Grid, entry: Callable[[Any], float], start: float, count: int) -> int:
    """Of a table of so many entries the last that is the base's, where diffusers (`denoising_end`) and A1111 hand
    over, too. UserError where no step is left to the refiner."""
    last = round(count * (1 - start))
    steps = len(grid) - 1
    if all(entry(grid[i]) >= last for i in range(steps)):
        raise UserError(f"refiner_start = {start}: of {steps} steps none is the refiner's; choose less or more steps")
    return last


def enlarged(
    state: Tensor,
    decode: Callable[[Tensor], np.ndarray],
    vae: Any,
    size: tuple[int, int],
    how: str,
    tiling: str = "",
) -> Tensor:
    """A state (1, C, h, w) at the size of a picture of so many pixels: stretched bilinearly as it is ("latent"), or
    decoded, enlarged by Lanczos' filter and encoded again ("lanczos"), as A1111 names them. Where its sides meet
    (`networks.seamless`), it is the middle one of three that is."""
    width, height = size
    columns, rows = (3 if axis in tiling else 1 for axis in "xy")
    left, top = width * (columns // 2), height * (rows // 2)
    if how == "latent":
        larger = functional.interpolate(
            state.repeat(1, 1, rows, columns), size=(rows * height // 8, columns * width // 8), mode="bilinear"
        )
        return larger[..., top // 8 : (top + height) // 8, left // 8 : (left + width) // 8]
    several = Image.fromarray(np.tile(decode(state)[0], (rows, columns, 1)))
    picture = several.resize((columns * width, rows * height), Image.Resampling.LANCZOS)
    pixels = latents.to_input(np.asarray(picture.crop((left, top, left + width, top + height)))[None], 3)
    return encode(vae, torch.from_numpy(pixels).to(state.device), tiling=tiling)
