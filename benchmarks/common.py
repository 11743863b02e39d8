"""What these programs share: where they write, and `--quick`.

With `--quick` a program runs through a little of everything in seconds, on data that it makes itself, and writes into
a folder that is removed at the end: this says that it still runs, and its figures mean nothing.
"""

import argparse
import atexit
import json
import shutil
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageFont

from inkwash.weights.files import atomic

QUICK = "--quick" in sys.argv
ROOT = Path(tempfile.mkdtemp(prefix="benchmark-")) if QUICK else Path(__file__).parents[1]
if QUICK:
    atexit.register(shutil.rmtree, ROOT)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a program's options; its docstring is the help."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a little of everything, kept nowhere: does it run?")
    return options


def new_folder(folder: Path) -> None:
    """Ends the program if something lies there: pictures of another run would be learned from, too."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder}: there is something already; give another --out, or move it away")
    folder.mkdir(parents=True, exist_ok=True)


def needs(*modules: str) -> None:
    """Ends the program if one of the peers that it cannot do without is missing."""
    if missing := [name for name in modules if find_spec(name) is None]:
        sys.exit(f"not installed: {', '.join(missing)}; see the top of this program")


def load(file: Path) -> dict[str, Any]:
    """A report as far as it got, {} before the first."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def save(file: Path, report: dict[str, Any]) -> None:
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def emoji() -> Path:
    """The folder that `inkwash data emoji` makes; in a quick run, one of ten discs in each style."""
    if not QUICK:
        return Path("data/emoji")
    from io import BytesIO

    from PIL import Image, ImageDraw

    from inkwash.systems.pictures.emoji_data import STYLES, write_parquet

    folder = ROOT / "data" / "emoji"
    folder.mkdir(parents=True, exist_ok=True)
    for place, style in enumerate(STYLES):
        rows = []
        for i in range(10):
            picture, png = Image.new("RGBA", (64, 64)), BytesIO()
            ImageDraw.Draw(picture).circle((32, 32), 10 + place + i, fill=f"hsv({36 * i}, 90%, 80%)")
            picture.save(png, "png")
            split = "validation" if i % 5 == 3 else "test" if i % 5 == 4 else "train"
            row = {"style": style, "concept": f"{i:x}", "name": f"disc {i}", "tags": [], "group": "objects"}
            row |= {"licence": "", "source": "", "split": split, "name_zh": f"圆{i}", "tags_zh": []}
            rows.append(row | {"picture_64": png.getvalue(), "picture_256": b""})
        write_parquet(folder / f"{style}.parquet", rows)
    return folder


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One with Chinese characters, if the machine has it."""
    for file in Path("/usr/share/fonts").rglob("*"):
        if file.suffix in (".ttc", ".ttf", ".otf") and any(word in file.name for word in ("CJK", "wqy", "Droid")):
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)
