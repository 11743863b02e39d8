"""Emoji data of discs."""

from dataclasses import fields
from functools import cache

import numpy as np
from PIL import Image

from inkwash.systems.pictures import emoji_data


@cache
def discs(size: int, train: int = 40) -> emoji_data.Emoji:
    """Discs of many colours, places and sizes: 40 for validation, 40 for the test."""
    rng, pictures = np.random.default_rng(0), []
    y, x = (np.mgrid[:64, :64] + 0.5) / 64
    for _ in range(train + 80):
        cy, cx, radius = *rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.35)
        inside = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[..., None]
        large = Image.fromarray(np.where(inside, [*rng.integers(30, 226, 3), 255], 0).astype(np.uint8))
        pictures.append(np.asarray(large.resize((size, size), Image.Resampling.BOX)))
    text = np.array([""] * (train + 80))
    columns = {field.name: text for field in fields(emoji_data.Emoji)}
    columns |= {"pictures": np.stack(pictures), "split": np.repeat(["train", "validation", "test"], [train, 40, 40])}
    return emoji_data.Emoji(**columns)
