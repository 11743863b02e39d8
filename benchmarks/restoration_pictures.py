"""What a model that makes pictures larger, and one that edits them, make of pictures that they never saw.

    pip install '.[segmentation]'
    python benchmarks/restoration_pictures.py --upscaler runs/photos/model --photos classics
    python benchmarks/restoration_pictures.py --editor runs/retouch/model --pictures data/retouch

Nothing is chosen: the middles of the first four photographs, and of what split.csv holds out the first emoji and the
first cells, by name.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

import common
import inkwash
from common import QUICK, ROOT
from inkwash.systems.restoration.data import read_pictures, window
from inkwash.systems.restoration.degradations import TASKS, make_small
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.evaluate import rng_of, to_eight_bits
from inkwash.systems.restoration.upscaler import Upscaler

common.needs("skimage")
SIDE, GAP, FIRST = 256, 4, 4  # of a photograph's tile in pixels, between tiles, photographs


def main() -> None:
    options = common.parser(__doc__)
    for name, what in (
        ("upscaler", "a model"),
        ("photos", "a folder"),
        ("editor", "a model"),
        ("pictures", "a folder"),
    ):
        options.add_argument(f"--{name}", type=Path, help=what)
    given = options.parse_args()
    if QUICK:
        print("of 2 models and real pictures: nothing to try without them")
        return
    if given.upscaler and given.photos:
        sheet = larger(inkwash.load(given.upscaler), given.photos)
        Image.fromarray(sheet).save(ROOT / "docs" / "photos.jpg", quality=90, subsampling=0)
    if given.editor and given.pictures:
        sheet = edited(inkwash.load(given.editor), given.pictures)
        Image.fromarray(sheet).quantize(256).save(ROOT / "docs" / "retouch.png", optimize=True)


def beside(tiles: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in tiles], 1)


def enlarged(picture: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), method))


def larger(model: Upscaler, folder: Path) -> np.ndarray:
    """A row for each photograph: as it is given, bicubic, two samples, the truth."""
    rows = []
    for place, example in enumerate(read_pictures(folder).examples[:FIRST]):
        truth = window(example.picture, SIDE)
        small = to_eight_bits(make_small(truth / 255, model.factor, ["area"], rng_of(place)))
        ways = (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
        rows.append(beside([*(enlarged(small, SIDE, way) for way in ways), *model.upscale(small, 2, 0), truth]))
    return np.concatenate(rows)


def edited(model: Editor, folder: Path) -> np.ndarray:
    """A row for each task, of an emoji and of cells: as it is given, three samples, the truth."""
    with (folder / "split.csv").open(newline="") as file:
        names = sorted(row["name"] for row in csv.DictReader(file) if row["split"] == "test")
    chosen = [next(name for name in names if name.startswith("emoji") == kind) for kind in (True, False)]
    truths = [window(np.asarray(Image.open(folder / f"{name}.png")), model.config["size"]) for name in chosen]
    rows = []
    for number, task in enumerate(TASKS):
        tiles = []
        for truth in truths:
            source, hole = TASKS[task].degrade(truth / 255, rng_of(number))
            picture, mask = to_eight_bits(source), None if hole is None else hole.astype(float)
            shown = picture if hole is None else np.where(hole[..., None], 128, picture).astype(np.uint8)
            tiles += [shown, *model.redraw(picture, mask, 3, 0).samples, truth]
        rows.append(beside([enlarged(one, 96, Image.Resampling.NEAREST) for one in tiles]))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
