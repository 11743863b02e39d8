"""Pictures for docs/vision.md: what the shipped models `nuclei` and `bccd` say of pictures that they never saw.

    pip install '.[segmentation,detection]'
    python benchmarks/vision_pictures.py --data nuclei_dsb2018 --cells bccd_blood_cells

docs/vision.md says where the data come from. Nothing is chosen: of the pictures for the table the first three grey,
the first three in colour, and the first three photographs of blood, by name.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import common
import inkwash
from common import QUICK, ROOT
from inkwash.codecs.picture_files import is_grey, normalised
from inkwash.systems.detection import data as boxes
from inkwash.systems.detection.drawing import overlay
from inkwash.systems.segmentation.data import Example, read_data, split
from inkwash.systems.segmentation.metrics import iou
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.objects import class_map

common.needs("skimage", "pycocotools")
SIDE, GAP, EACH, SAMPLES = 128, 4, 3, 9  # of a tile in pixels, between tiles, pictures of a kind, masks of each
COLORS = np.random.default_rng(3).integers(60, 255, (4096, 3), dtype=np.uint8)


def tile(values: np.ndarray, smooth: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 as a square; of a longer picture the middle."""
    side = min(values.shape[:2])
    top, left = ((length - side) // 2 for length in values.shape[:2])
    cut = Image.fromarray(values[top : top + side, left : left + side])
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST))


def coloured(labels: np.ndarray) -> np.ndarray:
    """Each object in a colour of its own, on black."""
    return np.where(labels[..., None] > 0, COLORS[labels % len(COLORS)], 0).astype(np.uint8)


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat((255 * plane).round().astype(np.uint8)[..., None], 3, -1)


def row(model: SegmentationModel, example: Example) -> np.ndarray:
    found = model.segment(example.picture, samples=SAMPLES, seed=0)
    score = iou(class_map(found.probability), example.kinds[example.labels], 1)
    print(f"{example.name}: IoU {score:.3f}, {found.labels.max()} objects of {example.labels.max()}")
    samples = [tile(coloured(one), False) for one in found.samples[:3]]
    sure = [tile(grey(plane)) for plane in (found.probability[0], found.uncertainty)]
    masks = [tile(coloured(labels), False) for labels in (found.labels, example.labels)]
    tiles = [tile((255 * normalised(example.picture)).round().astype(np.uint8)), *samples, *sure, *masks]
    return np.concatenate([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in tiles], 1)


def cells(folder: Path) -> np.ndarray:
    """A row for each photograph: the boxes that were found, and the truth."""
    model, rows = inkwash.load("bccd"), []
    for example in sorted(boxes.split(boxes.read_data(folder), folder)[2], key=lambda one: one.name)[:EACH]:
        page = boxes.page_of(example)
        found = model.detect(page, seed=0).above(0.5)
        print(f"{example.name}: {len(found.boxes)} boxes of {len(example.boxes)}")
        both = [(found.boxes, found.kinds, found.scores), (example.boxes, example.kinds, None)]
        drawn = [overlay(page, where, kinds, names(model.classes, kinds, scores)) for where, kinds, scores in both]
        tiles = [np.asarray(one.resize((one.width // 2, one.height // 2))) for one in drawn]
        rows.append(
            np.concatenate([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in tiles], 1)
        )
    return np.concatenate(rows)


def names(classes: list[str], kinds: np.ndarray, scores: np.ndarray | None) -> list[str]:
    """What stands beside each box."""
    if scores is None:
        return [classes[kind] for kind in kinds]
    return [f"{classes[kind]} {score:.2f}" for kind, score in zip(kinds, scores, strict=True)]


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--data", type=Path)
    options.add_argument("--cells", type=Path)
    given = options.parse_args()
    if QUICK:
        print("of 1 shipped model and real pictures: nothing to try without them")
        return
    if given.data is None or given.cells is None:
        options.error("--data and --cells are needed")
    Image.fromarray(cells(given.cells)).quantize(128).save(ROOT / "docs" / "bccd.png", optimize=True)
    examples = sorted(split(read_data(given.data), given.data)[2], key=lambda example: example.name)
    chosen = [[one for one in examples if is_grey(one.picture) == kind][:EACH] for kind in (True, False)]
    model = inkwash.load("nuclei")
    rows = [row(model, example) for kind in chosen for example in kind]
    Image.fromarray(np.concatenate(rows)).quantize(128).save(ROOT / "docs" / "nuclei.png", optimize=True)


if __name__ == "__main__":
    main()
