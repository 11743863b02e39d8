"""From all that a network says to the boxes of a picture: of all steps, of all samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array
from inkwash.systems.detection.boxes import iou, nms, pairwise

SAME = 0.5  # the IoU from which on two boxes of one class say the same


class Candidates(NamedTuple):
    """corners (n, 4) from 0 to 1, scores (n,) from 0 to 1, kinds (n,); spread (n, 4), the standard deviation of the
    corners over samples, and found (n,), the share of the samples that have the box; both of several samples only."""

    corners: Array
    scores: Array
    kinds: Array
    spread: Array | None = None
    found: Array | None = None


def best_of(corners: Array, probabilities: Array, count: int) -> Candidates:
    """The `count` best pairs of a box (n, 4) and a class, by probabilities (n, K)."""
    places = np.argsort(-probabilities, None, kind="stable")[:count]
    boxes, kinds = np.unravel_index(places, probabilities.shape)
    return Candidates(corners[boxes], probabilities[boxes, kinds], kinds)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Of all steps, or samples, together: of boxes of one class that say the same the best."""
    corners, scores, kinds = (np.concatenate([part[i] for part in parts]) for i in range(3))
    kept = nms(corners, scores, kinds, SAME)
    return Candidates(corners[kept], scores[kept], kinds[kept])


def spread_over(samples: Sequence[Candidates]) -> Candidates:
    """Of several samples: each box that one of them has, by the best score first. Its score is the mean of those that
    the samples give the box of its class that overlaps it most, 0 where none does by SAME; its spread is theirs."""
    every = joined(samples)
    corners = np.full((len(samples), *every.corners.shape), np.nan)
    scores = np.zeros((len(samples), len(every.scores)))
    for number, own in enumerate(samples):
        if len(own.scores) and len(every.scores):
            overlap = pairwise(iou, every.corners, own.corners) * (every.kinds[:, None] == own.kinds)
            place = overlap.argmax(1)
            there = overlap.max(1) >= SAME
            corners[number, there] = own.corners[place[there]]
            scores[number, there] = own.scores[place[there]]
    there = scores > 0
    count = there.sum(0).clip(1)[:, None]
    mean = np.nansum(corners, 0) / count
    spread = np.sqrt(np.nansum((corners - mean) ** 2, 0) / count)
    score = scores.mean(0)
    order = np.argsort(-score, kind="stable")
    found = there.mean(0)
    return Candidates(every.corners[order], score[order], every.kinds[order], spread[order], found[order])
