"""A set of 24 icons in three styles and two weights of their strokes, all of one seed: docs/icons-set.png.

python benchmarks/icon_set.py [--model icons] [--seed 0] [--out FILE]
"""

from pathlib import Path

from PIL import Image, ImageDraw

import common
import inkwash
from common import QUICK, ROOT, font

NAMES = """home|user|settings|search|heart|star|bell|calendar|camera|mail|phone|lock|key|map|car|bicycle|coffee|gift
book|cloud|umbrella|rocket|scissors|trash"""
STYLES, WEIGHTS, SIDE, LEFT, TOP = ["tabler", "ph", "mingcute-line"], [1.25, 2.0], 56, 130, 20


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="icons")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "icons-set.png")
    options = parser.parse_args()
    model, names = inkwash.load(options.model), NAMES.replace("\n", "|").split("|")[: 2 if QUICK else None]
    lines = [(style, weight) for style in STYLES for weight in WEIGHTS]
    page = Image.new("RGB", (LEFT + len(names) * (SIDE + 8), TOP + len(lines) * (SIDE + 8)), "white")
    pen = ImageDraw.Draw(page)
    for x, name in enumerate(names):
        pen.text((LEFT + x * (SIDE + 8), 2), name, fill="black", font=font(11))
        for y, (style, weight) in enumerate(lines):
            icon = model.generate(name, style=style, seed=options.seed, weight=weight, size=SIDE)
            page.paste(icon, (LEFT + x * (SIDE + 8), TOP + y * (SIDE + 8)), icon)
    for y, (style, weight) in enumerate(lines):
        pen.text((4, TOP + y * (SIDE + 8) + SIDE // 2 - 6), f"{style}, {weight:g}", fill="black", font=font(12))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(options.out)
    print(f"{len(names)} icons in {len(STYLES)} styles and {len(WEIGHTS)} weights: {options.out}")


if __name__ == "__main__":
    main()
