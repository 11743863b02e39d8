"""Signed distance fields of drawings of one colour: how far each place is from the outline, inside positive.

Level 0 of a field is the outline, and another level another weight of the strokes. A field of 64 pixels a side holds
an outline as well as the opacity of 128 pixels does. Distances are in pixels of the field's own size.
"""

import io

import numpy as np
from PIL import Image

from inkwash.codecs import pixels

SIZE = 64  # pixels a side of the fields that are stored
LIMIT = 6  # pixels: distances are cut off there, so that a byte holds them
SUPERSAMPLING = 8  # pixels a side of the drawing for each pixel of its field


def ink(png: bytes) -> np.ndarray:
    """How much ink there is at each pixel of a drawing (height, width), from 0 to 1: white is paper."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = np.asarray(picture.convert("RGB").convert("L"), np.float32) / 255
    return np.asarray(picture.getchannel("A"), np.float32) / 255 * (1 - white)


def signed_distance(inside: np.ndarray) -> np.ndarray:
    """How far the centre of each pixel is from the outline of a shape (height, width) of bool, in its pixels.

    A shape that is empty, or fills all, has no outline: infinitely far.
    """
    from scipy import ndimage

    if inside.all() or not inside.any():
        return np.where(inside, np.inf, -np.inf)
    within, without = ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside)
    # to the centre of the nearest pixel on the other side, which the outline is half a pixel nearer than
    distance: np.ndarray = np.where(inside, within - 0.5, 0.5 - without)
    return distance


def average(field: np.ndarray, factor: int) -> np.ndarray:
    """The means of squares of factor x factor pixels of fields (..., height, width), in units of such a square."""
    height, width = (side // factor for side in field.shape[-2:])
    squares = field.reshape(*field.shape[:-2], height, factor, width, factor)
    return np.asarray(squares.mean((-3, -1)) / factor)


def encode(coverage: np.ndarray) -> bytes:
    """The field of a drawing of SIZE x SUPERSAMPLING pixels a side: an int8 for each pixel, LIMIT pixels are 127."""
    field = average(signed_distance(coverage >= 0.5), SUPERSAMPLING)
    return np.round(field.clip(-LIMIT, LIMIT) * (127 / LIMIT)).astype(np.int8).tobytes()


def decode(fields: list[bytes], size: int) -> np.ndarray:
    """Stored fields as float32 (N, size, size), size 64 or 32. At 32 they are cut off at 2 pixels.

    They are exact there: four pixels whose mean lies within 4 pixels all lie within the limit of 6.
    """
    stored = np.frombuffer(b"".join(fields), np.int8).reshape(-1, SIZE, SIZE)
    full = stored.astype(np.float32) * np.float32(LIMIT / 127)
    return full if size == SIZE else average(full, SIZE // size).clip(-limit(size), limit(size))


def limit(side: int) -> float:
    """Where the fields that a network learns are cut off, in their pixels: at a sixteenth of the side."""
    return side / 16


def from_picture(picture: Image.Image, size: int = 32) -> np.ndarray:
    """The field (size, size) of a square picture of one colour, cut off at `limit`: dark on white, or on nothing."""
    side = size * SUPERSAMPLING
    grey = picture.convert("LA").resize((side, side), Image.Resampling.BOX if picture.width > side else None)
    white, opacity = np.asarray(grey, np.float32).transpose(2, 0, 1) / 255
    field = average(signed_distance(opacity * (1 - white) >= 0.5), SUPERSAMPLING)
    return field.clip(-limit(size), limit(size)).astype(np.float32)


def to_state(fields: np.ndarray, patch: int) -> np.ndarray:
    """Fields (N, side, side) -> states (N, patch^2, side / patch, side / patch) in [-1, 1]."""
    return pixels.pixel_unshuffle((fields[:, None] / limit(fields.shape[-1])).clip(-1, 1).astype(np.float32), patch)


def from_state(state: np.ndarray, patch: int) -> np.ndarray:
    """The inverse of `to_state`."""
    field = pixels.pixel_shuffle(state, patch)[:, 0].clip(-1, 1)
    return np.asarray(field * np.float32(limit(field.shape[-1])))


def coverage(field: np.ndarray, size: int, level: float = 0.0) -> np.ndarray:
    """How much ink there is at each pixel of a picture of size x size, from 0 to 1: the field (side, side), bicubic
    between its places, above the level, with soft edges one pixel wide."""
    scale = size / field.shape[0]
    fine = np.asarray(Image.fromarray(field - np.float32(level)).resize((size, size), Image.Resampling.BICUBIC))
    soft: np.ndarray = (fine * scale + 0.5).clip(0, 1)
    return soft


def draw(fields: np.ndarray, size: int) -> np.ndarray:
    """Fields (N, side, side) -> black ink, uint8 (N, size, size, 4): colours on white, and opacity."""
    ink = np.stack([(255 * coverage(field, size)).round().astype(np.uint8) for field in fields])[..., None]
    return np.concatenate([255 - ink, 255 - ink, 255 - ink, ink], axis=-1)
