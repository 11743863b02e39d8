"""Pictures that checkpoints begin from, of any shape: noised to a step on the way, kept in part, or shown beside the
state to networks that paint in or edit."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.diffusion.arrays import linear_combination
from inkwash.errors import UserError
from inkwash.systems.checkpoints.facts import EDITS
from inkwash.systems.checkpoints.options import PIXELS
from inkwash.systems.checkpoints.vae import encode_mean
from inkwash.systems.pictures.data import FEATHER, Source, feather, load_image, load_mask, same_shape
from inkwash.systems.pictures.model import default_strength

SEEN = 8  # of 255, what of a mask's white changes anything; ones and noughts are no black and white


class Canvas(NamedTuple):
    """A picture to begin from, at the size that is drawn.

    pixels    uint8 (height, width, 3), on white
    strength  which share of the steps is taken, from the picture noised to the first of them (SDEdit, 2108.01073)
    region    float (height, width): 1 where it is drawn anew, 0 where it stays; None for everywhere
    """

    pixels: np.ndarray
    strength: float
    region: np.ndarray | None = None

    @property
    def places(self) -> np.ndarray:
        """bool (1, 1, height / 8, width / 8): the places of a latent in which something is drawn anew."""
        height, width = self.pixels.shape[:2]
        if self.region is None:
            return np.ones((1, 1, height // PIXELS, width // PIXELS), bool)
        squares = self.region.reshape(height // PIXELS, PIXELS, width // PIXELS, PIXELS)
        anew: np.ndarray = squares.max((1, 3)) > 0
        return anew[None, None]

    def composite(self, decoded: np.ndarray) -> np.ndarray:
        """uint8 (N, height, width, 3) as they are decoded -> the same with what stays of the picture, to the last
        bit where the mask is black; what is drawn anew comes in softly within it."""
        if self.region is None:
            return decoded
        share = (self.region * feather(self.region > 0, max(self.region.shape) * FEATHER))[..., None]
        mixed = (share * decoded + (1 - share) * self.pixels).round().astype(np.uint8)
        return np.where(self.region[..., None] == 0, self.pixels, mixed)


def load_canvas(image: Source, strength: float | None, mask: Source | None, size: tuple[int, int]) -> Canvas:
    """A picture and its mask at this width and height; what stands over on two sides is cut off. UserError for a
    strength out of its range, and a mask of another shape than the picture's."""
    strength = default_strength(mask is not None) if strength is None else strength
    if not 0 < strength <= 1:
        raise UserError(f"strength = {strength}: choose a number above 0, at most 1; nothing changes at 0")
    picture, region = load_image(image), None
    if mask is not None:
        white = load_mask(mask)
        if not same_shape(white.size, picture.size):
            shapes = " and ".join(f"{width} x {height}" for width, height in (white.size, picture.size))
            raise UserError(f"mask: {shapes} pixels, it and the image are not of one shape: make it like the image")
        if np.asarray(white).max() < SEEN:
            raise UserError(
                "mask: it is all black, or nearly, so nothing would be drawn anew: make white what shall be"
            )
        region = np.asarray(ImageOps.fit(white, size, Image.Resampling.BOX)) / 255.0
        if not region.any():
            raise UserError("mask: what is white in it is cut off at this size: choose one in the image's shape")
    fitted = ImageOps.fit(picture.convert("RGBA"), size, Image.Resampling.LANCZOS)
    return Canvas(on_white(np.asarray(fitted)[None])[0], strength, region)


def steps_taken(steps: int, strength: float, name: str = "strength") -> int:
    """How many of the steps, as diffusers counts: min(int(steps * strength), steps). UserError for none."""
    if (taken := min(int(steps * strength), steps)) < 1:
        raise UserError(
            f"{name} = {strength}: of {steps} steps none is taken; choose {math.ceil(100 / steps) / 100} or more"
        )
    return taken


def shortened(grid: diffusion.Grid, strength: float, name: str = "strength") -> diffusion.Grid:
    """The last of its steps, `steps_taken`."""
    return diffusion.Grid(grid.process, grid.times[-steps_taken(len(grid) - 1, strength, name) - 1 :])


def encode(vae: Any, x: Tensor, scaled: bool = True, tiling: str = "") -> Tensor:
    """Pixels in [-1, 1], (N, 3, height, width) -> the mean latent, in the units of the state if it is scaled."""
    mean = encode_mean(vae, x, tiling)
    scale, shift = latents.scale_and_shift(vae.config) if scaled else (1.0, 0.0)
    return scale * (mean - shift)


def concat_condition(
    vae: Any, extra: int, canvas: Canvas | None, size: tuple[int, int], device: torch.device, tiling: str = ""
) -> Tensor | None:
    """What a network of so many channels more sees beside the state, (1, extra, height / 8, width / 8): the mask,
    then the picture with grey in its place; or the picture to edit, in the autoencoder's own units. Without a picture
    all is to be painted. UserError where there is none to edit."""
    if not extra:
        return None
    if extra == EDITS and canvas is None:
        raise UserError("this checkpoint edits pictures: give one with image")
    width, height = size
    canvas = canvas or Canvas(np.zeros((height, width, 3), np.uint8), 1.0, np.ones((height, width)))
    x = torch.from_numpy(latents.to_input(canvas.pixels[None], 3)).to(device)
    if extra == EDITS:
        return encode(vae, x, scaled=False, tiling=tiling)
    region = np.ones((height, width)) if canvas.region is None else canvas.region
    keep = torch.from_numpy(region < 0.5).to(device)
    places = torch.from_numpy(canvas.places).to(device, x.dtype)
    return torch.cat([places, encode(vae, x * keep, tiling=tiling)], dim=1)


def begin(
    vae: Any, process: Any, canvas: Canvas, level: diffusion.NoiseLevel, noise: Tensor, keep: bool, tiling: str = ""
) -> tuple[Tensor | None, list[Callable[..., Any]]]:
    """The picture noised to this level, None where what is drawn anew begins as noise alone; and, with `keep`, the
    hook that puts back at each step what the mask keeps, noised by the noise that it began with: so do diffusers,
    A1111 and ComfyUI."""
    x0 = encode(vae, torch.from_numpy(latents.to_input(canvas.pixels[None], 3)).to(noise.device), tiling=tiling)
    x = process.noise(x0, level, noise) if canvas.region is None or canvas.strength < 1 else None
    if canvas.region is None or not keep:
        return x, []
    paste = diffusion.known_region(process, x0, torch.from_numpy(~canvas.places).to(noise.device))
    same = SimpleNamespace(normal=lambda: noise)
    return x, [lambda step, _: paste(step, same)]


def edit_guidance(
    denoise: Callable[..., Any],
    guidance: float,
    image_guidance: float,
    uncond: dict[str, Tensor],
) -> Callable[..., Any]:
    """x_0(none) + i (x_0(image) - x_0(none)) + g (x_0(image, text) - x_0(image)), with g = `guidance` and i =
    `image_guidance` (InstructPix2Pix, Brooks et al. 2023, 2211.09800, equation 3). uncond: of the negative text."""

    def guided(x: Any, t: Any, condition: dict[str, Tensor]) -> Any:
        texts = {key: value.expand(len(x), *value.shape[1:]) for key, value in uncond.items()}
        picture = condition["concat"]
        conditions = (condition, texts | {"concat": picture}, texts | {"concat": torch.zeros_like(picture)})
        full, image, none = (denoise(x, t, each) for each in conditions)
        weights = [guidance, image_guidance - guidance, 1 - image_guidance]
        return full._replace(x0=linear_combination([full.x0, image.x0, none.x0], weights))

    return guided
