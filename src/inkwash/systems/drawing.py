"""Balls and sticks in space as a small picture: cells of crystals, traces of proteins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 360  # pixels of a picture
MARGIN = 0.06  # of its side
FOG = 0.55  # how much of its colour the farthest thing loses to the white of the paper
FINE = 2  # drawn so many times as large, for smooth edges
# a little from above, and turned, so that the axes of a cell part; rows are right, up, and towards the eye
VIEW = np.array([[0.940, 0.342, 0.0], [-0.088, 0.243, 0.966], [0.330, -0.908, 0.259]])

Color = tuple[int, int, int]


class Ball(NamedTuple):
    place: np.ndarray  # (3,)
    radius: float
    color: Color


class Stick(NamedTuple):
    start: np.ndarray  # (3,)
    end: np.ndarray
    width: float
    color: Color


def draw(balls: Sequence[Ball], sticks: Sequence[Stick] = ()) -> Image.Image:
    """Seen from afar (no perspective), what is farther paler and covered by what is nearer; on white."""
    ends = [place for stick in sticks for place in (stick.start, stick.end)]
    sizes = [ball.radius for ball in balls] + [stick.width / 2 for stick in sticks for _ in range(2)]
    seen = np.array([*(ball.place for ball in balls), *ends]) @ VIEW.T
    low, high = (seen - np.array(sizes)[:, None]).min(0), (seen + np.array(sizes)[:, None]).max(0)
    side, span = SIDE * FINE, max(*(high - low)[:2], 1e-6)
    scale, depth = side * (1 - 2 * MARGIN) / span, max(high[2] - low[2], 1e-6)
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)

    def on_paper(place: np.ndarray) -> tuple[float, float, float]:
        x, y, z = place @ VIEW.T - (low + high) / 2
        return side / 2 + scale * x, side / 2 - scale * y, z

    def paled(color: Color, z: float) -> Color:
        fog = FOG * (0.5 - z / depth)
        red, green, blue = (round(255 * fog + part * (1 - fog)) for part in color)
        return red, green, blue

    things: list[tuple[float, Ball | Stick]] = [(on_paper(ball.place)[2], ball) for ball in balls]
    things += [(on_paper((stick.start + stick.end) / 2)[2], stick) for stick in sticks]
    for z, thing in sorted(things, key=lambda each: each[0]):
        color = paled(thing.color, z)
        if isinstance(thing, Stick):
            line = [on_paper(thing.start)[:2], on_paper(thing.end)[:2]]
            pen.line(line, color, max(round(scale * thing.width), FINE))
            continue
        x, y, _ = on_paper(thing.place)
        radius, dark = scale * thing.radius, tuple(round(0.55 * part) for part in color)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, dark, 2 * FINE)
        light, at = tuple(round(0.4 * part + 153) for part in color), 0.35 * radius
        pen.ellipse((x - at - at, y - at - at, x, y), light)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
