"""Which prediction answers for which object: one object may have several, a prediction has one at most."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.systems.detection.boxes import giou, iou, pairwise, to_centres

FOCAL, L1, GIOU = 2.0, 5.0, 2.0  # weights of the three terms, in the cost and in the loss
ALPHA, GAMMA = 0.25, 2.0
OUTSIDE = 100.0  # added to the cost of a prediction whose middle is not within the object
TOP = 5  # IoUs whose sum says how many predictions an object has


def focal(logits: Tensor, positive: bool) -> Tensor:
    """The focal loss of each logit if its class is there, or is not: -alpha (1 - p)^gamma log p, or
    -(1 - alpha) p^gamma log(1 - p) (Lin et al. 2017, 1708.02002)."""
    sign, alpha = (1.0, ALPHA) if positive else (-1.0, 1 - ALPHA)
    return -alpha * (-sign * logits).sigmoid() ** GAMMA * F.logsigmoid(sign * logits)


def costs(logits: Tensor, corners: Tensor, kinds: Tensor, truth: Tensor) -> Tensor:
    """(N, M): what it costs that a prediction, logits (N, K) and corners (N, 4), answers for an object, kinds (M,)
    and truth (M, 4): 2 focal + 5 L1 + 2 (1 - GIoU), and 100 where its middle is outside."""
    classes = (focal(logits, True) - focal(logits, False))[:, kinds]
    far = (corners[:, None] - truth).abs().sum(-1)
    cost = FOCAL * classes + L1 * far + GIOU * (1 - pairwise(giou, corners, truth))
    middle = to_centres(corners)[:, None, :2]
    inside = ((middle > truth[:, :2]) & (middle < truth[:, 2:])).all(-1)
    return cost + OUTSIDE * ~inside


@torch.no_grad()
def match(logits: Tensor, corners: Tensor, kinds: Tensor, truth: Tensor) -> Tensor:
    """(N,) int64: the object that each prediction answers for, -1 for none; see `costs`. M <= N.

    An object has as many predictions as the sum of its five greatest IoUs, rounded down, and one at least: its
    cheapest. A prediction of several objects keeps the cheapest of them; an object that is left without one gets the
    cheapest of those that are free (SimOTA, Ge et al. 2021, 2107.08430, as DiffusionDet has it, 2211.09788).
    """
    count = len(truth)
    if not count:
        return torch.full((len(corners),), -1, dtype=torch.long, device=corners.device)
    cost = costs(logits, corners, kinds, truth)
    best = pairwise(iou, corners, truth).topk(min(TOP, len(corners)), 0).values.sum(0)
    wanted = best.int().clamp(min=1)
    places = cost.argsort(dim=0, stable=True).argsort(dim=0)
    claimed = places < wanted
    cheapest = cost.masked_fill(~claimed, torch.inf).argmin(1)
    found = torch.where(claimed.any(1), cheapest, -1)
    for number in sorted(set(range(count)) - set(found.tolist())):
        free = cost[:, number].masked_fill(found >= 0, torch.inf)
        if not free.isfinite().any():  # more predictions are claimed than are left: take one of an object with two
            several = torch.bincount(found[found >= 0], minlength=count)[found] > 1
            free = cost[:, number].masked_fill(~several, torch.inf)
        found[free.argmin()] = number
    return found
