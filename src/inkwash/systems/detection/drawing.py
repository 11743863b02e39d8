"""Boxes drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inkwash.codecs.picture_files import Array, normalised
from inkwash.systems.picture_folders import COLOURS

LARGEST = 2048  # the longer side of an overlay


def overlay(page: Array, boxes: Array, kinds: Array, texts: Sequence[str]) -> Image.Image:
    """The picture with boxes (n, 4) in its pixels, each in its class's colour with its text; smaller where
    it has more than 2,048 pixels along a side."""
    factor = min(1.0, LARGEST / max(page.shape[:2]))
    step = max(1, int(1 / factor))
    seen = page[::step, ::step]  # a huge picture is nowhere in memory as floats
    drawn = Image.fromarray((255 * normalised(seen)).round().astype(np.uint8))
    width, height = (max(1, round(side * factor)) for side in (page.shape[1], page.shape[0]))
    drawn = drawn if drawn.size == (width, height) else drawn.resize((width, height))
    pen, line = ImageDraw.Draw(drawn), max(1, round(max(drawn.size) / 400))
    font = ImageFont.load_default(max(8, round(max(drawn.size) / 50)))
    for box, kind, text in zip(boxes * factor, kinds, texts, strict=True):
        colour = COLOURS[int(kind) % len(COLOURS)]
        x0, y0, x1, y1 = box.tolist()
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        if text.isascii():  # the font that comes with Pillow knows no others
            pen.text((x0 + line + 1, y0 + line), text, fill=colour, font=font)
    return drawn
