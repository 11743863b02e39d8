"""Sizes: of a picture as it is and as the network sees it, and of the memory that both take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inkwash.codecs.picture_files import Array
from inkwash.errors import UserError
from inkwash.progress import free_memory


def working_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Rows and columns of a picture as the network sees it."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def middle(x: Array, size: int) -> Array:
    """A square of this size out of the middle of (1, C, H, W), mirrored where that is smaller."""
    rows, columns = (max(0, size - side) for side in x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")
    top, left = ((side - size) // 2 for side in padded.shape[2:])
    square: Array = padded[..., top : top + size, left : left + size]
    return square


def needed_memory(height: int, width: int, scale: float, classes: int, samples: int) -> float:
    """Bytes, about: 40 features of each pixel as the network sees it, the samples there, and of each pixel of the
    picture its numbers, the mean, the probability and each sample's objects."""
    seen = height * width * scale**2
    return 4 * (seen * (40 + 6 * (classes + 1) * samples) + height * width * (12 + 4 * classes + samples))


def check_memory(height: int, width: int, scale: float, classes: int, samples: int) -> None:
    """UserError where a picture needs more than is free."""
    needed, free = needed_memory(height, width, scale, classes, samples), free_memory()
    if needed > free:
        raise UserError(
            f"a picture of {width} x {height} pixels needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free: "
            "cut it into pieces, or take fewer samples"
        )
