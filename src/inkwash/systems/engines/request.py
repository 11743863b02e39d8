"""What can be asked of engines: what OpenAI's images protocol has, and a seed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self

from annotated_types import Ge, Le, MaxLen

from inkwash.errors import UserError
from inkwash.systems.base import File, Help, Limit, Media, Request, idle
from inkwash.systems.pictures.request import check_prompt

MULTIPLE = 16  # of which engines' models draw sides
MAX_SIDE, MAX_SEED = 2048, 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures from words by an engine elsewhere: what you write, and pictures that you give, are sent to it."""

    prompt: Annotated[str, MaxLen(20_000), Help("What the picture shows.", argument=True)] = ""
    model: Annotated[str, Help("An engine's name in a studio, or the folder in which the studio keeps it.")]
    n: Annotated[int, Ge(1), Le(1000), Help("How many pictures; more than one also make a grid.")] = 1
    seed: Annotated[int | None, Ge(0), Le(MAX_SEED), Help("Given to the engine; random if left out.")] = None
    width: Annotated[int | None, Ge(MULTIPLE), Le(MAX_SIDE), Help("In pixels, a multiple of 16; with height.")] = None
    height: Annotated[int | None, Ge(MULTIPLE), Le(MAX_SIDE), Help("In pixels, a multiple of 16; with width.")] = None
    image: Annotated[File | None, Media("image/*"), Help("A picture to edit.")] = None
    mask: Annotated[File | None, Media("image/*"), Help("Where it is white, the picture is drawn anew.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image is None:
            idle(self, ("mask",), "without an image to edit")
        if (self.width is None) != (self.height is None):
            raise UserError("width and height: give both, or none")
        for name in ("width", "height"):
            if (value := getattr(self, name)) is not None and value % MULTIPLE:
                near = nearest(value)
                raise UserError(f"{name} = {value}: choose a multiple of {MULTIPLE} pixels, as {near}")

    def check(self, limits: Mapping[str, Limit]) -> None:
        check_prompt(self.prompt)

    def subrequests(self) -> list[Self]:
        """A picture each, with the seeds that follow."""
        if self.n == 1 or self.seed is None:
            return [self]
        if self.seed + self.n > MAX_SEED + 1:
            raise UserError(f"seed = {self.seed}: choose a whole number from 0 to 2^32 - {self.n}")
        return [replace(self, n=1, seed=self.seed + i) for i in range(self.n)]

    def basename(self) -> str:
        return "-".join(re.findall(r"\w+", self.prompt.lower())[:6])[:60] or "picture"


def nearest(side: float) -> int:
    """The side of a picture that engines draw which is nearest to this one."""
    return min(MAX_SIDE, max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE))
