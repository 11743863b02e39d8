"""Pictures and masks from files, as an artist expects them to be read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageFilter, ImageOps, features

from inkwash.codecs.picture_files import WRITER, orientation_of
from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.pictures import primaries

Source = str | Path | Image.Image
FEATHER = 0.02  # of the side: the radius of a soft edge
TINT = 32  # levels by which the channels of a mask may differ, as of a JPEG or a scan
GREYS = 0.05  # of what is not transparent in a mask may be in between black and white, as at a brush's edge
MAX_ASPECT = 16  # of a picture that is fitted into a square, where more would be a line
SUBFILE_TYPE, PHOTOMETRIC, SOFTWARE = 254, 262, 305  # tags of TIFF 6.0
HEIF = {".heic", ".heif"}


def require_reader(file: Path) -> None:
    """UserError where a package is missing that reads pictures of its ending."""
    suffix = file.suffix.lower()
    if suffix in HEIF:
        require(str(file), "pillow_heif")
        import_module("pillow_heif").register_heif_opener()
    if suffix == ".avif" and not features.check("avif"):
        raise UserError(f"{file} needs a Pillow that reads AVIF: pip install --upgrade 'pillow>=11.3'")


@contextmanager
def open_image(source: Source | IO[bytes]) -> Iterator[Image.Image]:
    """The picture, its header read; UserError for whatever goes wrong with it while it is open.

    A file is opened here, if it is not open: those that Pillow opens itself it maps into memory, and then reads a
    TIFF that lies on its side with the wrong width.
    """
    name = str(source) if isinstance(source, str | Path) else "the picture"
    try:
        if isinstance(source, Image.Image):
            yield source
            return
        if not isinstance(source, str | Path):
            with of_any_size(source) as opened:
                yield opened
            return
        require_reader(Path(source))
        with Path(source).open("rb") as file, of_any_size(file) as opened:
            yield opened
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too many pixels; make it smaller") from None
    except Exception:  # a broken file makes its reader stumble in any way
        raise UserError(f"{name}: not a picture that can be read") from None


def of_any_size(file: IO[bytes]) -> Image.Image:
    """Pillow's picture; whoever needs the memory judges its size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def orientation(source: Source) -> int:
    """As EXIF numbers it, and TIFF: 1 for a picture that lies as it is."""
    with open_image(source) as opened:
        return orientation_of(opened)


def is_animated(source: Source) -> bool:
    """Whether it has frames or pages beside the first, which is read; not of a photo and what a camera adds."""
    with open_image(source) as opened:
        return opened.format != "MPO" and getattr(opened, "is_animated", False)


def load_image(source: Source | IO[bytes]) -> Image.Image:
    """The picture as RGB, or RGBA with straight alpha where it has transparency, in sRGB, eight bits a channel.

    The first frame of an animation; turned as EXIF says; by its ICC profile, or what else a PNG says of its colours.
    Of 16 bits the upper eight; 32-bit numbers and floats by the range that they fill. Raises UserError for what is no
    picture, for the small preview with which raw photos begin, for colours that are not read here (HDR), and where
    that range cannot be told.
    """
    name = str(source) if isinstance(source, str | Path) else "the picture"
    with open_image(source) as opened:
        tags = getattr(opened, "tag_v2", {})  # of a TIFF
        if tags.get(SUBFILE_TYPE, 0) & 1:
            raise UserError(f"{name}: it begins with a small preview, as raw photos do; save it as PNG or JPEG")
        if opened.format == "PNG" and (file := getattr(opened, "fp", None)) is not None:
            opened.info["cicp"] = primaries.read_cicp(file)
        sixteen_bits = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM"))
        picture = ImageOps.exif_transpose(opened)
        if picture.mode[0] in "IF":
            picture = to_eight_bits(picture, 65535 if sixteen_bits else None, name)
            if tags.get(PHOTOMETRIC) == 0:  # nought is white, which Pillow minds in eight bits alone
                picture = ImageOps.invert(picture)
        if picture.mode in ("La", "RGBa"):
            picture = picture.convert(picture.mode.upper())
        try:
            colours = to_srgb(picture)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if picture.has_transparency_data:
            colours.putalpha(picture.convert("RGBA").getchannel("A"))
        return colours


def to_eight_bits(picture: Image.Image, white: int | None, name: str) -> Image.Image:
    """A picture of one channel of 16 or 32 bits or floats as grey, and with alpha if one value stands for nothing.

    white: the value of white; None for the one of 1, 255 and 65535 of which the largest value is at most that, and no
    sixteenth of it or less. UserError if there is none, or if values are negative.
    """
    values, clear = np.asarray(picture).astype(float), picture.info.get("transparency")
    if white is None:
        low, high = (round(float(value), 3) for value in (values.min(), values.max()))
        whites = [white for white in (1, 255, 65535) if white / 16 < high <= white or high == 0]
        if not whites or low < 0 or not np.isfinite(values).all():
            raise UserError(
                f"{name}: what is white cannot be told from values of {low:g} to {high:g}: save it with 8 or 16 bits"
            )
        white = whites[0]
    grey = Image.fromarray((values.clip(0, white) * (255 / white)).round().astype(np.uint8))
    grey.info = {key: value for key, value in picture.info.items() if key != "transparency"}
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def to_srgb(picture: Image.Image) -> Image.Image:
    """The colours without alpha, as RGB in sRGB: by the picture's ICC profile, if it has one for these channels; or
    by the primaries of a PNG; or by its gamma g, v^(1 / (2.2 g)), as its specification says (third edition, 13.13).
    UserError for primaries that are not read here."""
    mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(picture.mode, "RGB")
    colours, icc = picture.convert(mode), picture.info.get("icc_profile") or b""
    if mode in ("L", "RGB") and (own := primaries.profile_of(picture.info)) is not None:
        return converted(colours.convert("RGB"), ImageCms.ImageCmsProfile(BytesIO(own)))
    if mode != "LAB" and not icc:
        colours, gamma = colours.convert("RGB"), 2.2 * picture.info.get("gamma", 0)
        if "srgb" in picture.info or gamma == 0 or abs(gamma - 1) < 0.05:  # no less can be seen
            return colours
        return colours.point([round(255 * (value / 255) ** (1 / gamma)) for value in range(256)] * 3)
    try:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB") if mode == "LAB" else BytesIO(icc))
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):  # as it is, to the last bit
            return colours.convert("RGB")
        return converted(colours, profile)
    except (OSError, ImageCms.PyCMSError):  # a broken one, or one of other channels: passed over as by every viewer
        return colours.convert("RGB")


def converted(colours: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Colours of a profile in sRGB."""
    to_srgb = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), colours.mode, "RGB")
    srgb: Image.Image = to_srgb.apply(colours)
    srgb.info.clear()
    return srgb


def fitted(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the whole picture in the middle of a square. UserError where it would be a
    line."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"a picture of {width} x {height} pixels would be no more than a line: cut it to at most "
            f"{MAX_ASPECT} times as long as wide"
        )
    scale = size / max(width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    return (size - width) // 2, (size - height) // 2, width, height


def load_mask(source: Source) -> Image.Image:
    """ "L": white where to draw anew, black where to keep; what is transparent is kept. UserError for colours, of
    which the brightness means nothing, and for a picture in greys with a hole in its opacity."""
    picture = load_image(source).convert("RGBA")
    with open_image(source) as opened:
        if is_of_truth_values(opened):
            picture = ImageOps.invert(picture.convert("L")).convert("RGBA")
    shown = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    name = str(source) if isinstance(source, str | Path) else "the mask"
    todo = "make white what shall be drawn anew, and black what shall stay"
    if np.ptp(np.asarray(shown), axis=-1).max() > TINT:
        raise UserError(f"{name}: a mask in colours: {todo}")
    values = np.asarray(picture)
    paint, alpha = values[..., 0], values[..., 3]
    between = (paint > TINT) & (paint < 255 - TINT) & (alpha > 0)
    if alpha.min() < 255 and between.sum() > GREYS * (alpha > 0).sum():
        raise UserError(f"{name}: a picture in greys with a hole, and no mask: {todo}")
    return shown.convert("L")


def is_of_truth_values(picture: Image.Image) -> bool:
    """Whether it is a TIFF of truth values as tifffile writes them, which marks True as black."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode == "1" and tags.get(PHOTOMETRIC) == 0 and str(tags.get(SOFTWARE)).startswith(WRITER)


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures of these widths and heights are one another resized, up to rounding to whole pixels."""
    (a, b), (c, d) = one, other
    return abs(a * d / c - b) < 1 or abs(c * b / a - d) < 1


class InitImage(NamedTuple):
    """A picture to begin from, at any size that it is needed at.

    image     RGB or RGBA, as `load_image` reads it
    strength  the time to which it is noised, 0 to 1: how much of it may change (SDEdit, 2108.01073)
    mask      "L", of the image's shape or square like what is drawn: white where it is drawn anew, black where it
              stays to the pixel; None for everywhere
    outpaint  the fraction of the side, on each side, that is drawn on beyond it, from 0 to 0.45; None for none
    """

    image: Image.Image
    strength: float
    mask: Image.Image | None = None
    outpaint: float | None = None

    @property
    def partial(self) -> bool:
        """Whether something of it stays as it is."""
        return self.mask is not None or self.outpaint is not None

    def box(self, size: int) -> tuple[slice, slice]:
        """The rows and columns of the image in a square of this size."""
        edge = round(size * (self.outpaint or 0))
        left, top, width, height = fitted(*self.image.size, size - 2 * edge)
        return slice(top + edge, top + edge + height), slice(left + edge, left + edge + width)

    def canvas(self, size: int) -> np.ndarray:
        """uint8 (size, size, 4), straight alpha: the whole image on a transparent square."""
        canvas, box = np.full((size, size, 4), (255, 255, 255, 0), np.uint8), self.box(size)
        canvas[box] = np.asarray(resized(self.image.convert("RGBA"), box, Image.Resampling.LANCZOS))
        return canvas

    def region(self, size: int) -> np.ndarray:
        """float (size, size): 1 where it is drawn anew, 0 where it stays, between both at the mask's edges."""
        region, box = np.ones((size, size)), self.box(size)
        if self.strength == 0:
            return 0 * region
        if self.outpaint is not None:
            region[box] = 0
        if self.mask is not None:
            region = 0 * region
            box = box if same_shape(self.mask.size, self.image.size) else (slice(0, size), slice(0, size))
            region[box] = (
                np.asarray(resized(self.mask, box, Image.Resampling.BOX)) / 255.0
            )  # what else there is rings
        return region

    def background(self, size: int) -> np.ndarray:
        """Colours on white, and opacity, uint8 (size, size, 4): what stays of the image's own edge, spread."""
        canvas, box = laid_on_white(self.canvas(size)), self.box(size)
        hole = np.ones((size, size), bool)
        hole[box] = False
        hole[box][1:-1, 1:-1] = True  # all but its outermost pixels
        hole |= self.region(size) > 0
        if hole.all():
            return np.full((size, size, 4), (255, 255, 255, 0), np.uint8)
        opacity = surroundings(canvas[..., 3:].repeat(3, -1), hole)[..., :1]
        return np.concatenate([surroundings(canvas[..., :3], hole), opacity], axis=-1)

    def composite(self, decoded: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3 or 4) as they are decoded -> the same with what stays of the image. What is drawn anew
        lies on the image's own background, where its opacity is known, and comes in softly within the mask."""
        size, channels = decoded.shape[1], decoded.shape[-1]
        if not self.partial:
            return decoded
        mask, source = self.region(size), laid_on_white(self.canvas(size))[..., :channels]
        background, drawn = self.background(size)[..., :channels], decoded.astype(float)
        if channels == 4:
            drawn += (1 - drawn[..., 3:] / 255) * (background - np.array([255.0, 255, 255, 0]))
        below = source if self.outpaint is None else background
        share = (mask * feather(mask > 0, size * FEATHER))[..., None]
        mixed = share * drawn + (1 - share) * below
        return np.where(mask[..., None] == 0, source, mixed).clip(0, 255).round().astype(np.uint8)

    def keep(self, drawn: Image.Image) -> Image.Image:
        """The final picture, RGB on white or RGBA: where the mask is black every pixel is the image's own."""
        source, pixels = self.canvas(drawn.width), np.array(drawn)
        source = source if drawn.mode == "RGBA" else on_white(source[None])[0]
        stays = self.region(drawn.width) == 0
        pixels[stays] = source[stays]
        return Image.fromarray(pixels)


def resized(picture: Image.Image, box: tuple[slice, slice], filter: Image.Resampling) -> Image.Image:
    """The picture at the size of these rows and columns."""
    rows, columns = box
    return picture.resize((columns.stop - columns.start, rows.stop - rows.start), filter)


def feather(region: np.ndarray, radius: float) -> np.ndarray:
    """bool (H, W) -> float: 0 at the edge of the region, 1 from about 2 radii within it."""
    blurred = Image.fromarray(region.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return (np.asarray(blurred) / 127.5 - 1).clip(0, 1)


def laid_on_white(picture: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 4), straight alpha -> colours on white, and the opacity."""
    return np.concatenate([on_white(picture[None])[0], picture[..., 3:]], axis=-1)


def surroundings(pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """What is known of a picture, uint8 (H, W, 3), spread into its hole: averages of ever larger places, laid under
    each other, of which one is opaque if a quarter of it is known (pull-push, Gortler et al. 1996). A picture that is
    all hole is grey."""
    levels: list[Image.Image] = [Image.fromarray(np.dstack([pixels, np.where(hole, 0, 255).astype(np.uint8)]))]
    while levels[-1].width > 1:
        half = max(1, levels[-1].width // 2)
        level = levels[-1].resize((half, half), Image.Resampling.BOX)
        level.putalpha(level.getchannel("A").point(lambda alpha: 4 * alpha))
        levels.append(level)
    found = Image.new("RGBA", (1, 1), (127, 127, 127))
    for level in reversed(levels):
        found = Image.alpha_composite(found.resize(level.size, Image.Resampling.BILINEAR), level)
    return np.asarray(found.convert("RGB"))


def source_facts(source: Source | None) -> dict[str, str] | None:
    """What a recipe says of a picture that went in: the name of its file, and the SHA-256 of its content. Of one that
    a program gave, which has no name, the SHA-256 of its pixels."""
    if source is None:
        return None
    if isinstance(source, Image.Image):
        return {"sha256": hashlib.sha256(source.tobytes()).hexdigest()}
    return {"sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest(), "name": Path(source).name}


def image_grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N, H, W, 3) -> one picture with `columns` in a row, 2 pixels of white between; a short row is filled."""
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1] + 2, pictures.shape[2] + 2
    grid = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        grid[y : y + height - 2, x : x + width - 2] = picture
    return grid
