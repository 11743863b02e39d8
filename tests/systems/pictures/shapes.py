"""Icons to train on: discs and boxes as distance fields, as outlines and filled."""

import numpy as np

from inkwash.systems.pictures.icons_data import Icons

SIDE = 64
TAGS = {"disc": ["round"], "box plus": ["crate"], "moon": ["night"]}
NAMES_ZH = {"disc": "圆盘", "box plus": "", "moon": "月亮"}


def solid(name: str) -> np.ndarray:
    """The exact distance from the outline of a disc, of a box, or of what is left of a disc, (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    if name == "box plus":
        return np.minimum(20 - abs(x), 12 - abs(y))
    disc = 20 - np.hypot(x, y)
    return disc if name == "disc" else np.minimum(disc, np.hypot(x - 12, y) - 16)


def icons(*_, size: int = SIDE) -> Icons:
    """Each name in two styles for training, in a third that holds the disc alone; one of validation and of test."""
    rows = [(style, name, "train") for style in ("line", "solid") for name in TAGS]
    rows += [("pen", "disc", "train"), ("line", "hill", "validation"), ("solid", "lake", "test")]
    fields = [solid(name if name in TAGS else "moon") for _, name, _ in rows]
    styles, names, split = (np.array(column) for column in zip(*rows, strict=True))
    outlines = np.stack([f if style == "solid" else 3 - abs(f) for f, style in zip(fields, styles, strict=True)])
    count, factor = len(rows), SIDE // size
    small = outlines.reshape(count, size, factor, size, factor).mean((2, 4)) / factor
    return Icons(
        fields=small.clip(-6, 6).astype(np.float32),
        style=styles,
        icon=np.array([f"{style}:{name}" for style, name, _ in rows]),
        name=names,
        aliases=[["coin"] if name == "disc" and style == "pen" else [] for style, name, _ in rows],
        tags=[TAGS.get(name, []) for name in names],
        name_zh=np.array([NAMES_ZH.get(name, "") for name in names]),
        tags_zh=[[] for _ in rows],
        split=split,
        licence=np.array(["MIT"] * count),
        author=np.array(["nobody"] * count),
    )
