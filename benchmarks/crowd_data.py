"""Nuclei as boxes, to learn from pictures with few and to be measured on those with many.

    python benchmarks/crowd_data.py --nuclei data/nuclei_dsb2018 --out data/crowd
    inkwash detection train crowd --data data/crowd
    python benchmarks/detection_boxes.py runs/crowd/model --data data/crowd --beside runs/crowd/backbone/model

split.csv in it has pictures of the training part with up to 20 nuclei to learn from, and for the table all with more
than 40, of either part.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import regionprops

import common
from common import QUICK

FEW, MANY = 20, 40  # nuclei of a picture


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--nuclei", type=Path, help="the folder nuclei_dsb2018")
    options.add_argument("--out", type=Path, default=Path("data/crowd"))
    args = options.parse_args()
    if QUICK:
        print("of 1 set of pictures: nothing to try without it")
        return
    if args.nuclei is None:
        options.error("--nuclei is needed")
    common.new_folder(args.out)
    with (args.nuclei / "index.csv").open(newline="") as file:
        pictures = list(csv.DictReader(file))
    with (
        (args.out / "boxes.csv").open("w", newline="") as boxes,
        (args.out / "split.csv").open("w", newline="") as parts,
    ):
        boxes_csv, split_csv = csv.writer(boxes), csv.writer(parts)
        boxes_csv.writerow(["image", "label", "xmin", "ymin", "xmax", "ymax"])
        split_csv.writerow(["name", "split"])
        for picture in pictures:
            name = picture["name"]
            found = regionprops(np.asarray(Image.open(args.nuclei / "labels" / f"{name}.png")).astype(np.int32))
            few = len(found) <= FEW and picture["split"] == "train"
            if few or len(found) > MANY:
                shutil.copyfile(args.nuclei / "images" / f"{name}.png", args.out / f"{name}.png")
                split_csv.writerow([name, "train" if few else "test"])
                for nucleus in found:
                    top, left, bottom, right = nucleus.bbox
                    boxes_csv.writerow([f"{name}.png", "nucleus", left, top, right, bottom])


if __name__ == "__main__":
    main()
