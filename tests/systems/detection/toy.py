"""Pictures of squares and discs with their boxes, a small model, and a context without a command line."""

import csv

import numpy as np
import torch
from PIL import Image

from inkwash.systems.detection.model import DetectionModel
from tests.systems.segmentation.toy import Notes

__all__ = ["Notes", "facts", "folder", "model", "shapes"]
CLASSES = ["disc", "square"]
NETWORK = {"kinds": 2, "head": "diffusiondet", "widths": [8, 16], "levels": 2, "dim": 16, "stages": 2, "pooled": 3}


def shapes(seed, size=(48, 40), count=3):
    """A picture (height, width, 3) uint8 of width and height `size`, corners (n, 4) and classes of its shapes."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = rng.normal(90, 8, (height, width, 3))
    boxes, kinds = [], []
    for _ in range(count):
        side = int(rng.integers(8, 15))
        x, y = (int(rng.integers(0, length - side + 1)) for length in size)
        rows, columns = np.mgrid[:height, :width]
        inside = (rows >= y) & (rows < y + side) & (columns >= x) & (columns < x + side)
        kind = int(rng.integers(0, 2))
        if kind == 0:
            middle = side / 2
            inside &= (columns + 0.5 - x - middle) ** 2 + (rows + 0.5 - y - middle) ** 2 <= middle**2
        picture[inside] = (220, 60, 60) if kind == 0 else (60, 90, 230)
        boxes.append((x, y, x + side, y + side))
        kinds.append(CLASSES[kind])
    return picture.clip(0, 255).astype(np.uint8), np.array(boxes, float), kinds


def folder(path, count, rows=None, **options):
    """Pictures in images/ and their boxes in boxes.csv, counted from 1; rows: instead of the boxes."""
    (path / "images").mkdir(parents=True, exist_ok=True)
    table = []
    for i in range(count):
        picture, boxes, kinds = shapes(i, **options)
        Image.fromarray(picture).save(path / "images" / f"p{i}.png")
        table += [[f"p{i}", kind, *(box + np.array([1, 1, 0, 0]))] for box, kind in zip(boxes, kinds, strict=True)]
    with (path / "boxes.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["image", "label", "xmin", "ymin", "xmax", "ymax"])
        writer.writerows(table if rows is None else rows)
    return path


def facts(**changes):
    found = {
        "engine": "diffusiondet", "classes": CLASSES, "ids": [1, 2], "size": 48, "boxes": 10, "steps": 3,
        "samples": 1, "calibration": [1.0, 0.0], "common": 0, "train": [], "choices": {}, "network": NETWORK,
    }  # fmt: skip
    return found | changes


def model(seed=0, **changes):
    """With random weights; of logits wide apart, so that some boxes are sure and some are not."""
    torch.manual_seed(seed)
    made = facts(**changes)
    made["network"] = made["network"] | {"head": made["engine"]}
    built = DetectionModel.build(made)
    for name, parameter in built.network.named_parameters():
        if "logits" in name:
            torch.nn.init.normal_(parameter, std=1.0 if name.endswith("weight") else 0.1)
    built.network.eval()
    return built
