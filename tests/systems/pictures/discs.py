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


def red_discs() -> emoji_data.Emoji:
    """An apple and a cat, both red discs, in two styles; the cat in the second style is not for training."""
    y, x = np.mgrid[:16, :16] - 7.5
    disc = np.zeros((16, 16, 4), np.uint8)
    disc[x**2 + y**2 < 40] = (210, 40, 40, 255)
    columns = {
        "pictures": np.stack([disc] * 4),
        "style": np.array(["flat", "flat", "noto", "noto"]),
        "name": np.array(["red apple", "cat"] * 2),
        "name_zh": np.array(["红苹果", "猫"] * 2),
        "concept": np.array(["1f34e", "1f408"] * 2),
        "tags": [["fruit"], ["pet"]] * 2,
        "tags_zh": [["水果"], ["宠物"]] * 2,
        "kinds": [[], ["tabby"]] * 2,
        "group": np.array(["food-drink", "animals-nature"] * 2),
        "split": np.array(["train", "train", "train", "test"]),
        "licence": np.array(["MIT"] * 4),
    }
    return emoji_data.Emoji(**columns)
