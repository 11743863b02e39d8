"""Pictures of single objects by kind: what lies in the boxes of detection's data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.systems.detection.data import Example, page_of
from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.data import square, to_bytes, to_planes
from inkwash.systems.restoration.levels import Array, check_picture

MARGIN = 1.2  # side of what is cut out, in parts of the box's longer side
LEAST = 8.0  # pixels of a box's longer side, below which nothing can be seen
BLUR = (0.4, 0.6)  # standard deviation, in the small picture's pixels
Note = Callable[[str], None]


class Crop(NamedTuple):
    """picture (side, side, 3) uint8, and the number of its kind."""

    picture: Array
    kind: int


def crops_of(
    examples: Sequence[Example],
    side: int,
    note: Note = lambda _: None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> list[Crop]:
    """A crop for each box, but for crowds, and for boxes of less than 8 pixels, which are said."""
    crops, small = list[Crop](), 0
    for done, example in enumerate(examples, 1):
        page = page_of(example, note)
        try:
            check_picture(page)
        except UserError as error:
            raise UserError(f"{example.file}: {error}") from None
        picture = Image.fromarray(to_bytes(page))
        for box, kind in zip(example.boxes[~example.crowd], example.kinds[~example.crowd], strict=True):
            if max(box[2] - box[0], box[3] - box[1]) < LEAST:
                small += 1
            else:
                crops.append(Crop(cut(picture, box, side), int(kind)))
        tell(Progress(done, len(examples), "pictures are read"))
    if small:
        note(f"{small} boxes of less than {LEAST:.0f} pixels are left out")
    return crops


def cut(picture: Image.Image, box: Array, side: int) -> Array:
    """The square around a box, moved into the picture, (side, side, 3)."""
    size = np.array(picture.size, float)
    wide = min(MARGIN * float(max(box[2] - box[0], box[3] - box[1])), *size)
    corner = np.clip((box[:2] + box[2:] - wide) / 2, 0, size - wide)
    left, top = corner.tolist()
    within = (left, top, min(left + wide, picture.width), min(top + wide, picture.height))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=within))


def balanced(crops: Sequence[Crop], classes: int, per_kind: int) -> list[Crop]:
    """The first of each kind, the same number of each: `per_kind`, or as many as the rarest has."""
    own = [[crop for crop in crops if crop.kind == kind] for kind in range(classes)]
    count = min(per_kind, *map(len, own))
    return [crop for kind in own for crop in kind[:count]]


def loader(
    crops: Sequence[Crop], side: int, factor: int, classes: int, batch_size: int, seed: int, blurred: bool = False
) -> Callable[[int], dict[str, Tensor]]:
    """Batch k: {"x": (batch_size, 3, side, side) from -1 to 1, "low": `factor` times smaller, "label": (batch_size,
    classes)}, turned and mirrored; each kind as often as another. blurred: half of the small ones are."""
    kinds = np.array([crop.kind for crop in crops])
    rows = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]

    def one(rng: np.random.Generator) -> dict[str, Array]:
        crop = crops[int(rng.choice(rows[int(rng.integers(len(rows)))]))]
        x = reduced(square(crop.picture, len(crop.picture), rng), len(crop.picture) // side)
        low = reduced(x, factor)
        if blurred and rng.random() < 0.5:
            width = rng.uniform(*BLUR)
            low = gaussian_filter(low, (width, width, 0), mode="nearest")
        return {"x": to_planes(x), "low": to_planes(low), "label": np.eye(classes, dtype=np.float32)[crop.kind]}

    def batch(k: int) -> dict[str, Tensor]:
        keys = [np.random.SeedSequence((seed, k, place)) for place in range(batch_size)]
        made = [one(np.random.Generator(np.random.Philox(key))) for key in keys]
        return {key: torch.from_numpy(np.stack([each[key] for each in made])) for key in made[0]}

    return batch
