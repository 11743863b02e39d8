"""What can be asked of a checkpoint, and what is taken if nothing is said. Loads no torch."""

from __future__ import annotations

import math

from inkwash.errors import UserError
from inkwash.systems.base import check_text, is_blank
from inkwash.systems.checkpoints.request import MAX_SIDE
from inkwash.systems.pictures.data import MAX_ASPECT, Source, load_image
from inkwash.systems.pictures.request import check_guidance, check_prompt

SAMPLER, STEPS, GUIDANCE, IMAGE_GUIDANCE = "dpmpp_2m", 25, 7.0, 1.5
REFINER_START, HIRES_STRENGTH = 0.8, 0.7
MAX_STEPS, MAX_IMAGES = 1000, 1000
MAX_WEIGHT = 10.0  # of an adapter
PIXELS = 8  # a side of one latent place


def check_options(prompt: str, negative: str, guidance: float, steps: int, image: Source | None) -> None:
    """UserError for a value out of its range, and for words that cannot be drawn."""
    check_guidance(guidance, prompt, negative)
    for text in (prompt, negative):
        check_text("a prompt", text)
    if image is None:
        check_prompt(prompt)
    if not 0 <= guidance <= 30:
        raise UserError(f"guidance = {guidance}: choose a number from 0 to 30 ({GUIDANCE} is the default)")
    if not is_blank(negative) and guidance == 1:
        raise UserError("negative: it acts through guidance, which is 1 here: choose more, or leave it out")
    if not 1 <= steps <= MAX_STEPS:
        raise UserError(f"steps = {steps}: choose a whole number from 1 to {MAX_STEPS} ({STEPS} is the default)")


def check_rescale(rescale: float, guidance: float, edits: bool) -> None:
    """UserError for one that is no share, and where there is nothing that it would take back."""
    if not 0 <= rescale <= 1:
        raise UserError(f"rescale = {rescale}: choose a number from 0 to 1")
    if rescale and edits:
        raise UserError("rescale means nothing with a checkpoint that edits by words: leave it out")
    if rescale and guidance == 1:
        raise UserError("rescale: it takes back what guidance adds, which is 1 here: choose more, or leave it out")


def check_count(n: int | None) -> None:
    if n is not None and not 1 <= n <= MAX_IMAGES:
        raise UserError(f"n = {n}: choose a number of pictures from 1 to {MAX_IMAGES}")


def check_image(
    image: Source | None, strength: float | None, mask: Source | None, image_guidance: float | None, edits: bool
) -> None:
    """UserError for what would change nothing: without an image, or with a checkpoint that edits the whole of one."""
    given = {"strength": strength, "mask": mask, "image_guidance": image_guidance}
    for name in (name for name, value in given.items() if value is not None):
        if image is None:
            raise UserError(f"{name} means nothing without an image: leave it out")
        if edits != (name == "image_guidance"):
            which = "that edits by words" if edits else "that does not edit by words"
            raise UserError(f"{name} means nothing with a checkpoint {which}: leave it out")


def check_size(width: int, height: int) -> None:
    """UserError for sides that are no multiples of 8 pixels, or too long."""
    if width % PIXELS or height % PIXELS or not PIXELS <= min(width, height) <= max(width, height) <= MAX_SIDE:
        raise UserError(f"size = {width} x {height}: choose multiples of {PIXELS} pixels, at most {MAX_SIDE}")


def larger(width: int, height: int, hires: float) -> tuple[int, int]:
    """Of the second pass, in multiples of 8 pixels. UserError for one that is too large, or no larger."""
    sides = round(width * hires / PIXELS) * PIXELS, round(height * hires / PIXELS) * PIXELS
    if max(sides) > MAX_SIDE or sides == (width, height):
        raise UserError(
            f"hires = {hires}: {width} x {height} pixels would be {sides[0]} x {sides[1]}, of at most {MAX_SIDE}"
        )
    check_size(*sides)
    return sides


def shape_of(
    size: int | None, width: int | None, height: int | None, image: Source | None, own: tuple[int, int]
) -> tuple[int, int]:
    """Width and height of what is drawn; the checkpoint's own, or as large a picture of the image's shape, if nothing
    is said. UserError for a size beside them, and for one without the other."""
    if size is not None and (width, height) != (None, None):
        raise UserError("size is the side of a square: leave it out beside width and height")
    if size is None and width is None and height is None:
        return own if image is None else shape_like(image, own[0] * own[1])
    width, height = (size, size) if size is not None else (width, height)
    if width is None or height is None:
        raise UserError("width and height: give both, or a size")
    check_size(width, height)
    return width, height


def shape_like(image: Source, area: int) -> tuple[int, int]:
    """Width and height in multiples of 8 pixels, of about this area, in a picture's shape. UserError for a line."""
    width, height = load_image(image).size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"image: {width} x {height} pixels is no more than a line: cut it to at most {MAX_ASPECT} times as long "
            "as wide"
        )
    scale = math.sqrt(area / (width * height)) / PIXELS
    return max(1, round(width * scale)) * PIXELS, max(1, round(height * scale)) * PIXELS
