"""Holes in pictures: those that are learned from, drawn at random, and those of users."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from inkwash.diffusion.arrays import namespace

Array = np.ndarray
LEAST, MOST = 0.15, 0.6  # sides of a box, in parts of the picture's
STROKES, WIDTH = (1, 5), (0.08, 0.3)  # of a free form: how many, and how wide in parts of the side


def random_hole(rng: np.random.Generator, size: int) -> Array:
    """bool (size, size): a box, or strokes of a brush (the masks of Palette, 2111.05826)."""
    return box(rng, size) if rng.random() < 0.5 else free_form(rng, size)


def box(rng: np.random.Generator, size: int) -> Array:
    hole = np.zeros((size, size), bool)
    height, width = (max(1, round(size * part)) for part in rng.uniform(LEAST, MOST, 2))
    top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
    hole[top : top + height, left : left + width] = True
    return hole


def free_form(rng: np.random.Generator, size: int) -> Array:
    """Strokes of a round brush from place to place (Yu et al. 2018, 1806.03589)."""
    picture = Image.new("1", (size, size))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(*STROKES))):
        width = max(1.0, size * float(rng.uniform(*WIDTH)))
        points = [tuple(map(float, point)) for point in rng.uniform(0, size, (int(rng.integers(2, 6)), 2))]
        pen.line(points, 1, round(width))
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 1)
    return np.array(picture)


def random_border(rng: np.random.Generator, size: int) -> Array:
    """bool (size, size), what lies beyond a picture: a half at one of its sides, or a border on all."""
    hole = np.zeros((size, size), bool)
    if rng.random() < 0.5:
        hole[: size // 2] = True
        return np.rot90(hole, int(rng.integers(4))).copy()
    edge = max(1, round(size * float(rng.uniform(0.08, 0.3))))
    hole[:] = True
    hole[edge:-edge, edge:-edge] = False
    return hole


def canvas(picture: Array, outpaint: float) -> tuple[Array, Array]:
    """The picture in the middle of a black one, of whose sides it leaves `outpaint` free on each side; and 1.0 where
    that is."""
    sides = canvas_size(picture, outpaint)
    around = [((large - side) // 2,) * 2 for large, side in zip(sides, picture.shape[:2], strict=True)]
    free = np.pad(np.zeros(picture.shape[:2]), around, constant_values=1.0)
    return np.pad(picture, [*around, *[(0, 0)] * (picture.ndim - 2)]), free


def canvas_size(picture: Array, outpaint: float) -> tuple[int, int]:
    """Rows and columns of a canvas."""
    height, width = (side + 2 * max(1, round(side * outpaint / (1 - 2 * outpaint))) for side in picture.shape[:2])
    return height, width


def surrounding(hole: Array, margin: int) -> tuple[slice, slice]:
    """The rows and columns of the hole, and so many pixels around it: what else there is cannot matter much."""
    found = []
    for axis in (1, 0):
        places = np.flatnonzero(hole.any(axis))
        found.append(slice(max(0, int(places[0]) - margin), min(hole.shape[1 - axis], int(places[-1]) + 1 + margin)))
    return found[0], found[1]


def with_missing(source: Any, missing: Any) -> Any:
    """(B, 3, H, W) and (B, 1, H, W), 1 where nothing is known, of NumPy or torch -> (B, 4, H, W), 0 in the colours
    there."""
    return namespace(source).concatenate([source * (1 - missing), missing], 1)
