"""Pictures and masks from files, as an artist expects them to be read."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from inkwash.errors import UserError

Source = str | Path | Image.Image


def read_picture(source: Source, size: int) -> np.ndarray:
    """uint8 (size, size, 4), straight alpha: the whole picture, made square with a transparent margin, and resized.

    The first frame of an animation; turned as EXIF says; 16 bits as 8; palettes, grey and CMYK as colours. Raises
    UserError for what is no picture.
    """
    return np.asarray(square(load_image(source).convert("RGBA"), size, (255, 255, 255, 0)))


def read_mask(source: Source, size: int) -> np.ndarray:
    """float (size, size): 1 where to draw anew (white), 0 where to keep (black or transparent); as `read_picture`."""
    grey, alpha = load_image(source).convert("LA").split()
    grey = Image.composite(grey, Image.new("L", grey.size, 0), alpha)
    return np.asarray(square(grey, size, 0)) / 255.0


def load_image(source: Source) -> Image.Image:
    try:
        with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as opened:
            picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I;16") or picture.mode == "I":
            values = np.asarray(picture, np.float32) / 257
            return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
        return picture
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises
        raise UserError(f"{source}: not a picture that can be read, or too large") from None


def square(picture: Image.Image, size: int, margin: object) -> Image.Image:
    return ImageOps.pad(picture, (size, size), Image.Resampling.LANCZOS, color=margin)  # type: ignore[arg-type]


def outpaint_canvas(picture: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 4) made smaller in the middle, and the mask of what lies around it: for drawing beyond it.

    fraction: of the side, on each side; from 0 to 0.45.
    """
    if not 0 < fraction <= 0.45:
        raise UserError(f"outpaint = {fraction}: choose a fraction of the side from 0 to 0.45")
    side = len(picture)
    edge = round(side * fraction)
    inner = Image.fromarray(picture).resize((side - 2 * edge, side - 2 * edge), Image.Resampling.LANCZOS)
    canvas = np.zeros_like(picture)
    canvas[edge : side - edge, edge : side - edge] = np.asarray(inner)
    mask = np.ones((side, side))
    mask[edge : side - edge, edge : side - edge] = 0
    return canvas, mask


def source_facts(source: Source | None) -> dict[str, str | None] | None:
    """What a recipe says of a picture that went in: its file, and the SHA-256 of its content."""
    if source is None:
        return None
    if isinstance(source, Image.Image):
        return {"file": None, "sha256": hashlib.sha256(source.tobytes()).hexdigest()}
    return {"file": str(Path(source).resolve()), "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest()}


def image_grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N, H, W, 3) -> one picture with `columns` in a row, 2 pixels of white between; a short row is filled."""
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1] + 2, pictures.shape[2] + 2
    grid = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        grid[y : y + height - 2, x : x + width - 2] = picture
    return grid
