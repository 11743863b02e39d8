"""What is done to pictures, so that a model learns to undo it: drawn at random, and said in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.levels import LUMA
from inkwash.systems.restoration.masks import random_border, random_hole

Array = np.ndarray
Rng = np.random.Generator
QUALITY = (5, 30)  # of a JPEG that is restored
NOISE = (0.02, 0.2)  # standard deviation that is taken away, of the range
BLUR = (0.5, 3.0)  # standard deviation that is sharpened, in pixels
BLOCK = 8  # pixels of a JPEG's squares: a picture is cut anywhere in them

REDUCED = {"area": "means of areas", "bicubic": "bicubic"}  # how a picture is made small: one of those that are named
SPOILED = {  # what is done to half of the small ones, if it is named, in this order
    "blur": "half of them blurred by 0.2 to 1.2 of their pixels",
    "noise": "half of them with noise of up to 4 % of the range",
    "jpeg": "half of them as JPEG of quality 30 to 95",
}
DEGRADATIONS = (*REDUCED, *SPOILED)


class Degraded(NamedTuple):
    """source (S, S, 3) from 0 to 1, and missing (S, S): where nothing of it is known; None for nowhere."""

    source: Array
    missing: Array | None = None


def make_small(picture: Array, factor: int, names: Sequence[str], rng: Rng) -> Array:
    """(factor h, factor w, 3) from 0 to 1 -> (h, w, 3), made small and spoiled as `names` say."""
    ways = [name for name in REDUCED if name in names]
    way = ways[int(rng.integers(len(ways)))]
    small = reduced(picture, factor) if way == "area" else bicubic(picture, factor)
    for name in SPOILED:
        if name not in names or rng.random() < 0.5:
            continue
        if name == "blur":
            small = gaussian_filter(small, (sigma := float(rng.uniform(0.2, 1.2)), sigma, 0))
        elif name == "noise":
            small = small + rng.normal(0, rng.uniform(0, 0.04), small.shape)
        else:
            small = as_jpeg(small, int(rng.integers(30, 96)))
    return small.clip(0, 1)


def bicubic(picture: Array, factor: int) -> Array:
    size = picture.shape[1] // factor, picture.shape[0] // factor
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in channels(picture)]
    return np.stack([np.asarray(plane) for plane in planes], -1).clip(0, 1).astype(np.float64)


def channels(picture: Array) -> list[Array]:
    return [picture[..., i].astype(np.float32) for i in range(picture.shape[2])]


def as_jpeg(picture: Array, quality: int) -> Array:
    """What is left of it after a JPEG."""
    file = BytesIO()
    Image.fromarray((255 * picture.clip(0, 1)).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float64) / 255


def make_small_in_words(factor: int, names: Sequence[str]) -> str:
    ways = " or ".join(text for name, text in REDUCED.items() if name in names)
    return ", ".join([f"pictures made {factor} times smaller ({ways})", *(SPOILED[n] for n in SPOILED if n in names)])


def colourise(picture: Array, rng: Rng) -> Degraded:
    return Degraded(np.repeat((picture @ LUMA)[..., None], 3, -1))


def inpaint(picture: Array, rng: Rng) -> Degraded:
    return Degraded(picture, random_hole(rng, len(picture)))


def uncrop(picture: Array, rng: Rng) -> Degraded:
    return Degraded(picture, random_border(rng, len(picture)))


def restore(picture: Array, rng: Rng) -> Degraded:
    """The squares of the JPEG begin anywhere."""
    top, left = rng.integers(0, BLOCK, 2)
    wide = np.pad(picture, ((top, 0), (left, 0), (0, 0)), mode="edge")
    return Degraded(as_jpeg(wide, int(rng.integers(QUALITY[0], QUALITY[1] + 1)))[top:, left:])


def denoise(picture: Array, rng: Rng) -> Degraded:
    """As files are: clipped, and rounded to 8 bits."""
    noisy = picture + rng.normal(0, rng.uniform(*NOISE), picture.shape)
    return Degraded((255 * noisy.clip(0, 1)).round() / 255)


def deblur(picture: Array, rng: Rng) -> Degraded:
    sigma = float(rng.uniform(*BLUR))
    return Degraded((255 * gaussian_filter(picture, (sigma, sigma, 0)).clip(0, 1)).round() / 255)


class Task(NamedTuple):
    """degrade: (picture (S, S, 3) from 0 to 1, generator) -> Degraded; words: what is undone."""

    degrade: Callable[[Array, Rng], Degraded]
    words: str


TASKS = {
    "colourise": Task(colourise, "colours from brightness"),
    "inpaint": Task(inpaint, "boxes and strokes of a brush filled"),
    "uncrop": Task(uncrop, "half of a picture drawn on, or a border of 8 to 30 % of its sides"),
    "restore": Task(restore, f"JPEG of quality {QUALITY[0]} to {QUALITY[1]}"),
    "denoise": Task(denoise, f"noise of {100 * NOISE[0]:g} to {100 * NOISE[1]:g} % of the range"),
    "deblur": Task(deblur, f"blur of {BLUR[0]:g} to {BLUR[1]:g} pixels"),
}
