"""Picture files that know how they were made: the recipe and the label for generated media, in the metadata of PNG,
WebP, ICO, SVG and GIF."""

import json
import re
import struct
from html import escape, unescape
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, PngImagePlugin

from inkwash.errors import UserError
from inkwash.weights.files import atomic

KEY = "inkwash"
NAMESPACE = "urn:inkwash:recipe"  # of the recipe in XMP
HEADER = 33  # bytes of a PNG's signature and its first chunk
# IPTC's term for media made by a trained model (IPTC photo metadata standard 2023.2), and as an XMP property
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype"
LABEL = f"{TERMS}/trainedAlgorithmicMedia"
COMPOSITE = f"{TERMS}/compositeWithTrainedAlgorithmicMedia"  # of a photograph and a model
MAX_JSON = 1_000_000  # of a recipe, or those of a grid; more would be parsed for long
METADATA = "(?s)<metadata>(.*?)</metadata>"  # of an SVG
Box = tuple[int, int, int, int]  # left, top, width and height in pixels


def xmp_packet(label: str = LABEL, region: Box | None = None) -> str:
    """XMP with the label and, if only a part of the picture was drawn, the box around it as an IPTC image region."""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{label}"{"/>" if region is None else f">{image_region(region)}</rdf:Description>"}
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def image_region(region: Box) -> str:
    """A rectangle in pixels, by IPTC's photo metadata standard (2019.1 and later)."""
    named = zip(("rbX", "rbY", "rbW", "rbH"), region, strict=True)
    fields = {"rbShape": "rectangle", "rbUnit": "pixel"} | {name: str(value) for name, value in named}
    boundary = "".join(f"<Iptc4xmpExt:{name}>{value}</Iptc4xmpExt:{name}>" for name, value in fields.items())
    return (
        '\n<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li rdf:parseType="Resource">'
        f'<Iptc4xmpExt:RegionBoundary rdf:parseType="Resource">{boundary}</Iptc4xmpExt:RegionBoundary>'
        '<Iptc4xmpExt:Name><rdf:Alt><rdf:li xml:lang="x-default">drawn by a model</rdf:li></rdf:Alt>'
        "</Iptc4xmpExt:Name></rdf:li></rdf:Bag></Iptc4xmpExt:ImageRegion>"
    )


XMP = xmp_packet()


class Drawing(Protocol):
    """What a picture was drawn from, that has no pixels."""

    def svg(self, recipe: Any = None) -> str: ...

    def picture(self, size: int) -> Image.Image: ...


class GeneratedImage(Image.Image):
    """A picture whose `save` writes what made it: `info["inkwash"]`, the recipe, and the label for generated media.

    What is made from it (resized, converted) is a plain picture of Pillow's, of which the recipe would not be true.

    drawing: of an icon, what it was drawn from at this size.
    parameters: the recipe as other tools read it, written into a PNG beside ours; none if it is empty.
    """

    drawing: Drawing | None = None
    parameters: str = ""

    def __init__(self, picture: Image.Image, recipe: Any = None, drawing: Drawing | None = None) -> None:
        super().__init__()
        vars(self).update(vars(picture.copy()))
        self.info.pop(KEY, None)
        if recipe is not None:
            self.info[KEY] = recipe
        self.drawing = drawing

    @property
    def svg(self) -> str:
        """The icon as an SVG with its recipe. UserError for a picture of pixels."""
        if self.drawing is None:
            raise UserError("this is a picture of pixels, which is no SVG: only a model of icons draws those, whole")
        return self.drawing.svg(self.info.get(KEY) and self.info[KEY] | {"format": "svg", "size": None})

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As Pillow's, and icons as SVG. A PNG and an SVG have the recipe and the label; JPEG, WebP and AVIF have the
        label alone."""
        named = isinstance(fp, str | Path)
        if (format or (Path(fp).suffix[1:] if named else "")).lower() == "svg":
            content = self.svg.encode()
            if named:
                write_bytes(Path(fp), content)
            else:
                fp.write(content)
            return
        super().save(
            fp, format, **{"pnginfo": png_info(self.info.get(KEY), self.parameters), "xmp": XMP.encode(), **params}
        )


def png_info(recipe: Any = None, parameters: str = "", xmp: str = XMP) -> PngImagePlugin.PngInfo:
    """The label, in `xmp`, and, unless None, the recipe: anything that JSON can hold; with `parameters`, what says
    the same to other tools."""
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_itxt(KEY, json.dumps(recipe, ensure_ascii=False))
        if parameters:
            info.add_text("parameters", parameters)
    info.add_itxt("XML:com.adobe.xmp", xmp)
    return info


def encode_png(picture: Image.Image, recipe: Any = None, xmp: str = XMP) -> bytes:
    """The picture as a PNG with the label and, unless None, its recipe."""
    file = BytesIO()
    parameters = picture.parameters if isinstance(picture, GeneratedImage) else ""
    picture.save(file, format="PNG", pnginfo=png_info(recipe, parameters, xmp))
    return file.getvalue()


def add_text(png: bytes, key: str, text: str) -> bytes:
    """The PNG with one more text, before its pixels."""
    texts, file = PngImagePlugin.PngInfo(), BytesIO()
    texts.add_text(key, text)
    for kind, content, _ in texts.chunks:
        PngImagePlugin.putchunk(file, kind, content)
    return png[:HEADER] + file.getvalue() + png[HEADER:]


def encode_webp(picture: Image.Image, recipe: Any, xmp: str = XMP) -> bytes:
    """The picture as a lossless WebP; the recipe, unless None, is a property of its XMP, as JSON."""
    file, text = BytesIO(), escape(json.dumps(recipe))
    if recipe is not None:
        own = f'\n xmlns:inkwash="{NAMESPACE}" inkwash:recipe="{text}"'
        xmp = re.sub('DigitalSourceType="[^"]*"', lambda label: label[0] + own, xmp)
    icc = picture.info.get("icc_profile", b"")
    picture.save(file, format="WEBP", lossless=True, exact=True, xmp=xmp.encode(), icc_profile=icc)
    return file.getvalue()


def encode_ico(pictures: list[Image.Image], recipe: Any) -> bytes:
    """An ICO of square pictures of up to 256 pixels a side, each a PNG with the recipe."""
    directory, content = struct.pack("<3H", 0, 1, len(pictures)), b""
    for picture in pictures:
        png, side = encode_png(picture, recipe), picture.width % 256  # 0 is 256
        at = 6 + 16 * len(pictures) + len(content)
        directory += struct.pack("<4B2H2I", side, side, 0, 0, 1, 32, len(png), at)
        content += png
    return directory + content


def decode_ico(data: bytes) -> list[Image.Image]:
    """The pictures of what `encode_ico` wrote."""
    (count,) = struct.unpack_from("<H", data, 4)
    places = [struct.unpack_from("<2I", data, 6 + 16 * i + 8) for i in range(count)]
    return [Image.open(BytesIO(data[at : at + length])) for length, at in places]


def write_png(picture: Image.Image, path: Path, recipe: Any) -> None:
    """Writes the picture with its recipe and the label; whole, or not at all."""
    write_bytes(path, encode_png(picture, recipe))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole, or not at all."""
    try:
        with atomic(path) as file:
            file.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place with --out") from None


def write_gif(frames: list[Image.Image], path: Path, recipe: Any) -> None:
    """Writes an endless animation, 0.15 s a frame, with the label; the recipe is its comment, as JSON. A pixel is
    opaque or clear."""
    comment, whole = encode_facts(recipe), BytesIO()
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


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe in a file that inkwash wrote. UserError for any other, or a grid of several."""
    try:
        recipe = embedded_recipe(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, Image.DecompressionBombError, UnicodeDecodeError, struct.error):
        raise UserError(f"{path}: not a picture") from None
    except (KeyError, TypeError, ValueError):
        kinds = "a PNG, SVG, WebP, ICO or GIF"
        raise UserError(f"{path}: no recipe in it; only {kinds} that inkwash wrote has one") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: a grid of several pictures; give one of the pictures themselves")
    return recipe


def is_svg(data: bytes) -> bool:
    """Whether the content of a file is an SVG's, whatever its name says."""
    return (
        data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
        and re.search(rb"<([\w-]+:)?svg[\s>]", data[:4096]) is not None
    )


def embedded_recipe(data: bytes) -> Any:
    """What a file's metadata have of it: a list of several. KeyError, TypeError or ValueError where there is none."""
    if is_svg(data):
        _, *texts = data.decode().split("<metadata>")
        found = [load(unescape(text.partition("</metadata>")[0]))[KEY] for text in texts or [""]]
        return found if len(found) > 1 else found[0]
    with Image.open(BytesIO(data)) as picture:
        info, kind = picture.info, picture.format
    if kind == "ICO":
        info = decode_ico(data)[-1].info
    elif kind == "WEBP":
        found = re.findall('inkwash:recipe="([^"]*)"', info.get("xmp", b"").decode(errors="replace"))
        return load(unescape(found[0] if found else ""))
    return load(info[KEY]) if KEY in info else load(info["comment"])[KEY]


def load(text: str | bytes) -> Any:
    """What JSON of a bounded length says. ValueError for any other."""
    if len(text) > MAX_JSON:
        raise ValueError("too long for a recipe")
    return json.loads(text)


def replace_recipe(data: bytes, recipe: Any) -> bytes:
    """A file that inkwash wrote, with another recipe or, None, with the label alone; its pixels and paths stay."""
    if is_svg(data):
        metadata = f"<metadata>{escape(json.dumps(facts(recipe)), quote=False)}</metadata>"
        return re.sub(METADATA, lambda _: metadata, data.decode()).encode()
    with Image.open(BytesIO(data)) as picture:
        if picture.format == "ICO":
            return encode_ico(decode_ico(data), recipe)
        xmp = packet_of(picture)
        if picture.format == "WEBP":
            return encode_webp(picture, recipe, xmp)
        if picture.format == "GIF":
            return data.replace(
                comment_block(picture.info.get("comment", b"")), comment_block(encode_facts(recipe)), 1
            )
        return encode_png(picture, recipe, xmp)


def packet_of(picture: Image.Image) -> str:
    """The XMP of a picture that inkwash wrote, without a recipe: its label, and its region."""
    packet = picture.info.get("xmp", b"").decode(errors="replace")
    return re.sub('\\s*xmlns:inkwash="[^"]*" inkwash:recipe="[^"]*"', "", packet) or XMP


def facts(recipe: Any) -> dict[str, Any]:
    """What an SVG and a GIF say of themselves, as JSON: the recipe, unless None, and the label."""
    return ({} if recipe is None else {KEY: recipe}) | {"digitalSourceType": LABEL}


def encode_facts(recipe: Any) -> bytes:
    return json.dumps(facts(recipe), ensure_ascii=False).encode()


def comment_block(comment: bytes) -> bytes:
    """A comment as it lies in a GIF: an extension of blocks, each after its length."""
    blocks = [comment[at : at + 255] for at in range(0, len(comment), 255)]
    return b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
