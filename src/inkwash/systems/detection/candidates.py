"""From all that a network says to the boxes of a picture: of all steps, of all samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from inkwash.systems.detection.boxes import iou, nms, pairwise

SAME = 0.5  # the IoU from which on two boxes of one class say the same


class Candidates(NamedTuple):
    """corners (n, 4) from 0 to 1, scores (n,) from 0 to 1, kinds (n,); spread (n, 4), the standard deviation of the
    corners over samples, and found (n,), the share of the samples that have the box; both of several samples only."""

    corners: Tensor
    scores: Tensor
    kinds: Tensor
    spread: Tensor | None = None
    found: Tensor | None = None


def best_of(corners: Tensor, probabilities: Tensor, count: int) -> Candidates:
    """The `count` best pairs of a box (n, 4) and a class, by probabilities (n, K)."""
    scores, places = probabilities.flatten().topk(min(count, probabilities.numel()))
    kinds = places % probabilities.shape[1]
    return Candidates(corners[places // probabilities.shape[1]], scores, kinds)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Of all steps, or samples, together: of boxes of one class that say the same the best."""
    corners, scores, kinds = (torch.cat([part[i] for part in parts]) for i in range(3))  # type: ignore[misc]
    kept = nms(corners, scores, kinds, SAME)
    return Candidates(corners[kept], scores[kept], kinds[kept])


def spread_over(samples: Sequence[Candidates]) -> Candidates:
    """Of several samples: each box that one of them has, by the best score first. Its score is the mean of those that
    the samples give the box of its class that overlaps it most, 0 where none does by SAME; its spread is theirs."""
    every = joined(samples)
    corners = every.corners.new_full((len(samples), *every.corners.shape), torch.nan)
    scores = every.scores.new_zeros(len(samples), len(every.scores))
    for number, own in enumerate(samples):
        if len(own.scores) and len(every.scores):
            overlap = pairwise(iou, every.corners, own.corners) * (every.kinds[:, None] == own.kinds)
            best, place = overlap.max(1)
            there = best >= SAME
            corners[number, there] = own.corners[place[there]]
            scores[number, there] = own.scores[place[there]]
    there = scores > 0
    count = there.sum(0).clamp(min=1)[:, None]
    mean = corners.nansum(0) / count
    spread = ((corners - mean) ** 2).nansum(0).div(count).sqrt()
    score = scores.mean(0)
    order = score.argsort(descending=True, stable=True)
    found = there.float().mean(0)
    return Candidates(every.corners[order], score[order], every.kinds[order], spread[order], found[order])
