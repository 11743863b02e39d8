"""What comes from outside: files and zips within limits; pictures written anew, so that only pixels come in."""

from __future__ import annotations

import base64
import binascii
import re
import stat
import string
import zipfile
from collections.abc import Iterator
from io import BytesIO
from threading import BoundedSemaphore
from typing import IO

from PIL import Image

from inkwash.codecs.png import is_svg
from inkwash.errors import UserError
from inkwash.studio.errors import APIError
from inkwash.systems.pictures.data import load_image
from inkwash.systems.pictures.distance_fields import render_svg

MAX_BYTES = 20_000_000  # of a picture
MAX_FILE = 200_000_000  # bytes of a file
MAX_UNPACKED = 500_000_000  # bytes of all files of a request
MAX_UNPACKED_FILES = 10_000  # of all zips of a request
MAX_PIXELS = 40_000_000
SIDE = 2048  # what a model is shown is no larger, so no more is kept
DECODING = BoundedSemaphore(2)  # pictures at once: each may take 330 MB
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def clean(data: bytes, param: str = "image", svg: bool = False) -> bytes:
    """The first frame of the picture as a PNG without any metadata, turned as EXIF says, at most `SIDE` pixels wide
    and high, 16 bits as 8; and, where it may be an `svg`, what one draws. What it is, its content says. Raises
    APIError for what is no picture, too large, or broken."""
    with DECODING:
        is_drawing = svg and is_svg(data)
        picture = None if is_drawing else open_image(data, param)
        try:
            if picture is None:
                picture = render_svg(data, "the picture")
            else:
                picture.draft(None, (SIDE, SIDE))  # a JPEG may be read smaller at once
                picture = load_image(picture)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        except UserError as error:  # an SVG that is too much, HDR
            raise APIError(400, f"{param}: {error}", "invalid_image", param) from None
        except Exception:  # a broken file makes its reader stumble in any way
            raise APIError(400, f"{param}: the picture is broken", "invalid_image", param) from None
        small = BytesIO()
        # pixels, nothing else
        Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(small, format="PNG")
        return small.getvalue()


def check_size(size: int, param: str) -> None:
    """APIError for a picture of too many bytes."""
    if size > MAX_BYTES:
        raise APIError(413, f"{param}: more than {MAX_BYTES // 10**6} MB", "image_too_large", param)


def open_image(data: bytes, param: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The picture, its header read and found within limits, its pixels not yet."""
    check_size(len(data), param)
    try:
        picture = Image.open(BytesIO(data), formats=formats)
    except Exception:  # as above
        message = f"{param}: not a picture that can be read; send a {', '.join(FORMATS[:3])}, BMP or GIF"
        raise APIError(400, message, "invalid_image", param) from None
    if picture.width * picture.height > MAX_PIXELS:
        message = f"{param}: {picture.width} x {picture.height} pixels are more than {MAX_PIXELS // 10**6} million"
        raise APIError(413, message, "image_too_large", param)
    return picture


def from_base64(text: str, param: str) -> bytes:
    """The bytes of base64, bare or as a data: URL. A URL that leads elsewhere is refused: nothing is fetched."""
    if re.match(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:", text) and not text.lstrip().lower().startswith("data:"):
        message = f"{param}: URLs are not fetched; send the picture itself, as base64 or a data: URL"
        raise APIError(400, message, "url_not_fetched", param)
    if text.lstrip().lower().startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise APIError(400, f"{param}: a data: URL in base64 is needed", "invalid_image", param)
    check_size(len(text) * 3 // 4 - 3, param)
    try:
        return base64.b64decode(text.encode().translate(None, string.whitespace.encode()), validate=True)
    except (binascii.Error, ValueError):
        raise APIError(400, f"{param}: not base64", "invalid_image", param) from None


class Budget:
    """What a request may still bring. share: bytes that are left of the user's. APIError for more."""

    def __init__(self, share: float) -> None:
        self.share, self.bytes, self.files = share, MAX_UNPACKED, MAX_UNPACKED_FILES

    def unpack(self, files: int, name: str) -> None:
        self.files -= files
        if self.files < 0:
            message = f"{name}: too many files; {MAX_UNPACKED_FILES} of all zips at most"
            raise APIError(413, message, "too_many_files", "files")

    def read(self, size: int, name: str) -> None:
        self.share, self.bytes = self.share - size, self.bytes - size
        if self.share < 0:
            message = "it is more than what is left of your share of the disk: delete results or models"
            raise APIError(403, f"{name}: {message}, or cancel a training", "disk_quota", "files")
        if self.bytes < 0:
            message = f"{name}: more than {MAX_UNPACKED // 10**6} MB together"
            raise APIError(413, message, "file_too_large", "files")


class BoundedReader:
    """A file of at most `MAX_FILE` bytes, read within a budget. APIError for more."""

    def __init__(self, file: IO[bytes], name: str, budget: Budget) -> None:
        self.file, self.name, self.budget, self.remaining = file, name, budget, MAX_FILE

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.remaining -= len(data)
        if self.remaining < 0:
            raise APIError(413, f"{self.name}: more than {MAX_FILE // 10**6} MB", "file_too_large", "files")
        self.budget.read(len(data), self.name)
        return data


def unzip(file: IO[bytes], name: str, budget: Budget) -> Iterator[tuple[str, BoundedReader]]:
    """The files of a zip, as names and contents. APIError for what is no zip, or more than the budget has."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = [entry for entry in archive.infolist() if not entry.is_dir()]
            budget.unpack(len(found), name)
            for entry in found:
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
                    raise invalid_zip(name, "only plain files that are not encrypted are unpacked")
                with archive.open(entry) as inner:
                    yield entry.filename, BoundedReader(inner, name, budget)
    except APIError:
        raise
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno is not None:  # of our own disk
            raise
        raise invalid_zip(name, "it is broken, or no zip") from None


def invalid_zip(name: str, why: str) -> APIError:
    return APIError(400, f"{name[:60]}: {why}", "invalid_zip", "files")
