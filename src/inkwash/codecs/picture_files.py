"""Pictures as microscopes and cameras save them: the numbers as they are, 8 or 16 bits, slices of a stack apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from inkwash.errors import UserError
from inkwash.extras import require

Array = np.ndarray
TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", *TIFF)
DARK = 16  # a picture of 16 bits that fills less than this part of its range is brightened by much
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: its number, and what exchanges the sides
LOW, HIGH = 1.0, 99.8  # percentiles that become 0 and 1


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def read_pages(path: Path) -> list[Array]:
    """The slices of a picture, each (H, W) or (H, W, 3), as the numbers are in the file. One of a file that is no
    stack.

    Raises UserError for what is no picture, animations, CMYK, colours of 16 bits in a PNG, and more than 3 channels.
    """
    pages = read_tiff(path) if path.suffix.lower() in TIFF else [read_one(path)]
    for page in pages:
        if not np.isfinite(page).all():
            raise UserError(f"{path}: it has values that are not finite; mend it")
        if min(page.shape[:2]) < 2:
            raise UserError(f"{path}: {page.shape[1]} x {page.shape[0]} pixels are too few")
    return pages


def read_one(path: Path) -> Array:
    """A picture by Pillow."""
    with opened(path) as picture:
        if getattr(picture, "is_animated", False) and picture.format != "MPO":
            raise UserError(
                f"{path}: animated, of {getattr(picture, 'n_frames', 2)} frames; save the one that is meant"
            )
        if picture.mode == "CMYK":
            raise UserError(f"{path}: CMYK, the colours of print; save it as RGB")
        if picture.format == "PNG" and picture.mode in ("RGB", "RGBA") and png_bits(path) == 16:
            raise UserError(f"{path}: a PNG of 16 bits a colour, which is not read; save it as TIFF")
        return to_array(decoded(path, picture))


def png_bits(path: Path) -> int:
    """Bits of a channel: byte 24 of a PNG."""
    with path.open("rb") as file:
        return file.read(25)[24]


def opened(path: Path) -> Any:
    """By Pillow, its header read. Size is judged by whoever needs the memory, not by Pillow."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: too many pixels; cut it into pieces") from None
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{path}: not a picture that can be read") from None


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `read_pages` gives it, turned as its EXIF says."""
    if path.suffix.lower() in TIFF:
        height, width = read_pages(path)[0].shape[:2]
        return width, height
    with opened(path) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(ORIENTATION, 1) in TURNED else (width, height)


def decoded(path: Path, picture: Any) -> Any:
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, IndexError):
        raise UserError(f"{path}: a broken picture; save it again") from None


def to_array(picture: Any) -> Array:
    """Of Pillow's picture: grey as it is, colours as RGB, what is transparent on white."""
    if picture.mode[0] in "IFL" and picture.mode not in ("LA", "LAB", "La"):
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def read_tiff(path: Path) -> list[Array]:
    """The slices of a TIFF by its axes: of its first series, samples or up to three channels are colours, and all
    other axes are slices."""
    require(f"{path.name}: to read TIFF files", "tifffile")
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes, values = series.axes, series.asarray()
            inverted = getattr(file.pages[0], "photometric", 1) == 0
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception:  # a broken file makes its reader stumble in any way
        raise UserError(f"{path}: not a TIFF that can be read; save it again, uncompressed") from None
    colour = next((axes.index(letter) for letter in "SC" if letter in axes), None)
    if colour is None:
        values, axes = values[..., None], f"{axes}S"
        colour = len(axes) - 1
    if "Y" not in axes or "X" not in axes:
        raise UserError(f"{path}: axes {axes}: rows and columns are not named; save it again as a plain TIFF")
    values = np.moveaxis(values, (axes.index("Y"), axes.index("X"), colour), (-3, -2, -1))
    count = values.shape[-1]
    if count > 3 and not (count == 4 and "S" in axes):
        raise UserError(f"{path}: {count} channels; save the one, or the three, that are meant")
    pages = values.reshape(-1, *values.shape[-3:])
    if inverted:
        pages = np.iinfo(pages.dtype).max - pages if pages.dtype.kind == "u" else -pages
    return [colours(page[..., :3]) for page in pages]


def colours(page: Array) -> Array:
    """(H, W, 1 to 3) -> (H, W) of one channel, else (H, W, 3), a missing third channel dark."""
    if page.shape[2] == 1:
        return page[..., 0]
    return page if page.shape[2] == 3 else np.concatenate([page, np.zeros_like(page[..., :1])], -1)


def normalised(page: Array) -> Array:
    """(H, W, 3) float32 from 0 to 1: grey in all three; percentile 1 of all numbers becomes 0 and 99.8 becomes 1,
    since the range of a microscope's pictures says nothing. A picture of one value is all 0."""
    values = page.astype(np.float32)
    low, high = np.percentile(values, [LOW, HIGH])
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / max(high - low, 1e-12)).clip(0, 1).astype(np.float32)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, -1)


def says_of_range(pages: Sequence[Array], name: str, note: Callable[[str], None]) -> None:
    """Says of 16 bits that hardly any of them is used."""
    high = max(int(page.max()) for page in pages)
    if pages[0].dtype == np.uint16 and 0 < high < 65535 // DARK:
        note(f"{name}: 16 bits, of which only {min(int(page.min()) for page in pages)} to {high} are used: scaled")


def is_grey(page: Array) -> bool:
    """Whether all channels are the same."""
    return page.ndim == 2 or bool((page == page[..., :1]).all())
