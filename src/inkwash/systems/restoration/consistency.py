"""A large picture that is the small one again when it is reduced: means of squares of `factor` x `factor` pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
HALVINGS = 40  # of the interval in which a shift lies: to 2^-40 of a few times the range


def consistent(picture: Any, low: Any, factor: int) -> Any:
    """The nearest picture (B, C, factor h, factor w) whose means of squares are `low` (B, C, h, w), of NumPy or
    torch."""
    count, channels, height, width = low.shape
    squares = picture.reshape(count, channels, height, factor, width, factor)
    off = low - squares.mean((3, 5))
    return (squares + off[:, :, :, None, :, None]).reshape(picture.shape)


def reduced(picture: Array, factor: int) -> Array:
    """(factor h, factor w, ...) -> float64 (h, w, ...): means of squares. What is over at the edges is left out."""
    rows, columns = (side // factor for side in picture.shape[:2])
    cut = picture[: rows * factor, : columns * factor].astype(np.float64)
    means: Array = cut.reshape(rows, factor, columns, factor, *picture.shape[2:]).mean((1, 3))
    return means


def rounded_consistently(picture: Array, low: Array, factor: int, white: int) -> Array:
    """Whole numbers (factor h, factor w, ...) from 0 to `white`, near the picture, whose means of squares are `low`
    (h, w, ...), whole numbers too, exactly.

    All pixels of a square are shifted alike, so that their mean is right. They are rounded down, and those with the
    largest rests up, as many as their sum lacks.
    """
    h, w, *more = low.shape
    blocks = picture.astype(np.float64).reshape(h, factor, w, factor, *more)
    blocks = np.moveaxis(blocks, (1, 3), (-2, -1)).reshape(-1, factor**2)
    goal = low.reshape(-1, 1).astype(np.int64)
    blocks += goal - blocks.mean(-1, keepdims=True)
    beyond = ((blocks < 0) | (blocks > white)).any(-1)
    blocks[beyond] = clipped(blocks[beyond], goal[beyond], white)
    whole = np.floor(blocks)
    lacking = factor**2 * goal - whole.sum(-1, keepdims=True).astype(np.int64)
    whole += np.argsort(np.argsort(whole - blocks, -1, kind="stable"), -1) < lacking
    whole = np.moveaxis(whole.reshape(h, w, *more, factor, factor), (-2, -1), (1, 3))
    result: Array = whole.reshape(h * factor, w * factor, *more).astype(low.dtype)
    return result


def clipped(blocks: Array, goal: Array, white: int) -> Array:
    """Rows (n, k), shifted and clipped to 0 to `white` so that their means are `goal` (n, 1), by bisection; from
    above by less than 1 of all k together."""
    below, high = -white - blocks.max(-1, keepdims=True), white - blocks.min(-1, keepdims=True)
    for _ in range(HALVINGS):
        middle = (below + high) / 2
        too_dark = (blocks + middle).clip(0, white).mean(-1, keepdims=True) < goal
        below, high = np.where(too_dark, middle, below), np.where(too_dark, high, middle)
    found: Array = (blocks + high).clip(0, white)
    return found
