"""Pictures as arrays of whole numbers <-> what the network sees."""

from __future__ import annotations

from typing import Any

import numpy as np

from inkwash.codecs.picture_files import DARK
from inkwash.diffusion.arrays import like, namespace, numpy
from inkwash.errors import UserError
from inkwash.progress import free_memory

Array = np.ndarray
COLOURS = 3
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (Rec. 601)
FAINT = 1e-6  # of the range: black and white have no colour
WORKING = 60  # numbers of each pixel that sampling holds at its height, beside the samples


def check_picture(picture: Array) -> None:
    """UserError for what is no picture (H, W) or (H, W, 3) of 8 or 16 bits."""
    if not isinstance(picture, np.ndarray):
        raise UserError(f"a picture of type {type(picture).__name__}: give an array, as np.asarray makes one")
    shape, kind = picture.shape, picture.dtype.newbyteorder("=")
    if not picture.size:
        raise UserError(f"a picture of shape {shape}: it has no pixels")
    if kind not in (np.uint8, np.uint16) or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise UserError(f"a picture of shape {shape} and {kind}: (H, W) or (H, W, 3) of uint8 or uint16 is needed")


def white_of(picture: Array) -> int:
    """The number that is white: 255, 65535, or of 16 bits that are hardly used the greatest there is."""
    if picture.dtype == np.uint8:
        return 255
    high = int(picture.max())
    return high if 0 < high < DARK else 65535


def to_network(picture: Array, white: int) -> Array:
    """(H, W) or (H, W, 3) -> (1, 3, H, W) from -1 to 1, grey in all three."""
    colours = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
    return np.ascontiguousarray((colours.astype(np.float32) / white * 2 - 1).transpose(2, 0, 1)[None])


def from_network(x: Any, white: int, grey: bool) -> Array:
    """(1, 3, H, W) of NumPy or torch -> float64 (H, W, 3) from 0 to white; grey: (H, W), the mean of all three."""
    values: Array = (numpy(x)[0].transpose(1, 2, 0).astype(np.float64) + 1) / 2 * white
    return values.mean(-1) if grey else values


def to_levels(values: Array, white: int, like: Array) -> Array:
    """Rounded and clipped to the whole numbers of another picture's kind."""
    levels: Array = values.clip(0, white).round().astype(like.dtype)
    return levels


def spread_of(samples: Array, white: int) -> Array:
    """Of (k, H, W) or (k, H, W, 3) the standard deviation (H, W) over samples, in parts of the range."""
    spread: Array = (samples.astype(np.float32) / white).std(0)
    return spread if spread.ndim == 2 else spread.mean(-1)


def luma(picture: Array) -> Array:
    """The brightness of (H, W, 3), in its whole numbers; of (H, W) itself."""
    return picture if picture.ndim == 2 else to_levels(picture @ LUMA, int(np.iinfo(picture.dtype).max), picture)


def as_bright(picture: Any, grey: Any) -> Any:
    """The colours of pictures (B, 3, H, W) from -1 to 1, of NumPy or torch, at the brightness grey (B, 1, H, W): of
    the same hue, and fainter where they would leave the range."""
    xp, weights = namespace(picture), like(LUMA.reshape(1, COLOURS, 1, 1), picture)
    colour = picture - (weights * picture).sum(1, keepdims=True)
    beyond = xp.maximum(colour / (1 - grey + FAINT), -colour / (1 + grey + FAINT))
    return grey + colour / xp.amax(beyond, 1, keepdims=True).clip(1)


def check_memory(height: int, width: int, samples: int, whole: float = 0) -> None:
    """UserError where drawing so many pixels, and `whole` bytes for each sample, need more memory than is free."""
    needed, free = 4.0 * height * width * (WORKING + 3 * samples) + whole * samples, free_memory()
    if needed > free:
        raise UserError(
            f"a picture of {width} x {height} pixels needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free: "
            "cut it into pieces, or take fewer samples"
        )
