"""Photographs as files: their numbers as they are, in 8 or 16 bits, with opacity and colour profile; written in the
kind that was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from inkwash.codecs.picture_files import Array, check_end, decoded, orientation_of, png_bits, unreadable
from inkwash.codecs.png import encode_png, encode_webp
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.picture_folders import with_recipe
from inkwash.systems.pictures import primaries
from inkwash.systems.pictures.data import open_image
from inkwash.weights.files import atomic

Format = Literal["png", "jpeg", "webp", "tiff"]
SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
LONGEST = {"jpeg": 65_535, "webp": 16_383}  # sides, in pixels
QUALITY = 95  # of a JPEG
ORIENTATION, XMP_TAG = 274, 700  # tags of TIFF 6.0
NUMBERS = {2: " (signed)", 3: " (floats)"}  # that are no counts from 0


class Photo(NamedTuple):
    """pixels (H, W) or (H, W, 3), uint8 or uint16; alpha (H, W) of the same, straight, or None; icc: the colour
    profile, b"" without one; format: as which it was read, "png" for kinds that are not written; orientation: as EXIF
    numbers how it lay in its file."""

    pixels: Array
    alpha: Array | None = None
    icc: bytes = b""
    format: str = "png"
    orientation: int = 1


def read_photo(path: Path) -> Photo:
    """A picture of one page, turned as its camera says.

    Raises UserError for what is no picture, animations and stacks, CMYK and LAB, floats, signed numbers and 32 bits,
    channels that are neither colours nor opacity, and colours of 16 bits in a PNG.
    """
    if (deep := read_deep_tiff(path)) is not None:
        return deep
    with open_image(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format != "MPO":
            raise UserError(f"{path}: animated, or a stack, of {frames} pages; save the one that is meant")
        if picture.mode in ("CMYK", "LAB"):
            raise UserError(f"{path}: {picture.mode}, which no screen shows; save it as RGB")
        kind, way = str(picture.format).lower(), orientation_of(picture)
        if kind == "png":
            with path.open("rb") as file:
                picture.info["cicp"] = primaries.read_cicp(file)
        if picture.mode[0] in "IF":
            pixels, alpha = deep_grey(path, picture)
        elif kind == "png" and png_bits(path) == 16:
            raise UserError(f"{path}: a PNG of 16 bits a colour, which is not read; save it as TIFF")
        else:
            pixels, alpha = in_eight_bits(decoded(path, picture))
        pixels, icc = with_profile(path, pixels, picture.info)
    return Photo(pixels, alpha, icc, "jpeg" if kind == "mpo" else kind if kind in SUFFIX else "png", way)


def with_profile(path: Path, pixels: Array, info: Mapping[Any, Any]) -> tuple[Array, bytes]:
    """The pixels with the ICC profile of their colours: their own, or of what else a PNG says of them. Grey of
    another gamma has none; it becomes that of sRGB, as every viewer shows it. UserError for colours that are not
    read."""
    try:
        icc = info.get("icc_profile") or primaries.profile_of(info)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    gamma = 2.2 * info.get("gamma", 1 / 2.2)
    if pixels.ndim == 2 and not info.get("icc_profile"):
        icc = b""
    if icc or "srgb" in info or gamma == 0 or abs(gamma - 1) < 0.05:  # no less can be seen
        return pixels, icc or b""
    if pixels.ndim == 3:
        return pixels, primaries.icc_profile(primaries.SRGB, primaries.VALUES ** (2.2 / gamma))
    top = np.iinfo(pixels.dtype).max
    return (top * (pixels / top) ** (1 / gamma)).round().astype(pixels.dtype), b""


def in_eight_bits(picture: Any) -> tuple[Array, Array | None]:
    """Of Pillow's picture: grey as it is, else RGB; the opacity apart."""
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    grey = picture.mode in ("1", "L", "LA")
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L" if grey else "RGB")), None
    both = np.asarray(picture.convert("LA" if grey else "RGBA"))
    return (both[..., 0] if grey else both[..., :3]), both[..., -1]


def deep_grey(path: Path, picture: Any) -> tuple[Array, Array | None]:
    """Grey of 16 bits, of which one value may stand for nothing."""
    clear = picture.info.get("transparency")
    values = np.asarray(decoded(path, picture))
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535 or picture.format not in ("PNG", "PPM"):
        raise UserError(f"{path}: numbers of {values.dtype}: save it with 8 or 16 bits")
    alpha = np.where(values == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
    return values.astype(np.uint16), alpha


def read_deep_tiff(path: Path) -> Photo | None:
    """A TIFF of more than 8 bits, which Pillow would cut down to these where it has colours; None for others."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    require(f"{path.name}: to read TIFF files", "tifffile")
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            check_end(path, tiff)
            page, pages = tiff.pages[0], len(tiff.pages)
            bits, kind, axes = int(np.max(page.bitspersample)), int(page.photometric), page.axes
            numbers = NUMBERS.get(page.sampleformat, "")
            values = page.asarray() if bits == 16 and not numbers and pages == 1 else None
            extra, way, icc = page.extrasamples, int(page.tags.valueof(ORIENTATION, default=1)), page.iccprofile
    except UserError:
        raise
    except Exception as error:  # a broken file makes its reader stumble in any way
        raise unreadable(path, error) from None
    if pages > 1:
        raise UserError(f"{path}: a stack, of {pages} pages; save the one that is meant")
    if 0 in extra:  # of which nothing says whether it is opacity
        raise UserError(f"{path}: {page.samplesperpixel} channels; save the one, or the three, that are meant")
    if bits <= 8 and not numbers:
        return None
    if values is None:
        raise UserError(f"{path}: numbers of {bits} bits{numbers}: save it with 8 or 16 bits, unsigned")
    if kind not in (0, 1, 2):
        raise UserError(f"{path}: neither grey nor RGB; save it as RGB")
    values = np.moveaxis(values, 0, -1) if axes[0] == "S" else values
    values, colours = turned(values if values.ndim == 3 else values[..., None], way), 3 if kind == 2 else 1
    if values.shape[2] not in (colours, colours + 1):
        raise UserError(f"{path}: {values.shape[2]} channels; save the one, or the three, that are meant")
    pixels, alpha = values[..., :colours], values[..., colours] if values.shape[2] > colours else None
    pixels = 65535 - pixels if kind == 0 else pixels  # nought is white
    if alpha is not None and 1 in extra:  # multiplied into the colours
        pixels = (pixels / (np.maximum(alpha[..., None], 1) / 65535)).clip(0, 65535).round().astype(np.uint16)
    return Photo(pixels[..., 0] if colours == 1 else pixels, alpha, icc or b"", "tiff", way)


def turned(values: Array, way: int) -> Array:
    """As an orientation of TIFF says: 1 as it lies, 2 mirrored, 3 half a turn, ..."""
    if way in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if way in (2, 3, 6, 7):
        values = values[:, ::-1]
    if way in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def format_for(photo: Photo, wanted: str | None, lossless: bool) -> str:
    """The kind of file that is written: the one that is asked for, or that was read; else, where that cannot hold
    the picture, or loses bits where none may be lost, PNG or TIFF.

    Raises UserError where what is asked for cannot hold it.
    """
    if wanted is not None:
        if (why := lacks(photo, wanted)) is not None:
            raise UserError(f"format = {wanted}: {why}: take {' or '.join(able(photo))}")
        return wanted
    fits = lacks(photo, photo.format) is None and not (lossless and photo.format == "jpeg")
    return photo.format if fits else able(photo)[0]


def able(photo: Photo) -> list[str]:
    """The lossless kinds that can hold it."""
    return [kind for kind in ("png", "tiff") if lacks(photo, kind) is None]


def lacks(photo: Photo, kind: str) -> str | None:
    """Why a kind of file cannot hold a picture."""
    deep, several = photo.pixels.dtype == np.uint16, photo.pixels.ndim == 3 or photo.alpha is not None
    if deep and (kind in LONGEST or (kind == "png" and several)):
        return f"no {kind.upper()} of {'colours or opacity in ' * (kind == 'png')}16 bits is written"
    if kind == "jpeg" and photo.alpha is not None:
        return "a JPEG has no opacity"
    if kind == "webp" and photo.icc and photo.pixels.ndim == 2:
        return "a WebP has no grey, of which the colour profile is"
    if (longest := max(photo.pixels.shape[:2])) > LONGEST.get(kind, longest):
        return f"{longest} pixels are too many for a side"
    return None


def write_photo(photo: Photo, file: Path, recipe: Any, xmp: str) -> None:
    """In the kind of its ending, whole or not at all. A PNG and a WebP, which is lossless, have the recipe; all have
    the XMP packet and the colour profile."""
    planes = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    with atomic(file) as temporary:
        if file.suffix == SUFFIX["tiff"]:
            write_tiff(planes, photo, temporary, xmp)
            return
        picture = (
            Image.fromarray(planes, "LA") if photo.pixels.ndim == 2 and planes.ndim == 3 else Image.fromarray(planes)
        )
        if photo.icc:
            picture.info["icc_profile"] = photo.icc
        if file.suffix == SUFFIX["jpeg"]:
            how: dict[str, Any] = {"quality": QUALITY, "subsampling": 0, "icc_profile": photo.icc or None}
            picture.save(temporary, "JPEG", xmp=xmp.encode(), **how)
        else:
            encode = encode_png if file.suffix == SUFFIX["png"] else encode_webp
            temporary.write_bytes(encode(picture, recipe, xmp))


def write_tiff(planes: Array, photo: Photo, file: Path, xmp: str) -> None:
    require(f"{file.name}: to write TIFF files", "tifffile")
    import tifffile

    packet = xmp.encode()
    tifffile.imwrite(
        file,
        planes,
        photometric="minisblack" if photo.pixels.ndim == 2 else "rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] * (photo.alpha is not None),
        compression="zlib",
        iccprofile=photo.icc or None,
        extratags=[(XMP_TAG, "B", len(packet), packet, True)],
        metadata=None,
    )


def grey_png(values: Array, file: Path, recipe: Any) -> None:
    """Numbers (H, W) from 0 to 1, clipped, as grey of 8 bits. A map is no generated picture, and is not labelled."""
    with atomic(file) as temporary:
        grey = Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8))
        grey.save(temporary, "PNG", pnginfo=with_recipe(recipe))


def resized_alpha(alpha: Array, size: Sequence[int]) -> Array:
    """(H, W) at another size, of rows and columns, bilinear: what is clear stays clear, without ghosts of edges."""
    plane = Image.fromarray(alpha.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    found: Array = np.asarray(plane).round().astype(alpha.dtype)
    return found
