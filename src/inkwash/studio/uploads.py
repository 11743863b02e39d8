"""Pictures that come from outside: read with limits, and written anew, so that only pixels come in."""

from __future__ import annotations

import base64
import binascii
import re
from io import BytesIO

from anyio import CapacityLimiter
from PIL import Image, ImageOps

from inkwash.studio.store import Refused

MOST_BYTES = 20_000_000
MOST_PIXELS = 40_000_000
SIDE = 1024  # what a model is shown is smaller, so no more is kept
DECODING = CapacityLimiter(2)  # pictures at once: each may take 330 MB
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def clean(data: bytes, param: str = "image") -> bytes:
    """The first frame of the picture as a PNG without any metadata, turned as EXIF says, at most `SIDE` pixels wide
    and high. Raises Refused for what is no picture, too large, or broken. What it is, its content says."""
    picture = decoded(data, param)
    try:
        picture.draft(None, (SIDE, SIDE))  # a JPEG may be read smaller at once
        picture = ImageOps.exif_transpose(picture)
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    except Exception:  # a broken file makes its reader stumble in any way
        raise Refused(400, f"{param}: the picture is broken", "invalid_image", param) from None
    small = BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(small, format="PNG")  # pixels, nothing else
    return small.getvalue()


def decoded(data: bytes, param: str) -> Image.Image:
    """The picture, its header read and found within limits, its pixels not yet."""
    if len(data) > MOST_BYTES:
        raise Refused(413, f"{param}: more than {MOST_BYTES // 10**6} MB", "image_too_large", param)
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
    except Exception:  # as above
        message = f"{param}: not a picture that can be read; send a {', '.join(FORMATS[:3])}, BMP or GIF"
        raise Refused(400, message, "invalid_image", param) from None
    if picture.width * picture.height > MOST_PIXELS:
        message = f"{param}: {picture.width} x {picture.height} pixels are more than {MOST_PIXELS // 10**6} million"
        raise Refused(413, message, "image_too_large", param)
    return picture


def from_base64(text: str, param: str) -> bytes:
    """The bytes of base64, bare or as a data: URL. A URL that leads elsewhere is refused: nothing is fetched."""
    if re.match(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:", text) and not text.lstrip().lower().startswith("data:"):
        message = f"{param}: URLs are not fetched; send the picture itself, as base64 or a data: URL"
        raise Refused(400, message, "url_not_fetched", param)
    if text.lstrip().lower().startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Refused(400, f"{param}: a data: URL in base64 is needed", "invalid_image", param)
    if len(text) > MOST_BYTES * 4 // 3 + 4:
        raise Refused(413, f"{param}: more than {MOST_BYTES // 10**6} MB", "image_too_large", param)
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"{param}: not base64", "invalid_image", param) from None
