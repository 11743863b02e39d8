"""Which prediction answers for which object: one object may have several, a prediction has one at most."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.systems.detection.boxes import giou, iou, pairwise, to_centres

FOCAL, L1, GIOU = 2.0, 5.0, 2.0  # weights of the three terms, in the cost and in the loss
ALPHA, GAMMA = 0.25, 2.0
OUTSIDE = 100.0  # added to the cost of a prediction whose middle is not within the object
TAKEN = 1e6  # more than any cost
TOP = 5  # IoUs whose sum says how many predictions an object has


def focal(logits: Tensor, positive: bool) -> Tensor:
    """The focal loss of each logit if its class is there, or is not: -alpha (1 - p)^gamma log p, or
    -(1 - alpha) p^gamma log(1 - p) (Lin et al. 2017, 1708.02002)."""
    sign, alpha = (1.0, ALPHA) if positive else (-1.0, 1 - ALPHA)
    return -alpha * (-sign * logits).sigmoid() ** GAMMA * F.logsigmoid(sign * logits)


def costs(logits: Tensor, corners: Tensor, kinds: Tensor, truth: Tensor) -> Tensor:
    """(..., N, M): what it costs that a prediction, logits (..., N, K) and corners (..., N, 4), answers for an
    object, kinds (..., M) and truth (..., M, 4): 2 focal + 5 L1 + 2 (1 - GIoU), and 100 where its middle is
    outside."""
    classes = focal(logits, True) - focal(logits, False)
    classes = classes.gather(-1, kinds[..., None, :].expand(*logits.shape[:-1], kinds.shape[-1]))
    far = (corners[..., :, None, :] - truth[..., None, :, :]).abs().sum(-1)
    cost = FOCAL * classes + L1 * far + GIOU * (1 - pairwise(giou, corners, truth))
    middle, ends = to_centres(corners)[..., :, None, :2], truth[..., None, :, :]
    inside = ((middle > ends[..., :2]) & (middle < ends[..., 2:])).all(-1)
    total: Tensor = cost + OUTSIDE * ~inside
    return total


@torch.no_grad()
def match(logits: Tensor, corners: Tensor, kinds: Tensor, truth: Tensor) -> Tensor:
    """(B, N) int64: the object that each prediction answers for, -1 for none; see `costs`. kinds (B, M), -1 where
    there is no object; M <= N.

    An object has as many predictions as the sum of its five greatest IoUs, rounded down, and one at least: its
    cheapest. A prediction of several objects keeps the cheapest of them; an object that is left without one gets the
    cheapest of those that are free, or else of those whose object has another (SimOTA, Ge et al. 2021, 2107.08430, as
    DiffusionDet has it, 2211.09788). Nothing waits for the device.
    """
    real, count = kinds >= 0, kinds.shape[1]
    if not count:
        return torch.full(corners.shape[:2], -1, device=corners.device)
    cost = costs(logits, corners, kinds.clamp(min=0), truth)
    best = pairwise(iou, corners, truth).topk(min(TOP, corners.shape[1]), 1).values.sum(1)
    wanted = best.int().clamp(min=1) * real
    ranks = cost.argsort(dim=1, stable=True).argsort(dim=1)
    claimed = ranks < wanted[:, None]
    found = torch.where(claimed.any(2), cost.masked_fill(~claimed, torch.inf).argmin(2), -1)
    numbers = torch.arange(count, device=found.device)
    for number in range(count):
        owned = (found[..., None] == numbers).sum(1)  # (B, M)
        several = owned.gather(1, found.clamp(min=0)) > 1
        taken = (found >= 0).float() * TAKEN + ((found >= 0) & ~several).float() * TAKEN
        chosen = (cost[..., number] + taken).argmin(1, keepdim=True)
        lacking = (real[:, number] & (owned[:, number] == 0))[:, None]
        found = torch.where(lacking & (torch.arange(found.shape[1], device=found.device) == chosen), number, found)
    return found
