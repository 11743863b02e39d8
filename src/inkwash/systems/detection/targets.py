"""Examples as the network sees them: pictures and the boxes to be found, cut, mirrored and coloured at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.codecs.picture_files import Array, is_grey
from inkwash.systems.augment import ZOOM, recoloured
from inkwash.systems.detection.boxes import to_centres, to_state
from inkwash.systems.detection.data import Example
from inkwash.systems.detection.sizes import prepare
from inkwash.training.data import batches

LEFT = 0.3  # of an object that the edge cuts: with less of it to be seen, it is none
MIDDLE, SPREAD, LEAST = 0.5, 1 / 6, 1e-4  # of placeholders: mean and deviation of all four numbers, and least size
GREY = 128


class Scene(NamedTuple):
    """picture (3, h, w) uint8, boxes (n, 4) float32 corners in its pixels, kinds (n,) int64, grey: whether all
    channels are one."""

    picture: Tensor
    boxes: Tensor
    kinds: Tensor
    grey: bool


def scene(example: Example, page: Array, size: int) -> Scene:
    """At the network's size of pixels, without crowds."""
    seen, own = prepare(page, size, 1), ~example.crowd
    picture = torch.from_numpy(((seen.x[0] + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    factors = [picture.shape[2] / seen.frame[0], picture.shape[1] / seen.frame[1]] * 2
    boxes = torch.from_numpy(example.boxes[own] * factors).float()
    return Scene(picture, boxes, torch.from_numpy(example.kinds[own]), is_grey(page))


def canvas(scenes: Sequence[Scene], multiple: int) -> tuple[int, int]:
    """Height and width that all of them fit in."""
    sides = [max(one.picture.shape[axis] for one in scenes) for axis in (1, 2)]
    height, width = (side + -side % multiple for side in sides)
    return height, width


def loader(
    scenes: Sequence[Scene], shape: tuple[int, int], boxes: int, batch_size: int, seed: int
) -> Callable[[int], dict[str, Any]]:
    """Batch k: {"picture": (B, 3, *shape) from -1 to 1, "x": (B, boxes, 4), a state whose first are objects and whose
    others are placeholders, "kinds": (B, boxes), -1 of these, "most": the most objects of a picture}."""
    order = batches(len(scenes), batch_size, seed)

    def batch(k: int) -> dict[str, Any]:
        pictures, states, kinds = [], [], []
        for place, row in enumerate(order(k).tolist()):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, k, place))))
            picture, corners, own = changed(scenes[row], shape, rng)
            state, own = padded(corners, own, boxes, rng)
            pictures.append(picture)
            states.append(state)
            kinds.append(own)
        most = max(int((own >= 0).sum()) for own in kinds)
        return {"picture": torch.stack(pictures), "x": torch.stack(states), "kinds": torch.stack(kinds), "most": most}

    return batch


def changed(one: Scene, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The picture (3, *shape) from -1 to 1 of a window of it, zoomed, mirrored, brighter or darker; corners (n, 4)
    from 0 to 1 and kinds of the objects that are to be seen there."""
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
    window = [round(side / zoom) for side in shape]
    top, left = (
        int(rng.integers(min(0, side - own), max(0, side - own) + 1))
        for side, own in zip(one.picture.shape[1:], window, strict=True)
    )
    cut = torch.full((3, *window), GREY, dtype=torch.uint8)
    height, width = one.picture.shape[1:]
    rows = slice(max(0, top), min(height, top + window[0]))
    columns = slice(max(0, left), min(width, left + window[1]))
    cut[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = one.picture[
        :, rows, columns
    ]
    small = F.interpolate(cut[None].float() / 255, size=shape, mode="bilinear", antialias=zoom < 1)[0].clamp(0, 1)
    corners = (one.boxes - torch.tensor([left, top, left, top])) / torch.tensor(window[::-1] * 2)
    inside = corners.clamp(0, 1)
    sizes = [(own[:, 2:] - own[:, :2]).prod(1) for own in (inside, corners)]
    kept = sizes[0] > LEFT * sizes[1]
    inside, kinds = inside[kept], one.kinds[kept]
    if rng.random() < 0.5:
        small, inside = small.flip(2), mirrored(inside, 0)
    if rng.random() < 0.5:
        small, inside = small.flip(1), mirrored(inside, 1)
    return recoloured(small, one.grey, rng).contiguous() * 2 - 1, inside, kinds


def mirrored(corners: Tensor, axis: int) -> Tensor:
    """From 0 to 1, along x (0) or y (1)."""
    found = corners.clone()
    found[:, axis], found[:, axis + 2] = 1 - corners[:, axis + 2], 1 - corners[:, axis]
    return found


def padded(corners: Tensor, kinds: Tensor, boxes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(state (boxes, 4), kinds (boxes,)): the objects, of too many some at random; then placeholders around the
    middle of the picture, of kind -1."""
    if len(kinds) > boxes:
        chosen = torch.from_numpy(rng.permutation(len(kinds))[:boxes])
        corners, kinds = corners[chosen], kinds[chosen]
    more = rng.normal(MIDDLE, SPREAD, (boxes - len(kinds), 4))
    more[:, 2:] = more[:, 2:].clip(LEAST)
    state = to_state(torch.cat([to_centres(corners), torch.from_numpy(more).float()]))
    return state, torch.cat([kinds, torch.full((len(more),), -1)])
