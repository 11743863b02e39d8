"""Picture files that know how they were made: the recipe and the label for generated media, in a PNG's metadata."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from inkwash.errors import UserError
from inkwash.weights.files import atomic

KEY = "inkwash"
HEADER = 33  # bytes of a PNG's signature and its first chunk
# IPTC's term for media made by a trained model (IPTC photo metadata standard 2023.2), and as an XMP property
LABEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{LABEL}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


class GeneratedImage(Image.Image):
    """A picture whose `save` writes what made it: `info["inkwash"]`, the recipe, and the label for generated media.

    What is made from it (resized, converted) is a plain picture of Pillow's, of which the recipe would not be true.
    """

    def __init__(self, picture: Image.Image, recipe: Any = None) -> None:
        super().__init__()
        vars(self).update(vars(picture.copy()))
        self.info.pop(KEY, None)
        if recipe is not None:
            self.info[KEY] = recipe

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As Pillow's. A PNG has the recipe and the label; JPEG, WebP and AVIF have the label alone."""
        super().save(fp, format, **{"pnginfo": png_info(self.info.get(KEY)), "xmp": XMP.encode(), **params})


def png_info(recipe: Any = None) -> PngImagePlugin.PngInfo:
    """The label and, unless None, the recipe: anything that JSON can hold."""
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_itxt(KEY, json.dumps(recipe, ensure_ascii=False))
    info.add_itxt("XML:com.adobe.xmp", XMP)
    return info


def encode_png(picture: Image.Image, recipe: Any = None) -> bytes:
    """The picture as a PNG with the label and, unless None, its recipe."""
    file = BytesIO()
    picture.save(file, format="PNG", pnginfo=png_info(recipe))
    return file.getvalue()


def add_text(png: bytes, key: str, text: str) -> bytes:
    """The PNG with one more text, before its pixels."""
    texts, file = PngImagePlugin.PngInfo(), BytesIO()
    texts.add_text(key, text)
    for kind, content, _ in texts.chunks:
        PngImagePlugin.putchunk(file, kind, content)
    return png[:HEADER] + file.getvalue() + png[HEADER:]


def write_png(picture: Image.Image, path: Path, recipe: Any) -> None:
    """Writes the picture with its recipe and the label; whole, or not at all."""
    try:
        with atomic(path) as file:
            file.write_bytes(encode_png(picture, recipe))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place with --out") from None


def write_gif(frames: list[Image.Image], path: Path, recipe: Any) -> None:
    """Writes an endless animation, 0.15 s a frame, with the label; the recipe is its comment, as JSON. A pixel is
    opaque or clear."""
    comment = json.dumps({KEY: recipe, "digitalSourceType": LABEL}, ensure_ascii=False).encode()
    whole = BytesIO()
    first, *others = (opaque_or_clear(frame) for frame in frames)
    shown = {"duration": 150, "loop": 0, "disposal": 2 if first.mode == "RGBA" else 0}  # 2: each is cleared away
    first.save(whole, "GIF", save_all=True, append_images=others, comment=comment, **shown)
    try:
        with atomic(path) as file:
            file.write_bytes(add_xmp(whole.getvalue()))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place with --out") from None


def opaque_or_clear(picture: Image.Image) -> Image.Image:
    """A copy in which each pixel is opaque or, without a colour, fully transparent."""
    if picture.mode != "RGBA":
        return picture.copy()
    clear = Image.new("RGBA", picture.size)
    clear.paste(picture.convert("RGB"), mask=picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127)))
    return clear


def add_xmp(gif: bytes) -> bytes:
    """The GIF with the label as an application extension before its end: the packet, and the trailer by which a
    reader that knows nothing of XMP finds its end (XMP specification, part 3)."""
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return gif[:-1] + b"\x21\xff\x0bXMP DataXMP" + XMP.encode() + trailer + gif[-1:]


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a file written by `write_png` or `write_gif`. UserError for any other, or a grid of several."""
    try:
        with Image.open(path) as picture:
            info = picture.info
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, Image.DecompressionBombError):
        raise UserError(f"{path}: not a picture") from None
    try:
        recipe = json.loads(info[KEY]) if KEY in info else json.loads(info["comment"])[KEY]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: no recipe in it; only a PNG or GIF that inkwash wrote has one") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: a grid of several pictures; give one of the pictures themselves")
    return recipe
