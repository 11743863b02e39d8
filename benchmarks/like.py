"""Icons of a set that the model never saw, drawn alike in its styles, without words: docs/icons-like.png.

python benchmarks/like.py [--model icons] [--cache FOLDER]   (needs npm, for the set's package)
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

import common
import inkwash
from common import QUICK, ROOT, font
from inkwash.systems.pictures.distance_fields import open_svg
from inkwash.systems.pictures.emoji_data import svg
from inkwash.systems.pictures.icon_sets import SETS
from inkwash.systems.pictures.packages import fetch, read_json

SET, SIDE, TEXT = "hugeicons", 112, 20
STYLES = ["tabler", "ph", "mingcute-line", "icon-park-outline", "tabler-filled", "ph-fill", "mingcute-fill"]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="icons")
    parser.add_argument("--cache", type=Path, default=Path("data/icons/cache"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "icons-like.png")
    options = parser.parse_args()
    model = inkwash.load(options.model)
    if QUICK:
        data = {"width": 24, "height": 24, "icons": {"disc": {"body": '<circle cx="12" cy="12" r="8"/>'}}}
    else:
        (data,) = read_json(fetch(SETS[SET].package, options.cache), "icons.json")
    names = np.random.default_rng(0).permutation(sorted(data["icons"]))[:10]
    page = Image.new("RGB", ((1 + len(STYLES)) * (SIDE + 8), TEXT + len(names) * (SIDE + TEXT)), "white")
    pen = ImageDraw.Draw(page)
    for x, title in enumerate([SET, *STYLES]):
        pen.text((x * (SIDE + 8) + 4, 2), title, fill="black", font=font(12))
    with TemporaryDirectory() as folder:
        for y, name in enumerate(names):
            file = Path(folder) / f"{name}.svg"
            file.write_text(svg(data, name, 0), encoding="utf-8")
            given = open_svg(file, SIDE)
            drawn = [model.generate("", style=style, seed=y, like=file, size=SIDE) for style in STYLES]
            top = TEXT + y * (SIDE + TEXT)
            pen.text((4, top + SIDE), name, fill="black", font=font(11))
            for x, picture in enumerate([given, *drawn]):
                page.paste(picture, (x * (SIDE + 8) + 4, top), picture)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(options.out)
    print(f"{len(names)} icons in {len(STYLES)} styles: {options.out}")


if __name__ == "__main__":
    main()
