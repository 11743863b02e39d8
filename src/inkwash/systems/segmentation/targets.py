"""Examples as the network sees them: squares of pictures and of what is to be drawn, cut and turned at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inkwash.codecs.picture_files import Array, is_grey, normalised, resized
from inkwash.systems.augment import ZOOM, recoloured
from inkwash.systems.segmentation.data import Example
from inkwash.systems.segmentation.objects import distances
from inkwash.systems.segmentation.sizes import working_size
from inkwash.training.data import batches


class Prepared(NamedTuple):
    """picture (3, h, w) uint8, target (channels, h, w) uint8 from 0 to 255, grey: whether all channels are one."""

    picture: Tensor
    target: Tensor
    grey: bool


def target_of(example: Example, classes: int, distance: bool) -> Array:
    """(channels, H, W) float32: 1 where a class is, else 0; then the distance to the edge."""
    found = example.kinds[example.labels]
    planes = [found == kind for kind in range(1, classes + 1)] + [distances(example.labels)] * distance
    return np.stack(planes).astype(np.float32)


def prepare(example: Example, classes: int, distance: bool, scale: float) -> Prepared:
    """At the network's size of pixels; what is to be drawn as means of areas, so that edges within a pixel stay."""
    size = working_size((example.picture.shape[0], example.picture.shape[1]), scale)
    planes = normalised(example.picture).transpose(2, 0, 1), target_of(example, classes, distance)
    small = [(255 * resized(one[None], size)[0].clip(0, 1)).round().astype(np.uint8) for one in planes]
    return Prepared(torch.from_numpy(small[0]), torch.from_numpy(small[1]), is_grey(example.picture))


def loader(
    examples: Sequence[Prepared], size: int, batch_size: int, seed: int, members: int = 1
) -> Callable[[int], dict[str, Tensor]]:
    """Batch k: {"picture": (members batch_size, 3, size, size), "x": (..., channels, size, size)}, from -1 to 1; of
    each member examples in an order of its own."""
    orders = [batches(len(examples), batch_size, seed + member) for member in range(members)]

    def batch(k: int) -> dict[str, Tensor]:
        cut = []
        for member, order in enumerate(orders):
            for place, row in enumerate(order(k).tolist()):
                rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, member, k, place))))
                cut.append(square(examples[row], size, rng))
        pictures, targets = zip(*cut, strict=True)
        return {"picture": torch.stack(pictures), "x": torch.stack(targets)}

    return batch


def square(example: Prepared, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A square cut out at random, zoomed, turned, mirrored, its picture brighter or darker."""
    both = torch.cat([example.picture, example.target])
    side = round(size * float(np.exp(rng.uniform(*np.log(ZOOM)))))
    rows, columns = (max(0, side - length) for length in both.shape[1:])
    if rows or columns:
        padded = np.pad(both.numpy(), ((0, 0), (0, rows), (0, columns)), mode="symmetric")
        both = torch.from_numpy(padded)
    top, left = (int(rng.integers(0, length - side + 1)) for length in both.shape[1:])
    cut = both[None, :, top : top + side, left : left + side].float() / 255
    both = torch.from_numpy(resized(cut.numpy(), (size, size))[0]).clamp(0, 1)
    if rng.random() < 0.5:
        both = both.transpose(1, 2)
    flips = [axis for axis in (1, 2) if rng.random() < 0.5]
    both = both.flip(flips)
    picture, target = both[:3], both[3:]
    return recoloured(picture, example.grey, rng).contiguous() * 2 - 1, target.contiguous() * 2 - 1
