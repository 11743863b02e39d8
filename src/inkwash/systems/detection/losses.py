"""What the heads learn from: DiffusionDet's set of boxes, and FCOS's cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.diffusion.losses import Term
from inkwash.systems.detection.boxes import areas, from_state, giou, to_corners
from inkwash.systems.detection.matching import FOCAL, GIOU, L1, focal, match
from inkwash.systems.detection.networks import places, to_boxes

RADIUS = 1.5  # cells around an object's middle that learn it
REACH = 4.0  # cells from a level's place to the farthest edge of its objects; twice as many belong to the next level


def set_loss(kinds: Tensor, most: int) -> Callable[[Term], Tensor]:
    """The objective of states whose first boxes are objects, at most `most`: kinds (B, N), -1 of the placeholders. Of
    each sample the sum over stages of 2 focal + 5 L1 + 2 (1 - GIoU), divided by the predictions of the batch that
    answer for an object, as a share of the batch: the mean over samples is the loss of the batch."""

    def objective(term: Term) -> Tensor:
        extra = term.prediction.extra
        assert extra is not None
        truth, total = to_corners(from_state(term.x0[:, :most])), torch.zeros(len(kinds), device=kinds.device)
        for stage in range(extra["logits"].shape[1]):
            total = total + stage_loss(extra["logits"][:, stage], extra["boxes"][:, stage], truth, kinds[:, :most])
        return total

    return objective


def stage_loss(logits: Tensor, corners: Tensor, truth: Tensor, kinds: Tensor) -> Tensor:
    """(B,), of one stage's predictions (B, N, ...) for objects (B, M, ...), of kind -1 where there is none; see
    `set_loss`."""
    if not kinds.shape[1]:
        return FOCAL * focal(logits, False).sum((1, 2)) * len(kinds)
    found = match(logits, corners, kinds, truth)
    answers, place = found >= 0, found.clamp(min=0)
    aim = truth.gather(1, place[..., None].expand(*place.shape, 4))
    loss = FOCAL * class_loss(logits, kinds.gather(1, place), answers).sum(-1)
    boxes = L1 * (corners - aim).abs().sum(-1) + GIOU * (1 - giou(corners, aim))
    return (loss + torch.where(answers, boxes, 0)).sum(1) * len(kinds) / answers.sum().clamp(min=1)


def class_loss(logits: Tensor, kinds: Tensor, answers: Tensor) -> Tensor:
    """(B, P, K): the focal loss of predictions of kinds (B, P), or of none where they do not answer."""
    hot = (kinds[..., None] == torch.arange(logits.shape[-1], device=kinds.device)) & answers[..., None]
    return torch.where(hot, focal(logits, True), focal(logits, False))


def owners(features: Sequence[Tensor], truth: Tensor, kinds: Tensor) -> Tensor:
    """(B, P) int64: the object (B, M, 4) that each cell learns, -1 for none: the smallest of those near whose middle
    it lies, and inside of, and whose size belongs to its level. kinds (B, M), -1 where there is no object."""
    (middles, sides), ends = places(features), truth[:, None]
    middles, sides = middles[:, None], sides[:, None]
    away = torch.cat([middles - ends[..., :2], ends[..., 2:] - middles], -1)  # (B, P, M, 4)
    near = (middles - (ends[..., :2] + ends[..., 2:]) / 2).abs() <= RADIUS * sides
    farthest = (away / sides.repeat(1, 1, 2)).amax(-1)
    counts = [level.shape[2] * level.shape[3] for level in features]
    level = torch.cat([torch.full((count,), i, device=truth.device) for i, count in enumerate(counts)])
    low = torch.where(level == 0, 0.0, REACH / 2)[:, None]
    high = torch.where(level == len(features) - 1, torch.inf, REACH)[:, None]
    fits = (farthest >= low) & (farthest < high) & near.all(-1) & (away.amin(-1) > 0) & (kinds >= 0)[:, None]
    smallest, owner = areas(ends).expand_as(fits).masked_fill(~fits, torch.inf).min(2)
    return torch.where(smallest.isfinite(), owner, -1)


def fcos_loss(
    answer: tuple[Tensor, Tensor, Tensor], features: Sequence[Tensor], truth: Tensor, kinds: Tensor
) -> Tensor:
    """Focal loss of the classes, 1 - GIoU of the boxes weighted by how central their cell is, and cross-entropy of
    that, each divided by the cells that learn one. truth (B, N, 4) corners, kinds (B, N), -1 of placeholders."""
    logits, edges, centre = answer
    found = owners(features, truth, kinds)
    answers, place = found >= 0, found.clamp(min=0)
    count = answers.sum().clamp(min=1)
    loss = class_loss(logits, kinds.gather(1, place), answers).sum() / count
    aim = truth.gather(1, place[..., None].expand(*place.shape, 4))
    middles = places(features)[0]
    left, right = (middles - aim[..., :2]).clamp(min=0), (aim[..., 2:] - middles).clamp(min=0)
    shares = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
    central = torch.where(answers, (shares[..., 0] * shares[..., 1]).sqrt(), 0)
    boxes: Tensor = (central * (1 - giou(to_boxes(features, edges), aim))).sum() / central.sum().clamp(min=1e-6)
    middle = F.binary_cross_entropy_with_logits(centre, central, reduction="none")
    return loss + boxes + torch.where(answers, middle, 0).sum() / count
