"""Pictures as files of several formats, and icons as what can be drawn at any size: SVG, favicons, sprites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from inkwash.codecs.pixels import on_white
from inkwash.codecs.png import (
    KEY,
    GeneratedImage,
    decode_ico,
    encode_ico,
    encode_png,
    encode_webp,
    facts,
    is_svg,
    read_recipe,
    write_bytes,
    write_png,
)
from inkwash.errors import UserError
from inkwash.systems.base import Recorded
from inkwash.systems.pictures import distance_fields
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.request import Generate
from inkwash.weights.shipped import CHECKPOINTS

ICO_SIZES = (16, 24, 32, 48, 64, 256)
FAVICONS = {"icon-192.png": 192, "icon-512.png": 512}
HTML = """<link rel="icon" href="/favicon.ico" sizes="48x48">
<link rel="icon" href="/favicon.svg" type="image/svg+xml" sizes="any">
<link rel="apple-touch-icon" href="/apple-touch-icon.png">
"""  # icon-192 and icon-512 are for a site's manifest
CELL = 96  # pixels a side of an icon on a contact sheet


class Drawing(NamedTuple):
    """A drawing of one colour, at any size.

    field  signed distances (side, side), as distance_fields.py has them
    level  of the field, in its pixels, that is the outline: another is another weight of the strokes
    color  "#rrggbb"; None is black, and in an SVG the colour of the text around it
    """

    field: np.ndarray
    level: float = 0.0
    color: str | None = None

    def picture(self, size: int) -> Image.Image:
        """RGBA, size x size: ink on nothing."""
        ink = (255 * distance_fields.coverage(self.field, size, self.level)).round().astype(np.uint8)
        picture = Image.new("RGBA", (size, size), self.color or "black")
        picture.putalpha(Image.fromarray(ink))
        return picture

    def svg(self, recipe: Any = None) -> str:
        """The SVG, with the recipe and the label for generated media in its <metadata>."""
        from inkwash.systems.pictures import tracing

        return tracing.svg(tracing.trace(self.field, self.level), facts(recipe), self.color or "currentColor")


def drawing_of(picture: GeneratedImage) -> Drawing:
    """What it is drawn from. UserError for a picture that is no icon."""
    if not isinstance(picture.drawing, Drawing):
        raise UserError("this is a picture of pixels, which is no SVG: only a model of icons draws those, whole")
    return picture.drawing


def recipe_of(picture: GeneratedImage, format: str) -> dict[str, Any]:
    """What makes the file of this format anew, which is a PNG if none is said: an SVG has no size."""
    recipe: dict[str, Any] = picture.info[KEY]
    return (
        recipe
        if format == "png"
        else recipe | {"format": format} | ({"size": None} if format in ("svg", "favicon") else {})
    )


SIGNS = (b"\x89PNG", b"GIF8", b"RIFF", b"\0\0\1\0", b"\xff\xd8\xff")  # by which pictures of pixels begin
FORMATS = ("png", "svg", "webp", "ico", "gif")


def recorded(file: Path) -> Recorded | None:
    """What a picture says of itself. UserError for one that inkwash did not write, and for a grid."""
    data = file.read_bytes()
    if not (is_svg(data) or data.startswith(SIGNS)):
        return None
    recipe = read_recipe(file)
    if recipe.get("system") not in ("pictures", CHECKPOINTS):  # a picture of something, whose own files have a format
        return Recorded(recipe, file.suffix.lower(), frames(file, data), "pixels")
    format = "gif" if data.startswith(b"GIF8") else recipe.get("format", "png")
    if format not in FORMATS:
        raise UserError(f"{file}: its recipe asks for what is no picture; take one of {', '.join(FORMATS)}")
    if format != "gif" and (recipe.get("n", 1) != 1 or recipe.get("to") is not None):
        follow = "its recipe is not one that this version of inkwash can follow"
        raise UserError(f"{file}: {follow} (it asks for several pictures)")
    return Recorded(recipe, f".{format}", frames(file, data), "bytes" if is_svg(data) else "pixels")


def frames(file: Path, data: bytes) -> list[bytes]:
    """The pixels of a picture, of each one of an animation or of an ICO; of an SVG its bytes."""
    if is_svg(data):
        return [data]
    with Image.open(file) as picture:
        if picture.format == "ICO":
            return [one.convert("RGBA").tobytes() for one in decode_ico(data)]
        frames = ImageSequence.Iterator(picture)  # a grey one of 16 or 32 bits has no eight for each colour
        return [(one if one.mode.startswith("I") else one.convert("RGBA")).tobytes() for one in frames]


def write(picture: GeneratedImage, format: str, path: Path) -> dict[str, Path]:
    """The file of the picture at `path` and its ending, by that ending; favicons are a folder, whose ending is "".

    Raises UserError for what cannot be written.
    """
    recipe = recipe_of(picture, format)
    if format == "favicon":
        write_favicons(picture, path)
        return {"": path}
    file = path.with_name(f"{path.name}.{format}")
    if format == "png":
        content = encode_png(picture, recipe)
    elif format == "webp":
        content = encode_webp(picture, recipe)
    elif format == "ico":
        content = encode_ico(small_pictures(picture), recipe)
    else:
        content = drawing_of(picture).svg(recipe).encode()
    write_bytes(file, content)
    return {f".{format}": file}


def small_pictures(picture: GeneratedImage) -> list[Image.Image]:
    """The picture at the sizes of an ICO up to its own: a drawing is drawn at each, any other is resized."""
    sizes = [size for size in ICO_SIZES if size <= picture.width] or [picture.width]
    if picture.drawing is not None:
        return [drawing_of(picture).picture(size) for size in sizes]
    return [picture.resize((size, size), Image.Resampling.LANCZOS) for size in sizes]


def write_favicons(picture: GeneratedImage, folder: Path) -> None:
    """What a site shows in tabs, bookmarks and on phones, and the HTML that names it (favicon.html)."""
    drawing, recipe = drawing_of(picture), picture.info[KEY]
    folder.mkdir()
    for format in ("ico", "svg"):
        write(picture, format, folder / "favicon")
    for name, size in FAVICONS.items():
        write_png(drawing.picture(size), folder / name, recipe | {"size": size})
    # phones lay a transparent one on black; on white it is a picture that no recipe makes
    opaque = Image.new("RGB", (180, 180), "white")
    icon = drawing.picture(180)
    opaque.paste(icon, mask=icon)
    write_png(opaque, folder / "apple-touch-icon.png", None)
    (folder / "favicon.html").write_text(HTML, encoding="utf-8")


def names_of_symbols(rows: Iterable[tuple[str, Generate]]) -> list[str]:
    """An id for each row of a table: its own name, or its words if it has none; unique, and valid in XML."""
    names: list[str] = []
    for name, request in rows:
        text = request.prompt if name.startswith(request.stem()) else name
        word = re.sub(r"[^\w-]+", "-", text.lower()).strip("-")[:60] or "icon"
        word = word if word[0].isalpha() else f"icon-{word}"
        number, free = 1, word
        while free in names:
            number += 1
            free = f"{word}-{number}"
        names.append(free)
    return names


def write_sprite(names: Sequence[str], pictures: Sequence[GeneratedImage], path: Path) -> dict[str, Path]:
    """Icons as the <symbol>s of one SVG, each with its recipe, and a contact sheet of them in the same order."""
    symbols = []
    for name, picture in zip(names, pictures, strict=True):
        inner = re.sub("^<svg[^>]*>|</svg>$", "", drawing_of(picture).svg(recipe_of(picture, "svg")))
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{inner}</symbol>\n')
    svg, png = path.with_name(f"{path.name}.svg"), path.with_name(f"{path.name}.png")
    # not display: none, in which what a symbol refers to is not drawn by some browsers
    start = '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0">'
    write_bytes(svg, f"{start}\n{''.join(symbols)}</svg>\n".encode())
    cells = on_white(np.stack([np.asarray(drawing_of(picture).picture(CELL)) for picture in pictures]))
    sheet = Image.fromarray(image_grid(cells, int(np.ceil(len(pictures) ** 0.5))))
    write_png(sheet, png, [picture.info[KEY] for picture in pictures])
    return {".svg": svg, ".png": png}
