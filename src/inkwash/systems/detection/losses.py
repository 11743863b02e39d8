"""What the heads learn from: DiffusionDet's set of boxes, and FCOS's cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.diffusion.losses import Term
from inkwash.systems.detection.boxes import areas, from_state, giou, to_corners
from inkwash.systems.detection.matching import FOCAL, GIOU, L1, focal, match

RADIUS = 1.5  # cells around an object's middle that learn it
REACH = 4.0  # cells from a level's place to the farthest edge of its objects; twice as many belong to the next level


def set_loss(kinds: Tensor) -> Callable[[Term], Tensor]:
    """The objective of states whose first boxes are objects: kinds (B, N), -1 of the placeholders. Of each sample the
    sum over stages of 2 focal + 5 L1 + 2 (1 - GIoU), divided by the predictions of the batch that answer for an
    object, as a share of the batch: the mean over samples is the loss of the batch."""

    def objective(term: Term) -> Tensor:
        extra = term.prediction.extra
        assert extra is not None
        truth = to_corners(from_state(term.x0))
        total = torch.zeros(len(kinds), device=kinds.device)
        for stage in range(extra["logits"].shape[1]):
            total = total + stage_loss(extra["logits"][:, stage], extra["boxes"][:, stage], truth, kinds)
        return total

    return objective


def stage_loss(logits: Tensor, corners: Tensor, truth: Tensor, kinds: Tensor) -> Tensor:
    """(B,), of one stage; see `set_loss`."""
    found = torch.full(kinds.shape, -1, device=kinds.device)
    for i, own in enumerate(kinds):
        real = own >= 0  # they come first, so their numbers are their places
        found[i] = match(logits[i], corners[i], own[real], truth[i][real])
    answers = found >= 0
    count = answers.sum().clamp(min=1)
    place = found.clamp(min=0)
    aim = truth.gather(1, place[..., None].expand_as(truth))
    classes = kinds.gather(1, place)
    hot = F.one_hot(classes.clamp(min=0), logits.shape[-1]).bool() & answers[..., None]
    loss = FOCAL * torch.where(hot, focal(logits, True), focal(logits, False)).sum(-1)
    boxes = L1 * (corners - aim).abs().sum(-1) + GIOU * (1 - giou(corners, aim))
    return (loss + torch.where(answers, boxes, 0)).sum(1) * len(kinds) / count


def places(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(P, 2) the middles of all cells from 0 to 1, and (P, 2) the sides of a cell, in the order of `FCOSHead`."""
    middles, sides = [], []
    for level in features:
        height, width = level.shape[2:]
        y, x = torch.meshgrid(
            *(torch.arange(side, device=level.device) + 0.5 for side in (height, width)), indexing="ij"
        )
        side = level.new_tensor([1 / width, 1 / height])
        middles.append(torch.stack([x, y], -1).reshape(-1, 2) * side)
        sides.append(side.expand(height * width, 2))
    return torch.cat(middles), torch.cat(sides)


def to_boxes(features: Sequence[Tensor], edges: Tensor) -> Tensor:
    """Corners (B, P, 4) from 0 to 1 of edges (B, P, 4) in cells."""
    middles, sides = places(features)
    return torch.cat([middles - edges[..., :2] * sides, middles + edges[..., 2:] * sides], -1)


def owners(features: Sequence[Tensor], truth: Tensor) -> Tensor:
    """(P,) int64: the object (M, 4) that each cell learns, -1 for none: the smallest of those near whose middle it
    lies, and inside of, and whose size belongs to its level."""
    middles, sides = places(features)
    if not len(truth):
        return torch.full((len(middles),), -1, dtype=torch.long, device=truth.device)
    away = torch.cat([middles[:, None] - truth[:, :2], truth[:, 2:] - middles[:, None]], -1)  # (P, M, 4)
    near = (middles[:, None] - (truth[:, :2] + truth[:, 2:]) / 2).abs() <= RADIUS * sides[:, None]
    farthest = (away / sides[:, None].repeat(1, 1, 2)).amax(-1)
    counts = [level.shape[2] * level.shape[3] for level in features]
    level = torch.cat([torch.full((count,), i, device=truth.device) for i, count in enumerate(counts)])
    low = torch.where(level == 0, 0.0, REACH / 2)
    high = torch.where(level == len(features) - 1, torch.inf, REACH)
    fits = (farthest >= low[:, None]) & (farthest < high[:, None])
    size = areas(truth).expand(len(middles), -1).masked_fill(~(near.all(-1) & (away.amin(-1) > 0) & fits), torch.inf)
    smallest, owner = size.min(1)
    return torch.where(smallest.isfinite(), owner, -1)


def fcos_loss(
    answer: tuple[Tensor, Tensor, Tensor], features: Sequence[Tensor], truth: Tensor, kinds: Tensor
) -> Tensor:
    """Focal loss of the classes, 1 - GIoU of the boxes weighted by how central their cell is, and cross-entropy of
    that, each divided by the cells that learn one. truth (B, N, 4) corners, kinds (B, N), -1 of placeholders."""
    logits, edges, centre = answer
    found = torch.stack([owners(features, own[kind >= 0]) for own, kind in zip(truth, kinds, strict=True)])
    answers = found >= 0
    aim = truth.gather(1, found.clamp(min=0)[..., None].expand(*found.shape, 4))
    classes = kinds.gather(1, found.clamp(min=0))
    hot = F.one_hot(classes.clamp(min=0), logits.shape[-1]).bool() & answers[..., None]
    loss = torch.where(hot, focal(logits, True), focal(logits, False)).sum() / answers.sum().clamp(min=1)
    if not answers.any():
        return loss
    middles = places(features)[0].expand(len(truth), -1, -1)[answers]
    aim, corners = aim[answers], to_boxes(features, edges)[answers]
    left, right = middles - aim[:, :2], aim[:, 2:] - middles
    central = (torch.minimum(left, right) / torch.maximum(left, right)).clamp(min=0).prod(-1).sqrt()
    boxes = (central * (1 - giou(corners, aim))).sum() / central.sum().clamp(min=1e-6)
    return loss + boxes + F.binary_cross_entropy_with_logits(centre[answers], central)
