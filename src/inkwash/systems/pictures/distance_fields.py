"""Signed distance fields of drawings of one colour: how far each place is from the outline, inside positive.

Level 0 of a field is the outline, and another level another weight of the strokes. A field of 64 pixels a side holds
an outline as well as the opacity of 128 pixels does. Distances are in pixels of the field's own size.
"""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from inkwash.codecs import pixels
from inkwash.codecs.png import is_svg
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.pictures.data import Source, load_image

SIZE = 64  # pixels a side of the fields that are stored
LIMIT = 6  # pixels: distances are cut off there, so that a byte holds them
SUPERSAMPLING = 8  # pixels a side of the drawing for each pixel of its field
REACH = 64  # pixels of the drawing: as far as distances are measured. Squares of 8, LIMIT away, end at 58
MAX_SVG, SVG_SECONDS = 1_000_000, 10  # bytes; of what one may take to draw
RENDER = """
import contextlib, sys
with contextlib.suppress(ImportError, OSError, ValueError):  # Windows, or a system that bounds nothing
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
from resvg_py import svg_to_bytes
side = int(sys.argv[1])
text = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(bytes(svg_to_bytes(svg_string=text, width=side, height=side, skip_system_fonts=True)))
"""  # an SVG on standard input, its PNG on standard output
MARGIN = 1 / 12  # of the side, that icons keep clear around them


def ink(png: bytes) -> np.ndarray:
    """How much ink there is at each pixel of a drawing (height, width), from 0 to 1: white is paper."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = np.asarray(picture.convert("RGB").convert("L"), np.float32) / 255
    return np.asarray(picture.getchannel("A"), np.float32) / 255 * (1 - white)


def signed_distance(inside: np.ndarray) -> np.ndarray:
    """How far the centre of each pixel is from the outline of a shape (height, width) of bool, in its pixels.

    Exact up to REACH, and what is farther is as far: min over (dx, dy) of dx^2 + dy^2 is taken first over dy, then
    over dx (Saito and Toriwaki, "New algorithms for Euclidean distance transformation", Pattern Recognition, 1994).
    """
    # to the centre of the nearest pixel on the other side, which the outline is half a pixel nearer than
    distance: np.ndarray = np.where(inside, depth(inside) - 0.5, 0.5 - depth(~inside))
    return distance


def depth(shape: np.ndarray) -> np.ndarray:
    """How far each pixel is from the nearest that is not of the shape (height, width), at most REACH; 0 there."""
    row = np.arange(len(shape), dtype=np.int16)[:, None]
    above = np.maximum.accumulate(np.where(shape, np.int16(-REACH), row))
    below = np.minimum.accumulate(np.where(shape, np.int16(len(shape) + REACH), row)[::-1])[::-1]
    of_column = np.minimum(np.minimum(row - above, below - row), REACH) ** 2
    nearest = of_column.copy()
    for dx in range(1, min(REACH, shape.shape[1])):
        np.minimum(nearest[:, dx:], of_column[:, :-dx] + np.int16(dx * dx), out=nearest[:, dx:])
        np.minimum(nearest[:, :-dx], of_column[:, dx:] + np.int16(dx * dx), out=nearest[:, :-dx])
    distance: np.ndarray = np.sqrt(np.minimum(nearest, REACH**2), dtype=np.float64)
    return distance


def average(field: np.ndarray, factor: int) -> np.ndarray:
    """The means of squares of factor x factor pixels of fields (..., height, width), in units of such a square."""
    height, width = (side // factor for side in field.shape[-2:])
    squares = field.reshape(*field.shape[:-2], height, factor, width, factor)
    return np.asarray(squares.mean((-3, -1)) / factor)


def encode(coverage: np.ndarray) -> bytes:
    """The field of a drawing of SIZE x SUPERSAMPLING pixels a side: an int8 for each pixel, LIMIT pixels are 127."""
    field = average(signed_distance(coverage >= 0.5), SUPERSAMPLING)
    return np.round(field.clip(-LIMIT, LIMIT) * (127 / LIMIT)).astype(np.int8).tobytes()


def decode(fields: list[bytes], size: int) -> np.ndarray:
    """Stored fields as float32 (N, size, size), size 64 or 32. At 32 they are cut off at 2 pixels.

    They are exact there: four pixels whose mean lies within 4 pixels all lie within the limit of 6.
    """
    stored = np.frombuffer(b"".join(fields), np.int8).reshape(-1, SIZE, SIZE)
    full = stored.astype(np.float32) * np.float32(LIMIT / 127)
    return full if size == SIZE else average(full, SIZE // size).clip(-limit(size), limit(size))


def limit(side: int) -> float:
    """Where the fields that a network learns are cut off, in their pixels: at a sixteenth of the side."""
    return side / 16


def from_picture(picture: Image.Image, size: int = 32) -> np.ndarray:
    """The field (size, size) of what is drawn in a picture (see `drawing`), cut off at `limit`.

    A square picture is an icon with its own margin. Of any other what is drawn is brought to the middle of a square,
    with the margin that icons have. Raises UserError for a picture of one shade.
    """
    shape = drawing(picture)
    rows, columns = (np.flatnonzero((shape >= 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise UserError("the picture shows nothing: it is of one shade; give one with dark lines on white")
    if picture.width != picture.height:
        shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        missing = [round(max(shape.shape) / (1 - 2 * MARGIN)) - side for side in shape.shape]
        shape = np.pad(shape, [(more // 2, more - more // 2) for more in missing])
    side = size * SUPERSAMPLING
    large = Image.fromarray(shape).resize((side, side), Image.Resampling.BICUBIC)
    field = average(signed_distance(np.asarray(large) >= 0.5), SUPERSAMPLING)
    return field.clip(-limit(size), limit(size)).astype(np.float32)


def drawing(picture: Image.Image) -> np.ndarray:
    """How much each pixel of a picture belongs to what is drawn there (height, width), float32 from 0 to 1.

    What is of one shade on nothing, black or white, is drawn where it is opaque; what is of several is drawn on white
    paper, as `ink` has it. Without transparency the shade of most of the border is the paper, light or dark, and the
    shade that is farthest from it is drawn.
    """
    rgba = picture.convert("RGBA")
    white = np.asarray(rgba.convert("RGB").convert("L"), np.float32) / 255
    opacity = np.asarray(rgba.getchannel("A"), np.float32) / 255
    shades = white[opacity >= 0.5]
    if len(shades) < white.size:
        one_shade = len(shades) == 0 or np.ptp(np.quantile(shades, [0.02, 0.98])) < 0.25
        return opacity if one_shade else opacity * (1 - white)
    paper = np.median(np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]]))
    contrast = np.abs(white - paper)
    return np.asarray(contrast / max(contrast.max(), 0.1))


def load_drawing(source: Source) -> Image.Image:
    """A picture as `load_image` reads it, or an SVG, by its content, as `render_svg` does."""
    if not isinstance(source, Image.Image):
        with Path(source).open("rb") as file:
            svg = is_svg(file.read(4096))
        if svg:
            return open_svg(Path(source))
    return load_image(source)


def open_svg(path: Path, side: int = SIZE * SUPERSAMPLING) -> Image.Image:
    """The file of an SVG, as `render_svg` does."""
    return render_svg(path.read_bytes(), str(path), side)


def render_svg(data: bytes, name: str, side: int = SIZE * SUPERSAMPLING) -> Image.Image:
    """An SVG as a picture with opacity, whose longer side is `side`; currentColor is black.

    It is drawn by a process of its own, within bounds: a few lines can ask for years of drawing. Raises UserError,
    with the name, where resvg is not installed, or it is no SVG, has pictures or entities in it, or is too much.
    """
    require("reading an SVG", "resvg_py")
    text = data.decode("utf-8-sig", errors="replace")
    if re.search(r"<!ENTITY|<([\w-]+:)?(image|feImage)\b", text):  # resvg would open any file that they name
        raise UserError(f"{name}: an SVG that has pictures or entities in it; give one of shapes alone")
    if len(data) > MAX_SVG:
        raise UserError(f"{name}: an SVG of more than {MAX_SVG // 10**6} MB; give one that is smaller")
    command = [sys.executable, "-P", "-c", RENDER, str(side)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SVG_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{name}: an SVG that takes more than {SVG_SECONDS} s to draw; give a simpler one") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:100]
        raise UserError(f"{name}: this is no SVG that can be read ({why})")
    return Image.open(io.BytesIO(done.stdout))


def to_state(fields: np.ndarray, patch: int) -> np.ndarray:
    """Fields (N, side, side) -> states (N, patch^2, side / patch, side / patch) in [-1, 1]."""
    return pixels.pixel_unshuffle((fields[:, None] / limit(fields.shape[-1])).clip(-1, 1).astype(np.float32), patch)


def from_state(state: np.ndarray, patch: int) -> np.ndarray:
    """The inverse of `to_state`."""
    field = pixels.pixel_shuffle(state, patch)[:, 0].clip(-1, 1)
    return np.asarray(field * np.float32(limit(field.shape[-1])))


def coverage(field: np.ndarray, size: int, level: float = 0.0) -> np.ndarray:
    """How much ink there is at each pixel of a picture of size x size, from 0 to 1: the field (side, side), bicubic
    between its places, above the level, with soft edges one pixel wide."""
    scale = size / field.shape[0]
    fine = np.asarray(Image.fromarray(field - np.float32(level)).resize((size, size), Image.Resampling.BICUBIC))
    soft: np.ndarray = (fine * scale + 0.5).clip(0, 1)
    return soft


def draw(fields: np.ndarray, size: int) -> np.ndarray:
    """Fields (N, side, side) -> black ink, uint8 (N, size, size, 4): colours on white, and opacity."""
    ink = np.stack([(255 * coverage(field, size)).round().astype(np.uint8) for field in fields])[..., None]
    return np.concatenate([255 - ink, 255 - ink, 255 - ink, ink], axis=-1)
