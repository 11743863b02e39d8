"""Pictures as microscopes and cameras save them: the numbers as they are, 8 or 16 bits, slices of a stack apart."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from inkwash.errors import UserError
from inkwash.extras import install_command, require

Array = np.ndarray
TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", *TIFF)
FOREIGN = {5: "CMYK, the colours of print", 6: "YCbCr", 8: "LAB", 9: "LAB", 10: "LAB"}  # colours of a TIFF
WHITE_IS_ZERO, PALETTE, JPEG = 0, 3, (6, 7)  # what a TIFF's numbers mean, and ways to pack them that make them RGB
WRITER = "tifffile.py"  # as it calls itself in a TIFF
ALPHA, PREMULTIPLIED = (1, 2), 1  # what a TIFF says of its last channel
PLAIN = (
    "generic",
    "uniform",
    "shaped",
    "ome",
    "imagej",
)  # TIFFs whose every series is a picture, and no label's photo
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: its number, and what exchanges the sides
DARK = 4096  # a picture of 16 bits whose numbers are all smaller, as of 12 bits or less, is scaled
LARGEST = np.float64(1e37)  # beyond it maps mark places without a value
UNWRITABLE = ("Cc", "Cs")  # control characters and bytes of no text, for which XML and UTF-8 have no place
LOW, HIGH = 1.0, 99.8  # percentiles that become 0 and 1


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether it, or a folder on the way to it, begins with a dot, as what systems and editors keep there."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def is_writable(name: str) -> bool:
    """Whether files of text can hold it."""
    return not any(unicodedata.category(letter) in UNWRITABLE for letter in name)


def stem_of(name: str) -> str:
    """What a picture is called, with or without the ending of its kind, whatever its folder and the system that wrote
    its umlauts. A point in a bare name is no ending."""
    own = unicodedata.normalize("NFC", PureWindowsPath(name.strip()).name)  # its parts are those of either system
    return own.rpartition(".")[0] if is_picture(Path(own)) else own


def read_pages(path: Path) -> list[Array]:
    """The slices of a picture, each (H, W) or (H, W, 3), as the numbers are in the file. One of a file that is no
    stack.

    Raises UserError for what is no picture, animations, CMYK, colours of 16 bits in a PNG, and more than 3 channels.
    """
    pages = read_tiff(path) if path.suffix.lower() in TIFF else [read_one(path)]
    for page in pages:
        check(page, path)
    return pages


def check(page: Array, name: object) -> None:
    """UserError for what is no picture (H, W) or (H, W, 3) of numbers."""
    if page.ndim != 2 and page.shape[2:] != (3,):
        raise UserError(f"{name}: an array of shape {page.shape}; (H, W) or (H, W, 3) is needed")
    if page.dtype.kind not in "buif":
        raise UserError(f"{name}: numbers of type {page.dtype}; save real ones")
    if min(page.shape[:2]) < 2:
        raise UserError(f"{name}: {page.shape[1]} x {page.shape[0]} pixels are too few")
    if page.dtype.kind == "f" and not (np.abs(page) <= LARGEST).all():
        raise UserError(f"{name}: it has values that are not finite, or as large as {LARGEST:g}; mend it")


def read_one(path: Path) -> Array:
    """A picture by Pillow."""
    with opened(path) as picture:
        check_whole(path, picture)
        return to_array(decoded(path, picture))


def check_whole(path: Path, picture: Any) -> None:
    """UserError for what Pillow would read only a part of, or in colours that are not RGB."""
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise UserError(f"{path}: animated, of {getattr(picture, 'n_frames', 2)} frames; save the one that is meant")
    if picture.mode == "CMYK":
        raise UserError(f"{path}: {FOREIGN[5]}; save it as RGB")
    if picture.format == "PNG" and picture.mode in ("RGB", "RGBA", "LA") and png_bits(path) == 16:
        raise UserError(f"{path}: a PNG of 16 bits a colour, which is not read; save it as TIFF")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `read_pages` gives it, turned as its EXIF says."""
    if path.suffix.lower() in TIFF:
        height, width = read_pages(path)[0].shape[:2]
        return width, height
    with opened(path) as picture:
        width, height = picture.size
    return (height, width) if orientation(path) in TURNED else (width, height)


def orientation(path: Path) -> int:
    """As EXIF numbers it, 1 where it lies as it is; that of a TIFF is not followed, as by other tools of masks."""
    if path.suffix.lower() in TIFF:
        return 1
    with opened(path) as picture:
        return orientation_of(picture)


def orientation_of(picture: Any) -> int:
    """As Pillow's picture says; 1 where that is none: some write text there, or several."""
    found = picture.getexif().get(ORIENTATION, 1)
    return int(found) if found in range(1, 9) else 1


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


def decoded(path: Path, picture: Any) -> Any:
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, IndexError):
        raise UserError(f"{path}: a broken picture; save it again") from None


def to_array(picture: Any) -> Array:
    """Of Pillow's picture: grey as it is, colours as RGB, what is transparent on white."""
    clear = picture.info.get("transparency")
    if picture.mode[0] in "IF":
        values = np.asarray(picture)
        return np.where(values == clear, 65535, values).astype(values.dtype) if isinstance(clear, int) else values
    if picture.mode in ("1", "L") and clear is None:
        return np.asarray(picture.convert("L"))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def read_tiff(path: Path, numbers: bool = False) -> list[Array]:
    """The slices of a TIFF by its axes: samples or up to three channels are colours, and all other axes are slices,
    as are its series, which tools write that add one page after the other. What is transparent is white.

    numbers: of a mask, as they are, whatever a palette or ImageJ's inverting table shows, or tifffile says of truth
    values, which it marks as black; what is transparent is 0.
    """
    require(f"{path.name}: to read TIFF files", "tifffile")
    import tifffile

    try:
        with tifffile.TiffFile(path, _multifile=False) as file:  # else each file of a set is the whole set
            check_tiff(path, file)
            first, page = file.series[0], file.pages[0]
            series = [
                one for one in file.series if one is first or (one.kind in PLAIN and not one.keyframe.is_reduced)
            ]
            if any((one.axes, one.shape) != (first.axes, first.shape) for one in series):
                raise UserError(f"{path}: {len(series)} pictures of different sizes in one file; save each alone")
            axes, values = f"R{first.axes}", np.concatenate([one.asarray()[None] for one in series])
            plain = file.is_imagej or (page.bitspersample == 1 and page.software == WRITER)
            inverted = page.photometric == WHITE_IS_ZERO and not (numbers and plain)
            if page.photometric == PALETTE and not (numbers or file.is_imagej):
                axes, values = f"{axes}S", (page.colormap >> 8).astype(np.uint8).T[values]
            alpha = (page.extrasamples or (0,))[-1]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except Exception as error:  # a broken file makes its reader stumble in any way
        raise unreadable(path, error) from None
    colour = next((axes.index(letter) for letter in "SC" if letter in axes), None)
    if colour is None:
        values, axes = values[..., None], f"{axes}S"
        colour = len(axes) - 1
    if "Y" not in axes or "X" not in axes:
        raise UserError(f"{path}: axes {axes}: rows and columns are not named; save it again as a plain TIFF")
    values = np.moveaxis(values, (axes.index("Y"), axes.index("X"), colour), (-3, -2, -1))
    if alpha in ALPHA and "S" in axes:
        values = opaque(values[..., :-1], values[..., -1:], alpha == PREMULTIPLIED, numbers)
    count = values.shape[-1]
    if count > 3 and not (count == 4 and "S" in axes and np.ptp(values[..., 3]) == 0):  # as what pads RGB
        raise UserError(f"{path}: {count} channels; save the one, or the three, that are meant")
    pages = values.reshape(-1, *values.shape[-3:])
    if inverted:
        pages = ~pages if pages.dtype.kind in "bu" else -pages
    return [colours(page[..., :3]) for page in pages]


def unreadable(path: Path, error: Exception) -> UserError:
    """In one line; with what to install for a compression of which tifffile says that a package is missing."""
    install = f", or {install_command('imagecodecs')}" if "imagecodecs" in str(error) else ""
    return UserError(f"{path}: not a TIFF that can be read; save it again, uncompressed{install}")


def check_tiff(path: Path, file: Any) -> None:
    """UserError for colours that are not RGB, and for a file that was cut off between two slices."""
    page = file.pages[0]
    if page.photometric in FOREIGN and not (page.photometric == 6 and page.compression in JPEG):
        raise UserError(f"{path}: {FOREIGN[page.photometric]}; save it as RGB")
    check_end(path, file)


def check_end(path: Path, file: Any) -> None:
    """UserError for a TIFF that was cut off between two slices."""
    if (place := file.pages.next_page_offset) is not None:
        file.filehandle.seek(place)
        following = int.from_bytes(
            file.filehandle.read(file.tiff.offsetsize), "big" if file.byteorder == ">" else "little"
        )
        if following >= file.filehandle.size:
            raise UserError(f"{path}: it is cut off, and slices are missing; copy it again")


def opaque(values: Array, alpha: Array, premultiplied: bool, numbers: bool) -> Array:
    """What is transparent lies on white, or, of numbers, is 0."""
    if numbers:
        return np.where(alpha > 0, values, 0)
    white = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    if (alpha == white).all():
        return values
    share = alpha / white
    laid = (values if premultiplied else values * share) + white * (1 - share)
    return (laid if values.dtype.kind == "f" else laid.round().clip(0, white)).astype(values.dtype)


def colours(page: Array) -> Array:
    """(H, W, 1 to 3) -> (H, W) of one channel, else (H, W, 3), a missing third channel dark."""
    if page.shape[2] == 1:
        return page[..., 0]
    return page if page.shape[2] == 3 else np.concatenate([page, np.zeros_like(page[..., :1])], -1)


def normalised(page: Array) -> Array:
    """(H, W, 3) float32 from 0 to 1: grey in all three; percentile 1 of all numbers becomes 0 and 99.8 becomes 1,
    since the range of a microscope's pictures says nothing. A picture of one value is all 0."""
    values = page.astype(np.result_type(page.dtype, np.float32))  # 32 bits of whole numbers do not fit into a float's
    low, high = map(float, np.percentile(values, [LOW, HIGH]))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / (high - low or 1)).clip(0, 1).astype(np.float32)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, -1)


def resized(x: Array, size: tuple[int, int]) -> Array:
    """(B, C, H, W) float32 at another size, bilinear; smaller as means of what a pixel covers."""
    if x.shape[2:] == size:
        return x
    planes = [
        Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR) for plane in x.reshape(-1, *x.shape[2:])
    ]
    return np.stack([np.asarray(plane) for plane in planes]).reshape(*x.shape[:2], *size)


def says_of_range(pages: Sequence[Array], name: str, note: Callable[[str], None]) -> None:
    """Says of 16 bits that hardly any of them is used."""
    high = max(int(page.max()) for page in pages)
    if pages[0].dtype == np.uint16 and 0 < high < DARK:
        note(f"{name}: 16 bits, of which only {min(int(page.min()) for page in pages)} to {high} are used: scaled")


def is_grey(page: Array) -> bool:
    """Whether all channels are the same."""
    return page.ndim == 2 or bool((page == page[..., :1]).all())
