"""What a pyramid of features shows in boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.systems.detection.boxes import areas

CELLS = 3  # of a level's grid along the side of a box: from twice as many on, the next level has it


def level_of(corners: Tensor, features: Sequence[Tensor]) -> Tensor:
    """On which level of a pyramid (B, C, h, w), each half as fine as the one before, a box (B, N, 4) is looked at:
    the larger, the coarser (FPN, Lin et al. 2017, 1612.03144, equation 1)."""
    height, width = features[0].shape[2:]
    side: Tensor = (areas(corners) * height * width).sqrt()  # in cells of the finest
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
        precise = level.to(points.dtype)  # bfloat16 has too few places for where a box is
        own = F.grid_sample(precise, points.flatten(1, 2), padding_mode="border", align_corners=False)
        own = F.avg_pool2d(own, samples) if samples > 1 else own
        own = own.reshape(*own.shape[:2], -1, size, size).transpose(1, 2)
        found = own if found is None else torch.where((levels == number)[..., None, None, None], own, found)
    assert found is not None
    return found
