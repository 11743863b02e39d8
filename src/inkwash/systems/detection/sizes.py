"""A picture as the network sees it, and which of its pixels that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, normalised, resized

FINE = 4  # a picture is first made smaller by whole pixels, to no less than so many times what the network sees


class Prepared(NamedTuple):
    """A picture as the network sees it, (1, 3, h, w), its own width and height, and how many of its pixels the
    network's width and height are: a little more where it was filled up."""

    x: Array
    size: tuple[int, int]
    frame: tuple[float, float]


def prepare(picture: Array, size: int, multiple: int) -> Prepared:
    """The longer side as `size` pixels, from -1 to 1, smaller as means of areas, larger bilinear; filled up with grey
    on the right and below to a multiple of `multiple`."""
    height, width = picture.shape[:2]
    columns, rows = shape_of((width, height), size)
    step = max(1, min(height // (FINE * rows), width // (FINE * columns)))
    picture = coarse(picture, step)
    seen = picture.shape[1] * step, picture.shape[0] * step
    x = resized(normalised(picture).transpose(2, 0, 1)[None], (rows, columns)) * 2 - 1
    x = np.pad(x, ((0, 0), (0, 0), (0, -rows % multiple), (0, -columns % multiple)))
    return Prepared(x, (width, height), (x.shape[3] * seen[0] / columns, x.shape[2] * seen[1] / rows))


def coarse(picture: Array, step: int) -> Array:
    """The means of step x step pixels; a huge picture is nowhere in memory as floats. What is left over at the right
    and below, less than a step, is not looked at."""
    if step == 1:
        return picture
    height, width = (side // step for side in picture.shape[:2])
    parts = picture[: height * step, : width * step].reshape(height, step, width, step, -1)
    means: Array = parts.mean((1, 3), dtype=np.float32)
    return means if picture.ndim == 3 else means[..., 0]


def shape_of(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is to be so long."""
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
