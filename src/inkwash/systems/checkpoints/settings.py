"""The settings that a picture of another tool holds, as our options. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from PIL import Image

from inkwash.codecs.png import KEY, NAMESPACE, read_recipe
from inkwash.errors import UserError
from inkwash.systems.checkpoints.infotext import Settings, read_infotext
from inkwash.systems.checkpoints.workflows import read_workflow
from inkwash.weights.shipped import CHECKPOINTS

OPTIONS = (
    "model", "prompt", "negative", "seed", "sampler", "steps", "grid", "guidance", "width", "height", "clip_skip",
    "strength", "weighting", "seed_like", "rescale", "hires", "hires_strength", "hires_steps", "hires_upscaler",
    "tiling",
)  # fmt: skip
AGAIN = {  # of our recipes
    "adapters": "an adapter", "embeddings": "an embedding", "refiner": "a refiner", "image": "an image",
    "mask": "a mask", "image_guidance": "image_guidance",
}  # fmt: skip
EXIF, COMMENT = 0x8769, 0x9286  # where JPEG and WebP have the infotext: UserComment
CODINGS = {b"UNICODE\0": ("utf-16-be", "utf-16-le"), b"ASCII\0\0\0": ("ascii",), b"\0" * 8: ("utf-8",)}


def settings_of(path: str | Path | IO[bytes]) -> Settings:
    """The options with which a picture was drawn, and notes of what could not be taken: by inkwash (not out of an
    open file), by A1111 and its kin (`parameters` of a PNG, the comment of a JPEG or WebP), or by ComfyUI (`prompt`).
    UserError for a file that is no picture, or holds none of them."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            info = dict(picture.info)
            info.setdefault("parameters", comment_of(picture))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a picture that can be read ({error}); name another") from None
    ours = KEY in info or NAMESPACE.encode() in info.get("xmp", b"")  # of a PNG, of a WebP
    if ours and isinstance(path, (str, Path)):
        recipe = read_recipe(path)
        notes = [
            f"it was drawn with {what}, not taken: give it again" for name, what in AGAIN.items() if recipe.get(name)
        ]
        if recipe.get("system", CHECKPOINTS) != CHECKPOINTS:
            notes.append("it was drawn by no checkpoint: only what a checkpoint has, too, is taken")
        return Settings({name: recipe[name] for name in OPTIONS if recipe.get(name) is not None}, notes)
    try:
        if isinstance(text := info["parameters"], str) and text.strip():
            return read_infotext(text)
        if isinstance(workflow := info.get("prompt"), str):
            return read_workflow(workflow)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    raise UserError(f"{path}: no settings in it; A1111 and ComfyUI write them into PNGs, until they are edited")


def comment_of(picture: Image.Image) -> Any:
    """The comment in a picture's Exif; nothing where there is none, or it is no text."""
    comment = picture.getexif().get_ifd(EXIF).get(COMMENT)
    if isinstance(comment, str) or not comment:
        return comment or ""
    for coding in CODINGS.get(bytes(comment[:8]), ()):
        try:
            text = bytes(comment[8:]).decode(coding)
        except UnicodeDecodeError:
            continue
        if "Steps: " in text:
            return text
    return ""
