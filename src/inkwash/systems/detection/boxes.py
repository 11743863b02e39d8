"""Boxes: their ways of writing, how much they overlap, which of them say the same.

Corners are (x0, y0, x1, y1), centres (cx, cy, w, h). In networks both are shares of the picture's sides, from 0 to 1.
Arrays are NumPy's or torch's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inkwash.diffusion.arrays import Array, namespace

SIGNAL = 2.0  # a box from 0 to 1 becomes a state from -2 to 2 (DiffusionDet's signal scale)
PAIRS = 2**21  # of boxes that are compared at once: a table of all may be larger than the memory


def to_corners(boxes: Array) -> Array:
    """(..., 4) of centres."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return namespace(boxes).concatenate([middle - half, middle + half], -1)


def to_centres(boxes: Array) -> Array:
    """(..., 4) of corners."""
    return namespace(boxes).concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def to_state(centres: Array) -> Array:
    """(2 b - 1) s: the state of a diffusion."""
    return (2 * centres - 1) * SIGNAL


def from_state(x: Array) -> Array:
    """The centres of a state, which is clamped to [-s, s] first: from 0 to 1."""
    return (x.clip(-SIGNAL, SIGNAL) / SIGNAL + 1) / 2


def areas(corners: Array) -> Array:
    """(...,); 0 of a box that is turned inside out."""
    sides = (corners[..., 2:] - corners[..., :2]).clip(0, None)
    return sides[..., 0] * sides[..., 1]  # the gradient of `prod` waits for the device


def iou(a: Array, b: Array) -> Array:
    """|A and B| / |A or B| of corners (..., 4), which broadcast; of two boxes without an area 0."""
    both, either = _both_and_either(a, b)
    return both / either.clip(1e-12, None)


def giou(a: Array, b: Array) -> Array:
    """iou - (|hull| - |A or B|) / |hull|, from -1 to 1, the hull being the smallest box around both (Rezatofighi et
    al. 2019, 1902.09630)."""
    both, either = _both_and_either(a, b)
    xp = namespace(a)
    hull = areas(xp.concatenate([xp.minimum(a[..., :2], b[..., :2]), xp.maximum(a[..., 2:], b[..., 2:])], -1))
    return both / either.clip(1e-12, None) - (hull - either) / hull.clip(1e-12, None)


def _both_and_either(a: Array, b: Array) -> tuple[Array, Array]:
    xp = namespace(a)
    shared = xp.concatenate([xp.maximum(a[..., :2], b[..., :2]), xp.minimum(a[..., 2:], b[..., 2:])], -1)
    both = areas(shared)
    return both, areas(a) + areas(b) - both


def pairwise(measure: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """`iou` or `giou` of each of (..., N, 4) with each of (..., M, 4): (..., N, M)."""
    return measure(a[..., :, None, :], b[..., None, :, :])


def nms(corners: np.ndarray, scores: np.ndarray, kinds: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Which boxes (n, 4) stay, the best score first; of equal ones the first: each takes away those of its class that
    are worse and whose IoU with it is above the threshold. Of NumPy alone."""
    left, kept = np.argsort(-scores, kind="stable"), list[int]()
    while len(left):
        best = left[: max(1, PAIRS // len(left))]
        alike = (pairwise(iou, corners[best], corners[left]) > threshold) & (kinds[best, None] == kinds[left])
        gone = np.zeros(len(left), bool)
        for place, hidden in enumerate(alike):
            if not gone[place]:
                kept.append(best[place])
                gone |= hidden
        left = left[len(best) :][~gone[len(best) :]]
    return np.array(kept, int)
