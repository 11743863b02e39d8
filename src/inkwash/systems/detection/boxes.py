"""Boxes: their ways of writing, how much they overlap, which of them say the same, and what a picture shows in them.

Corners are (x0, y0, x1, y1), centres (cx, cy, w, h). In networks both are shares of the picture's sides, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIGNAL = 2.0  # a box from 0 to 1 becomes a state from -2 to 2 (DiffusionDet's signal scale)
ROWS = 256  # of boxes that are compared with all others at once
CELLS = 3  # of a level's grid along the side of a box: from twice as many on, the next level has it


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) of centres."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def to_centres(boxes: Tensor) -> Tensor:
    """(..., 4) of corners."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def to_state(centres: Tensor) -> Tensor:
    """(2 b - 1) s: the state of a diffusion."""
    return (2 * centres - 1) * SIGNAL


def from_state(x: Tensor) -> Tensor:
    """The centres of a state, which is clamped to [-s, s] first: from 0 to 1."""
    return (x.clamp(-SIGNAL, SIGNAL) / SIGNAL + 1) / 2


def areas(corners: Tensor) -> Tensor:
    """(...,); 0 of a box that is turned inside out."""
    width, height = (corners[..., 2:] - corners[..., :2]).clamp(min=0).unbind(-1)
    return width * height  # the gradient of `prod` waits for the device


def iou(a: Tensor, b: Tensor) -> Tensor:
    """|A and B| / |A or B| of corners (..., 4), which broadcast; of two boxes without an area 0."""
    both, either = _both_and_either(a, b)
    return both / either.clamp(min=1e-12)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """iou - (|hull| - |A or B|) / |hull|, from -1 to 1, the hull being the smallest box around both (Rezatofighi et
    al. 2019, 1902.09630)."""
    both, either = _both_and_either(a, b)
    hull = areas(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1))
    return both / either.clamp(min=1e-12) - (hull - either) / hull.clamp(min=1e-12)


def _both_and_either(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shared = torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1)
    both = areas(shared)
    return both, areas(a) + areas(b) - both


def pairwise(measure: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`iou` or `giou` of each of (..., N, 4) with each of (..., M, 4): (..., N, M)."""
    return measure(a[..., :, None, :], b[..., None, :, :])


def nms(corners: Tensor, scores: Tensor, kinds: Tensor, threshold: float = 0.5) -> Tensor:
    """Which boxes (n, 4) stay, the best score first; of equal ones the first: each takes away those of its class that
    are worse and whose IoU with it is above the threshold."""
    order = scores.argsort(descending=True, stable=True)
    corners, kinds = corners[order], kinds[order]
    gone, kept = np.zeros(len(order), bool), list[int]()
    for start in range(0, len(order), ROWS):  # a table of all pairs may be larger than the memory
        rows = slice(start, start + ROWS)
        alike = (pairwise(iou, corners[rows], corners) > threshold) & (kinds[rows, None] == kinds)
        for place, hidden in enumerate(alike.numpy(force=True), start):
            if not gone[place]:
                kept.append(place)
                gone |= hidden
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def level_of(corners: Tensor, features: Sequence[Tensor]) -> Tensor:
    """On which level of a pyramid (B, C, h, w), each half as fine as the one before, a box (B, N, 4) is looked at:
    the larger, the coarser (FPN, Lin et al. 2017, 1612.03144, equation 1)."""
    height, width = features[0].shape[2:]
    side = (areas(corners) * height * width).sqrt()  # in cells of the finest
    return (side / CELLS).clamp(min=1).log2().long().clamp(max=len(features) - 1)


def roi_align(features: Sequence[Tensor], corners: Tensor, size: int, samples: int = 2) -> Tensor:
    """What a pyramid of features (B, C, h, w) shows in boxes (B, N, 4) from 0 to 1: (B, N, C, size, size).

    Each box is cut into size x size parts; a part is the mean of samples x samples bilinear values, those of cells
    being at their middles; beyond the edge it is the edge's (RoIAlign, He et al. 2017, 1703.06870).
    """
    count = size * samples
    steps = (torch.arange(count, device=corners.device, dtype=corners.dtype) + 0.5) / count
    x, y = (
        corners[..., i, None] + steps * (corners[..., i + 2] - corners[..., i])[..., None] for i in (0, 1)
    )  # (B, N, count)
    shape = (*corners.shape[:2], count, count)
    points = torch.stack([x[:, :, None].expand(shape), y[..., None].expand(shape)], -1) * 2 - 1
    points = points.nan_to_num(0.0)  # grid_sample has no answer to a box that is no number, and ends the process
    levels, found = level_of(corners, features), None
    for number, level in enumerate(features):
        own = F.grid_sample(level, points.flatten(1, 2), padding_mode="border", align_corners=False)
        own = F.avg_pool2d(own, samples) if samples > 1 else own
        own = own.reshape(*own.shape[:2], -1, size, size).transpose(1, 2)
        found = own if found is None else torch.where((levels == number)[..., None, None, None], own, found)
    assert found is not None
    return found
