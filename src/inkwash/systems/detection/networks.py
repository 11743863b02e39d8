"""Networks of boxes: a backbone that sees the picture once, DiffusionDet's head, and FCOS's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.networks.layers import Attention, VectorEmbedding, sinusoidal_embedding
from inkwash.systems.detection.boxes import from_state, to_centres, to_corners, to_state
from inkwash.systems.detection.pooling import roi_align

PRIOR = 0.01  # the probability of a class before anything is learned (RetinaNet, 1708.02002)
MOVES = 2.0  # what a head says of a box's middle is divided by this
LEAST = 0.02  # of a picture's side, a box as it is looked at
LARGEST = math.log(16.0)  # by how much a head may stretch a box
GROUPS = 8  # of norms


class DetectionNetwork(nn.Module):
    """A backbone and a head, "diffusiondet" or "fcos", for `kinds` classes."""

    def __init__(
        self,
        kinds: int = 1,
        head: Literal["diffusiondet", "fcos"] = "diffusiondet",
        widths: Sequence[int] = (16, 32, 48, 64),
        levels: int = 2,
        dim: int = 64,
        stages: int = 3,
        pooled: int = 5,
        samples: int = 1,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "kinds": kinds, "head": head, "widths": list(widths), "levels": levels, "dim": dim, "stages": stages,
            "pooled": pooled, "samples": samples, "heads": heads,
        }  # fmt: skip
        if levels > len(widths):
            raise ValueError(f"levels = {levels}: at most {len(widths)}, the number of widths")
        self.backbone = Backbone(widths, levels, dim)
        self.head: nn.Module
        if head == "diffusiondet":
            self.head = DiffusionHead(kinds, dim, stages, pooled, samples, heads)
        else:
            self.head = FCOSHead(kinds, dim, levels)

    def forward(self, x: Tensor, time: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The head's answer to states of boxes, for features as the backbone made them of the pictures, once."""
        answer: tuple[Tensor, dict[str, Tensor]] = self.head(x, time, features)
        return answer

    def dense(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Of the head "fcos": corners (B, P, 4) from 0 to 1, and scores (B, P, K): the geometric mean of the class's
        probability and of how central the cell is."""
        logits, edges, centre = self.head(features)
        scores = (logits.sigmoid() * centre.sigmoid()[..., None]).sqrt()
        return to_boxes(features, edges).clamp(0, 1), scores


class Backbone(nn.Module):
    """(B, 3, H, W) -> a pyramid of `levels` features (B, dim, h, w), the finest first; each width halves the side.
    What is coarse is added to what is finer (FPN, Lin et al. 2017, 1612.03144)."""

    def __init__(self, widths: Sequence[int], levels: int, dim: int) -> None:
        super().__init__()
        self.downs = nn.ModuleList(
            ConvNorm(before, width, stride=2) for before, width in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.blocks = nn.ModuleList(Residual(width) for width in widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths[-levels:])
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(levels))

    def forward(self, picture: Tensor) -> list[Tensor]:
        """H and W are multiples of 2 to the number of widths."""
        seen, h = [], picture
        for down, block in zip(self.downs, self.blocks, strict=True):
            h = block(down(h))
            seen.append(h)
        features: list[Tensor] = []
        for lateral, own in zip(reversed(self.lateral), reversed(seen[-len(self.lateral) :]), strict=True):
            h = lateral(own)
            features.insert(0, h + F.interpolate(features[0], scale_factor=2.0) if features else h)
        return [smooth(own) for smooth, own in zip(self.smooth, features, strict=True)]


class ConvNorm(nn.Module):
    """3 x 3 convolution, group norm, ReLU."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(ConvNorm(width, width), ConvNorm(width, width))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = x + self.layers(x)
        return h


class DiffusionHead(nn.Module):
    """Stages that each see what the picture shows in the boxes of the one before (DiffusionDet, Chen et al. 2022,
    2211.09788). x_t is clamped to [-s, s] before anything is looked at.

    Answers with the last stage's boxes as a state (B, N, 4), clamped, and {"logits": (B, stages, N, K), "boxes":
    (B, stages, N, 4) corners from 0 to 1, as they are}. No gradient passes from a stage to another's boxes.
    """

    def __init__(self, kinds: int, dim: int, stages: int, pooled: int, samples: int, heads: int) -> None:
        super().__init__()
        self.dim, self.pooled, self.samples = dim, pooled, samples
        self.time = VectorEmbedding(dim, dim)
        self.stages = nn.ModuleList(Stage(kinds, dim, pooled, heads) for _ in range(stages))

    def forward(self, x: Tensor, time: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        corners = kept_open(from_state(x))
        moment = F.silu(self.time(sinusoidal_embedding(time, self.dim)))
        objects, logits, boxes = None, list[Tensor](), list[Tensor]()
        for stage in self.stages:
            seen = roi_align(features, corners, self.pooled, self.samples)
            objects, own, moved = stage(seen, corners, objects, moment)
            logits.append(own)
            boxes.append(moved)
            corners = kept_open(to_centres(moved.detach().clamp(0, 1)))
        found = {"logits": torch.stack(logits, 1), "boxes": torch.stack(boxes, 1)}
        return to_state(to_centres(boxes[-1].clamp(0, 1))), found


def kept_open(centres: Tensor) -> Tensor:
    """Corners of boxes no smaller than LEAST: one without an area shows nothing, and nothing stretches it."""
    corners: Tensor = to_corners(torch.cat([centres[..., :2], centres[..., 2:].clamp(min=LEAST)], -1))
    return corners


class Stage(nn.Module):
    """Self-attention across boxes, a dynamic convolution of what each box shows, time as scale and shift; then the
    logits of the classes and what is to be changed of the box."""

    def __init__(self, kinds: int, dim: int, pooled: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, bias=True)
        self.dynamic = DynamicConv(dim, dim // 4, pooled)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.modulation = nn.Linear(dim, 2 * dim)
        self.class_layer = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU())
        self.box_layer = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU())
        self.logits = prior(nn.Linear(dim, kinds))
        self.deltas = nn.Linear(dim, 4)
        nn.init.normal_(self.deltas.weight, std=0.01)
        nn.init.zeros_(self.deltas.bias)

    def forward(
        self, seen: Tensor, corners: Tensor, objects: Tensor | None, moment: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """seen (B, N, dim, P, P), corners (B, N, 4), objects (B, N, dim) of the stage before, moment (B, dim) ->
        (objects, logits (B, N, K), corners)."""
        h = seen.mean((3, 4)) if objects is None else objects
        h = self.norms[0](h + self.attention(h))
        h = self.norms[1](h + self.dynamic(h, seen))
        h = self.norms[2](h + self.mlp(h))
        scale, shift = self.modulation(moment)[:, None].chunk(2, -1)
        told = h * (1 + scale) + shift
        return h, self.logits(self.class_layer(told)), moved(corners, self.deltas(self.box_layer(told)))


class DynamicConv(nn.Module):
    """Two 1 x 1 convolutions of what a box shows, whose kernels the box itself makes (Sparse R-CNN, Sun et al. 2021,
    2011.12450)."""

    def __init__(self, dim: int, inner: int, pooled: int) -> None:
        super().__init__()
        self.inner = inner
        self.kernels = nn.Linear(dim, 2 * dim * inner)
        self.norm_in, self.norm_out, self.norm = nn.LayerNorm(inner), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.out = nn.Linear(dim * pooled**2, dim)

    def forward(self, objects: Tensor, seen: Tensor) -> Tensor:
        first, second = self.kernels(objects).chunk(2, -1)
        h = seen.flatten(3).transpose(2, 3)  # (B, N, P P, dim)
        h = F.relu(self.norm_in(h @ first.unflatten(-1, (-1, self.inner))))
        h = F.relu(self.norm_out(h @ second.unflatten(-1, (self.inner, -1))))
        return F.relu(self.norm(self.out(h.flatten(2))))


def moved(corners: Tensor, deltas: Tensor) -> Tensor:
    """Corners whose middle is moved by deltas / 2 of their size, and whose size is stretched by exp(deltas)."""
    centres = to_centres(corners)
    size = centres[..., 2:]
    middle = centres[..., :2] + deltas[..., :2] / MOVES * size
    found: Tensor = to_corners(torch.cat([middle, size * deltas[..., 2:].clamp(max=LARGEST).exp()], -1))
    return found


def prior(layer: Any) -> Any:
    """The layer, whose answers begin as the logit of PRIOR."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))
    return layer


class FCOSHead(nn.Module):
    """Of each cell of each level the logits of the classes, how far the four edges are, and how central it is (FCOS,
    Tian et al. 2019, 1904.01355): the rival, in one pass and without noise."""

    def __init__(self, kinds: int, dim: int, levels: int) -> None:
        super().__init__()
        self.class_tower, self.box_tower = (nn.Sequential(ConvNorm(dim, dim), ConvNorm(dim, dim)) for _ in range(2))
        self.logits = prior(nn.Conv2d(dim, kinds, 3, padding=1))
        self.edges = nn.Conv2d(dim, 4, 3, padding=1)
        self.centre = nn.Conv2d(dim, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.zeros(levels))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, P, K), edges (B, P, 4) in cells of their level, left, top, right, bottom, and the logit of the
        centre (B, P), level after level, row after row."""
        found = []
        for level, scale in zip(features, self.scales, strict=True):
            classes, boxes = self.class_tower(level), self.box_tower(level)
            edges = (scale + self.edges(boxes)).clamp(max=LARGEST).exp()
            parts = (self.logits(classes), edges, self.centre(boxes))
            found.append([part.flatten(2).transpose(1, 2) for part in parts])
        logits, edges, centre = (torch.cat(part, 1) for part in zip(*found, strict=True))
        return logits, edges, centre[..., 0]


def places(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(P, 2) the middles of all cells from 0 to 1, and (P, 2) the sides of a cell, in the order of `FCOSHead`."""
    middles, sides = [], []
    for level in features:
        height, width = level.shape[2:]
        y, x = torch.meshgrid(
            *(torch.arange(side, device=level.device) + 0.5 for side in (height, width)), indexing="ij"
        )
        side = 1 / torch.stack([level.new_full((), length) for length in (width, height)])  # without a copy
        middles.append(torch.stack([x, y], -1).reshape(-1, 2) * side)
        sides.append(side.expand(height * width, 2))
    return torch.cat(middles), torch.cat(sides)


def to_boxes(features: Sequence[Tensor], edges: Tensor) -> Tensor:
    """Corners (B, P, 4) from 0 to 1 of edges (B, P, 4) in cells."""
    middles, sides = places(features)
    return torch.cat([middles - edges[..., :2] * sides, middles + edges[..., 2:] * sides], -1)
