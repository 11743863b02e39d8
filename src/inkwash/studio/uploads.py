"""What comes from outside: files and zips within limits; pictures written anew, so that only pixels come in."""

from __future__ import annotations

import base64
import binascii
import re
import stat
import zipfile
from collections.abc import Iterator
from io import BytesIO
from threading import BoundedSemaphore
from typing import IO

from PIL import Image

from inkwash.studio.errors import APIError
from inkwash.systems.pictures.data import load_image

MAX_BYTES = 20_000_000  # of a picture
MAX_FILE = 200_000_000  # bytes of a file
MAX_UNPACKED = 500_000_000  # bytes of all files of a zip
MAX_PIXELS = 40_000_000
SIDE = 1024  # what a model is shown is smaller, so no more is kept
DECODING = BoundedSemaphore(2)  # pictures at once: each may take 330 MB
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def clean(data: bytes, param: str = "image") -> bytes:
    """The first frame of the picture as a PNG without any metadata, turned as EXIF says, at most `SIDE` pixels wide
    and high, 16 bits as 8. What it is, its content says. Raises APIError for what is no picture, too large, or
    broken."""
    with DECODING:
        picture = open_image(data, param)
        try:
            picture.draft(None, (SIDE, SIDE))  # a JPEG may be read smaller at once
            picture = load_image(picture)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
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


def open_image(data: bytes, param: str) -> Image.Image:
    """The picture, its header read and found within limits, its pixels not yet."""
    check_size(len(data), param)
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
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
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise APIError(400, f"{param}: not base64", "invalid_image", param) from None


class BoundedReader:
    """A file that is read to at most so many bytes. APIError for more."""

    def __init__(self, file: IO[bytes], max_bytes: int, what: str) -> None:
        self.file, self.remaining, self.what, self.max_bytes = file, max_bytes, what, max_bytes

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.remaining -= len(data)
        if self.remaining < 0:
            raise APIError(413, f"{self.what}: more than {self.max_bytes // 10**6} MB", "file_too_large", "files")
        return data


def unzip(file: IO[bytes], name: str, max_files: int) -> Iterator[tuple[str, BoundedReader]]:
    """The files of a zip, at most so many, as names and contents. APIError for what is no zip, or more than fits."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(found) > max_files:
                raise APIError(413, f"{name}: {len(found)} files; {max_files} at most", "too_many_files", "files")
            remaining = MAX_UNPACKED
            for entry in found:
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
                    raise invalid_zip(name, "only plain files that are not encrypted are unpacked")
                with archive.open(entry) as inner:
                    bounded = BoundedReader(inner, min(remaining, MAX_FILE), name)
                    yield entry.filename, bounded
                    remaining -= bounded.max_bytes - bounded.remaining
    except APIError:
        raise
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno is not None:  # of our own disk
            raise
        raise invalid_zip(name, "it is broken, or no zip") from None


def invalid_zip(name: str, why: str) -> APIError:
    return APIError(400, f"{name[:60]}: {why}", "invalid_zip", "files")
