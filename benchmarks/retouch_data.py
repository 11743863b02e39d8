"""The pictures of the recipe `retouch`, as a folder: emoji of one style, on white, and photographs of blood cells,
each cut into six; of one that is for the table a sixth.

    inkwash data emoji
    python benchmarks/retouch_data.py --cells data/bccd_blood_cells --out data/retouch

split.csv in it keeps emoji and photographs that are held out there held out here.
"""

import csv
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

import common
from common import QUICK

STYLE = "3d"
ROWS, COLUMNS = 2, 3  # into which a photograph is cut


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--emoji", type=Path, default=Path("data/emoji"), help="what `inkwash data emoji` wrote")
    options.add_argument("--cells", type=Path, help="the folder bccd_blood_cells")
    options.add_argument("--out", type=Path, default=Path("data/retouch"))
    args = options.parse_args()
    if QUICK:
        print("of 2 sets of pictures: nothing to try without them")
        return
    if args.cells is None:
        options.error("--cells is needed")
    common.new_folder(args.out)
    with (args.out / "split.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["name", "split"])
        for name, split, picture in [*emoji(args.emoji), *cells(args.cells)]:
            picture.save(args.out / f"{name}.png")
            lines.writerow([name, split])


def emoji(folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    for row in pq.read_table(folder / f"{STYLE}.parquet").to_pylist():
        drawn = Image.open(BytesIO(row["picture_64"])).convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        split = "train" if row["split"] == "train" else "test"
        yield f"emoji-{row['concept']}", split, Image.alpha_composite(white, drawn).convert("RGB")


def cells(folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    for split, name in (("train", "train.txt"), ("test", "val.txt")):
        for number, stem in enumerate((folder / name).read_text().split()):
            photograph = Image.open(folder / "images" / f"{stem}.jpg").convert("RGB")
            width, height = photograph.width // COLUMNS, photograph.height // ROWS
            for place in range(ROWS * COLUMNS) if split == "train" else [number % (ROWS * COLUMNS)]:
                left, top = place % COLUMNS * width, place // COLUMNS * height
                yield f"{stem}-{place}", split, photograph.crop((left, top, left + width, top + height))


if __name__ == "__main__":
    main()
