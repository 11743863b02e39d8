"""What can be asked for: the models that draw, their styles and samplers, and the shape of a request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from inkwash.errors import UserError, unknown
from inkwash.studio.store import Refused
from inkwash.systems.pictures.pipeline import SAMPLERS, TUNED, knows_opacity, part
from inkwash.systems.pictures.pipeline import read_config as read_info
from inkwash.systems.pictures.upsampler import FACTOR
from inkwash.weights.shipped import describe, locate, shipped

MOST_EACH = 10  # pictures of one job
MOST_SIDE = 1024
MOST_STEPS = 200
LONGEST = 2000  # of a prompt, in characters
Words = Annotated[str, Field(max_length=LONGEST)]


class Ask(BaseModel):
    """What one job shall draw. The options are those of `inkwash generate`."""

    model_config = ConfigDict(extra="forbid")

    prompt: Words = Field("", description="What the pictures show, in a few words, English or Chinese.")
    negative: Words = Field("", description="What they shall not show.")
    model: str = Field("emoji", max_length=100)
    style: str | None = Field(
        None, max_length=100, description="How they are drawn; GET /api/models lists the styles."
    )
    n: int = Field(1, ge=1, le=MOST_EACH, description="How many.")
    seed: int | None = Field(
        None, ge=0, lt=2**64, description="Of the first; the others have those that follow. Random if left out."
    )
    sampler: str | None = Field(None, max_length=100)
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    guidance: float | None = Field(None, ge=0, le=30, allow_inf_nan=False)
    size: int | None = Field(None, ge=8, le=MOST_SIDE, description="The side, in pixels.")
    transparent: bool = False
    image: str | None = Field(None, max_length=100, description="An upload to begin from: POST /api/uploads.")
    mask: str | None = Field(
        None, max_length=100, description="An upload: where it is white, the image is drawn anew."
    )
    strength: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    border: float | None = Field(None, gt=0, le=0.45, allow_inf_nan=False)
    previews: int = Field(0, ge=0, le=8, description="How often each picture is shown on its way.")


class Model(BaseModel):
    name: str
    styles: list[str]
    sizes: list[int] = Field(description="What it draws itself; other sizes are one of these resized.")
    samplers: list[str]
    sampler: str = Field(description="Its usual one.")
    steps: int
    guidance: float
    transparent: bool = Field(description="Whether it knows opacity.")


class Catalogue:
    """The models of a studio by name: those that ship, and the folders that were named when it was started."""

    def __init__(self, more: Sequence[str | Path] = ()) -> None:
        self.folders = {name: path for name, path in shipped().items() if describe(path).get("system") == "pictures"}
        for path in map(locate, more):
            if path in self.folders.values():
                continue
            name = path.resolve().name
            if name in self.folders:
                raise UserError(f"--model {path}: there is a model '{name}' already; rename the folder")
            self.folders[name] = path
        self.known = {name: described(name, folder) for name, folder in self.folders.items()}

    def __getitem__(self, name: str) -> Model:
        if name not in self.known:
            raise Refused(404, str(unknown("model", name[:60], self.known)), "model_not_found", "model")
        return self.known[name]

    def models(self) -> list[Model]:
        return list(self.known.values())

    def check(self, ask: Ask) -> None:
        """Refused, at once and in one line, for what the model would refuse later."""
        model = self[ask.model]
        for param, name, names in (("style", ask.style, model.styles), ("sampler", ask.sampler, model.samplers)):
            if name is not None and name not in names:
                raise _wrong(str(unknown(param, name[:60], names)), param)
        if (ask.seed or 0) + ask.n > 2**64:
            raise _wrong(f"seed = {ask.seed}: choose a whole number from 0 to 2^64 - {ask.n}", "seed")
        if not ask.prompt.strip() and ask.image is None:
            raise _wrong("the prompt is empty: say in a few words what the picture shows", "prompt")
        if ask.image is None:
            for param in ("mask", "strength", "border"):
                if getattr(ask, param) is not None:
                    raise _wrong(f"{param} needs an image to begin from", param)
        if ask.mask is not None and ask.border is not None:
            raise _wrong("give a mask or a border, not both", "mask")
        if ask.transparent and not model.transparent:
            raise _wrong(f"the model {ask.model} knows no opacity", "transparent")


def described(name: str, folder: Path) -> Model:
    info = read_info(folder)
    sizes = [info.size, *([FACTOR * info.size] if part(folder, info, "upsampler") else [])]
    return Model(
        name=name,
        styles=info.styles,
        sizes=sizes,
        samplers=[*SAMPLERS, *([TUNED] if (folder / "tables.json").is_file() else [])],
        sampler=info.sampler,
        steps=info.steps,
        guidance=info.guidance,
        transparent=knows_opacity(part(folder, info, "vae")),
    )


def _wrong(message: str, param: str) -> Refused:
    return Refused(422, message, "invalid_value", param)
