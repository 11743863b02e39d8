"""A model of which nothing is here but its name: an engine elsewhere draws by it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from PIL import Image, ImageOps

from inkwash.codecs.png import GeneratedImage
from inkwash.errors import UserError
from inkwash.systems.base import reading
from inkwash.systems.engines.addresses import Address, find, parse
from inkwash.systems.engines.client import Beat, EngineError, Files, ask
from inkwash.systems.engines.limits import SIDE
from inkwash.systems.engines.request import MAX_SIDE, nearest
from inkwash.systems.pictures.data import Source, load_image, load_mask, same_shape, source_facts
from inkwash.systems.pictures.request import check_prompt
from inkwash.version import __version__
from inkwash.weights.files import atomic
from inkwash.weights.shipped import ENGINES, load_json

FORMATS = ("PNG", "JPEG", "WEBP")


class Engine:
    """A model at an engine. `generate` asks it for one picture."""

    hash: str | None = None  # of weights that nobody here has seen

    def __init__(self, name: str, address: Address, key: str = "") -> None:
        self.name, self.address, self.key = name, address, key

    @classmethod
    def load(cls, folder: Path, device: str, precision: str, runtime: str | None, threads: int | None) -> Self:
        with reading(folder):
            facts = load_json(folder / "system.json")
            return cls(facts["engine"], *find(facts["engine"], facts["model"]))

    def save(self, folder: Path) -> None:
        """Writes what `load` reads: names. The address and the key stay where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / "system.json") as file:
            facts = {"system": ENGINES, "engine": self.name, "model": self.address.model}
            file.write_text(json.dumps(facts), encoding="utf-8")

    def generate(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        image: Source | None = None,
        mask: Source | None = None,
        beat: Beat = lambda text: None,
    ) -> GeneratedImage:
        """A picture from words; with an image that picture edited, with a mask only where it is white."""
        check_prompt(prompt)
        seed = secrets.randbelow(2**32) if seed is None else seed
        start = None if image is None else load_image(image)
        size = shape = (width or SIDE, height or SIDE)
        if start is not None:
            shape = start.size
            scale = min(1.0, MAX_SIDE / max(start.size))
            size = size if width else (nearest(scale * start.width), nearest(scale * start.height))
            start = start.resize(size, Image.Resampling.LANCZOS)
        hole = None if mask is None else load_mask(mask)
        if hole is not None and start is not None:
            check_shape(hole.size, shape)
            hole = hole.resize(size, Image.Resampling.BOX)
        fields = {
            "model": self.address.model,
            "prompt": prompt,
            "n": 1,
            "size": f"{size[0]}x{size[1]}",
            "seed": seed,
            "response_format": "b64_json",
            "output_format": "png",  # SGLang's is JPEG if it is not said
        }
        path = "images/generations" if start is None else "images/edits"
        try:
            picture = picture_in(ask(self.address, self.key, path, fields, files_of(start, hole), beat), size)
        except EngineError as error:
            raise UserError(f"the engine {self.name} {error}") from None
        if start is not None and hole is not None:  # whatever the engine makes of the mask
            picture = Image.composite(picture.convert("RGBA"), start.convert("RGBA"), hole)
            picture = picture if start.mode == "RGBA" else picture.convert("RGB")
        return GeneratedImage(
            picture, self.recipe(fields, size) | {"image": source_facts(image), "mask": source_facts(mask)}
        )

    def recipe(self, fields: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        asked = {"prompt": fields["prompt"], "n": 1, "seed": fields["seed"], "width": size[0], "height": size[1]}
        drawn = {"model": self.name, "engine": self.address.model, "hash": self.hash, "version": __version__}
        # `again` reads how a model here would compute
        how = {"device": "cpu", "precision": "float32", "runtime": "engine", "threads": 1}
        return {"system": ENGINES, "verb": "generate", **asked, **drawn, **how}


def save_all(texts: Iterable[str], folder: Path) -> list[Path]:
    """The folders of the engines of NAME=URL#MODEL, below this one."""
    places = []
    for name, address in parse(texts).items():
        places.append(folder / name)
        Engine(name, address).save(folder / name)
    return places


def check_shape(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    """UserError for a mask that would be distorted."""
    if not same_shape(mask, picture):
        sides = [f"{width} x {height}" for width, height in (mask, picture)]
        raise UserError(f"the mask has {sides[0]} pixels, the picture {sides[1]}: give one of the same shape")


def files_of(start: Image.Image | None, hole: Image.Image | None) -> Files:
    """The files of an edit. OpenAI's mask is a picture that is transparent where to draw."""
    files = {}
    if start is not None:
        files["image"] = ("image.png", png_of(start), "image/png")
    if start is not None and hole is not None:
        kept = start.convert("RGB")
        kept.putalpha(ImageOps.invert(hole))
        files["mask"] = ("mask.png", png_of(kept), "image/png")
    return files


def png_of(picture: Image.Image) -> bytes:
    file = BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(file, format="PNG")  # pixels, nothing else
    return file.getvalue()


def picture_in(answer: bytes, size: tuple[int, int]) -> Image.Image:
    """The pixels of an answer, and nothing else of it. EngineError for what is no picture of this size."""
    try:
        first = json.loads(answer)["data"][0]
        text = first["b64_json"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise EngineError("answered with no picture in base64 (data[0].b64_json)") from None
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise EngineError("answered with broken base64") from None
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
    except Exception:  # what is no picture makes its reader stumble in any way
        raise EngineError(f"answered with no {', '.join(FORMATS[:2])} or {FORMATS[2]}") from None
    if picture.size != size:  # before any pixel is read
        drawn, asked = (f"{width} x {height}" for width, height in (picture.size, size))
        raise EngineError(f"drew {drawn} pixels where {asked} were asked for: choose another width and height")
    try:
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except Exception:
        raise EngineError("answered with a broken picture") from None
