"""Pictures for docs/vision.md: what the shipped models `retouch` and `cells` make of what they never saw, and of
nothing.

    pip install '.[segmentation,detection]'
    python benchmarks/restoration_pictures.py --retouch data/retouch --cells bccd_blood_cells

docs/vision.md says where the data come from. Nothing is chosen by eye: of the pictures for the table some by their
place in the list of names, the first seeds.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import common
import inkwash
from common import QUICK, ROOT
from inkwash.systems.detection import data as boxes
from inkwash.systems.restoration import data
from inkwash.systems.restoration.cascade_data import crops_of
from inkwash.systems.restoration.data import window
from inkwash.systems.restoration.degradations import TASKS

common.needs("skimage", "pycocotools")
GAP = 4  # pixels between tiles
IN_A_ROW = 10  # cells


def row(tiles: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in tiles], 1)


def table_of(folder: Path) -> list[np.ndarray]:
    """The pictures of the table, by name."""
    examples = data.split(data.read_pictures(folder), folder)[2]
    return [one.picture for one in sorted(examples, key=lambda one: one.name)]


def levels(values: np.ndarray) -> np.ndarray:
    return (255 * values).clip(0, 255).round().astype(np.uint8)


def edited(folder: Path) -> np.ndarray:
    """A row for each task: three times what is given, two samples, the truth."""
    model, rows = inkwash.load("retouch"), []
    size = model.config["size"]
    pictures = [window(smaller(picture, size), size) for picture in table_of(folder)]  # cells come first by name
    for number, (name, task) in enumerate(TASKS.items()):
        tiles = []
        for truth in (pictures[-1 - len(pictures) // 3], pictures[-1 - len(pictures) // 6], pictures[0]):
            source, missing = task.degrade(truth / 255, np.random.default_rng(number))
            given = levels(source if missing is None else np.where(missing[..., None], 0.5, source))
            tiles += [
                given,
                *model.redraw(levels(source), missing, samples=2, colours_only=name == "colourise").samples,
                truth,
            ]
        rows.append(row(tiles))
        print(name)
    return np.concatenate(rows)


def smaller(picture: np.ndarray, side: int) -> np.ndarray:
    """With the shorter side so long."""
    size = [max(side, round(side * length / min(picture.shape[:2]))) for length in picture.shape[1::-1]]
    return np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def drawn(folder: Path) -> np.ndarray:
    """Two rows for each kind: generated ones, and real ones for the table."""
    model, rows = inkwash.load("cells"), []
    side = model.stages[-1].config["size"]
    real = crops_of(boxes.split(boxes.read_data(folder), folder)[2], side, print, lambda _: None)
    for number, kind in enumerate(model.config["classes"]):
        own = [crop.picture for crop in real if crop.kind == number]
        rows += [
            row(list(model.generate(kind, IN_A_ROW, seed=0))),
            row(own[:: max(1, len(own) // IN_A_ROW)][:IN_A_ROW]),
        ]
    return np.concatenate(rows)


def main() -> None:
    options = common.parser(__doc__)
    for name, draw in DRAWN.items():
        options.add_argument(f"--{name}", type=Path, help=draw.__doc__)
    given = options.parse_args()
    if QUICK:
        print("of 2 shipped models and real pictures: nothing to try without them")
        return
    for name, draw in DRAWN.items():
        if (folder := getattr(given, name)) is not None:
            sheet = Image.fromarray(draw(folder))
            sheet.quantize(256, dither=Image.Dither.NONE).save(ROOT / "docs" / f"{name}.png", optimize=True)


DRAWN = {"retouch": edited, "cells": drawn}

if __name__ == "__main__":
    main()
