"""A backbone as a small picture: its trace, blue at its N end and red at its C end; a motif in black."""

from __future__ import annotations

import colorsys
from collections.abc import Collection

import numpy as np
from PIL import Image

from inkwash.systems.drawing import Ball, Stick, draw
from inkwash.systems.protein.chains import BACKBONE

WIDTH = 0.9  # angstrom
BLACK = (30, 30, 30)


def picture_of(coordinates: np.ndarray, motif: Collection[int] = ()) -> Image.Image:
    """coordinates: (L, 3, 3) of N, CA, C, or (L, 1, 3) of CA, in angstrom; its longest side lies across."""
    places = coordinates[:, BACKBONE.index("CA") if coordinates.shape[1] > 1 else 0]
    places = places - places.mean(0)
    _, _, axes = np.linalg.svd(places, full_matrices=False)
    axes = axes * np.sign(axes.sum(1, keepdims=True))  # of two opposite axes one, the same on each machine
    axes[2] = np.cross(axes[0], axes[1])  # no mirror image
    places = places @ axes.T
    colors = [BLACK if i in motif else rainbow(i / max(len(places) - 1, 1)) for i in range(len(places))]
    balls = [Ball(place, WIDTH / 2, color) for place, color in zip(places, colors, strict=True)]
    pairs = zip(places[:-1], places[1:], colors[:-1], strict=True)
    return draw(balls, [Stick(one, two, WIDTH, color) for one, two, color in pairs])


def rainbow(share: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(0.66 * (1 - share), 0.85, 0.85))
    return red, green, blue
