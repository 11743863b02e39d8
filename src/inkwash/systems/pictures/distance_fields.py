"""Signed distance fields of drawings of one colour: how far each place is from the outline, inside positive.

Level 0 of a field is the outline, and another level another weight of the strokes. A field of 64 pixels a side holds
an outline as well as the opacity of 128 pixels does. Distances are in pixels of the field's own size.
"""

import io

import numpy as np
from PIL import Image

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
    return full if size == SIZE else average(full, SIZE // size).clip(-2, 2)
