"""What can be asked of models of pictures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, MaxLen
from PIL import ImageColor

from inkwash.errors import UserError
from inkwash.systems import train, tune
from inkwash.systems.base import File, Help, Limit, Media, Request, idle, is_blank

ModelName = Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.", argument=True)]
Data = Annotated[
    File | tuple[File, ...] | None,
    Media("folder"),
    Help("The data set of `inkwash data emoji` or `icons`; data/emoji or data/icons if left out."),
]
Sampler = Literal[
    "ancestral", "ddim", "euler", "euler_ancestral", "heun", "dpm2", "flow_heun", "flow_midpoint", "dpm_solver_2m",
    "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_3m", "dpmpp_3m_sde", "dpmpp_sde", "unipc", "deis", "lms",
    "consistency", "predictor_corrector", "tuned",
]  # fmt: skip
Format = Literal["png", "svg", "webp", "ico", "favicon"]
Grid = Literal["uniform", "karras", "exponential", "beta"]

FRAMES = 8  # of an interpolation, if it is not said


def hex_colors(text: str) -> list[str]:
    """The colours of a list with commas, as "#rrggbb". UserError for what is none."""
    return [hex_color(one.strip()) for one in re.split("[,，]", text)]


def hex_color(text: str) -> str:
    try:
        red, green, blue = ImageColor.getrgb(text)  # type: ignore[misc]  # ValueError, too, where there is an alpha
    except ValueError:
        raise UserError(f"colors: {text[:30]!r} is no colour; give a name as teal, or #RGB or #RRGGBB") from None
    return f"#{red:02x}{green:02x}{blue:02x}"


def check_prompt(prompt: str) -> None:
    """UserError for one of which nothing can be seen."""
    if is_blank(prompt):
        raise UserError("the prompt is empty: say in a few words what the picture shows")


def check_tags(text: str) -> None:
    """UserError for the tag of an adapter, which other programs take out of a prompt and which would be drawn."""
    if tag := re.search(r"[<\uff1c](lora|lyco|hypernet)\s*[:\uff1a][^<>\uff1e]*[>\uff1e]?", text, re.I):
        raise UserError(
            f"{tag[0][:40]!r} in the prompt: there are no adapters here; take it out, and name a model with --model, "
            "perhaps one of `inkwash train pictures --data FOLDER`"
        )


def check_guidance(guidance: float | None, *conditions: Any) -> None:
    """UserError for a guidance at which these conditions, where there are some, would count for nothing."""
    if guidance == 0 and any(conditions):
        raise UserError("guidance = 0: the picture would be drawn without the prompt and the style; take 1, or more")


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures from words."""

    prompt: Annotated[
        str, MaxLen(2000), Help("What the picture shows, in a few words: (more:1.3) or [less].", argument=True)
    ] = ""
    style: Annotated[str | None, Help("How it is drawn; the model's own choice if left out.")] = None
    n: Annotated[
        int | None, Ge(1), Le(1000), Help("How many pictures; more than one also make a grid. 1, or 8 with a `to`.")
    ] = None
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed makes the same picture; random if left out.")
    ] = None
    model: Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")] = "emoji"
    sampler: Annotated[
        Sampler | None, Help("How to step down from noise; tuned: in few steps, see `inkwash tune`.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(1000), Help("Steps on the way; more take longer.")] = None
    grid: Annotated[Grid | None, Help("How the steps lie in time; uniform if left out.")] = None
    guidance: Annotated[float | None, Ge(0), Le(30), Help("How closely to follow the words.")] = None
    negative: Annotated[str, MaxLen(2000), Help("What the picture shall not show.")] = ""
    size: Annotated[
        int | None, Ge(8), Le(4096), Help("Side in pixels; above its own by the model's upsampler, if it has one.")
    ] = None
    transparent: Annotated[bool, Help("Leave out the white behind it.")] = False
    format: Annotated[Format, Help("Of its file, png if left out; favicon: a folder of what a site needs.")] = "png"
    weight: Annotated[
        float | None, Gt(0), Le(24), Help("Of an icon's strokes, in units of which it has 24 a side; 2 is common.")
    ] = None
    colors: Annotated[str | None, MaxLen(200), Help("Of an icon: a name as teal, or #0F62FE; black if left out.")] = (
        None
    )
    image: Annotated[File | None, Media("image/*"), Help("A picture to begin from.")] = None
    strength: Annotated[float | None, Ge(0), Le(1), Help("How much of it may change, 0 to 1; 0.6 if not given.")] = (
        None
    )
    mask: Annotated[File | None, Media("image/*"), Help("Where it is white, the picture is drawn anew.")] = None
    outpaint: Annotated[
        float | None, Gt(0), Le(0.45), Help("Draw on beyond its edges, for this fraction of the side.")
    ] = None
    like: Annotated[
        File | None,
        Media("image/*,image/svg+xml"),
        Help("A picture to draw alike, of one colour, PNG or SVG; for models of icons."),
    ] = None
    to: Annotated[str | None, MaxLen(2000), Help("A second prompt: n pictures from the first to it.")] = None

    def __post_init__(self) -> None:
        if self.n is None:
            object.__setattr__(self, "n", 1 if self.to is None else FRAMES)
        super().__post_init__()
        check_guidance(self.guidance, self.prompt, self.negative, self.style, self.like, self.to)
        for text in filter(None, (self.prompt, self.negative, self.to)):
            check_tags(text)
        if self.image is None:
            idle(self, ("mask", "strength", "outpaint"), "without an image to begin from")
        if self.mask is not None and self.outpaint is not None:
            raise UserError("mask: give a mask or outpaint, not both")
        if self.sampler == "tuned":
            idle(self, ("grid",), "with the sampler tuned, which has learned its own")
        if self.colors is not None:
            hex_colors(self.colors)
        if self.format in ("svg", "favicon"):
            idle(self, ("size",), f"with the format {self.format}, which has its own")
            idle(self, ("mask", "outpaint"), f"with the format {self.format}: what stays of an image is pixels")
        if self.format == "ico" and (self.size or 0) > 256:
            raise UserError(f"size = {self.size}: an ICO has pictures of 256 pixels at most")
        if self.to is not None:
            idle(self, ("format",), "with --to, which makes an animation")
            if is_blank(self.to):
                raise UserError("to: the second prompt is empty: say in a few words what the last picture shows")
            idle(self, ("image", "mask", "strength", "outpaint"), "with --to, which goes from words to words")
            if self.n == 1:
                raise UserError("n = 1: from one prompt to another there are 2 pictures at least")

    def check(self, limits: Mapping[str, Limit]) -> None:
        if self.image is None and self.like is None and not limits["prompt"].absent:
            check_prompt(self.prompt)

    def subrequests(self) -> list[Self]:
        """A picture each, with the seeds that follow; an interpolation is one."""
        n = self.n or 1
        if n == 1 or self.seed is None or self.to is not None:
            return [self]
        if self.seed + n > 2**64:
            raise UserError(f"seed = {self.seed}: choose a whole number from 0 to 2^64 - {n}")
        return [replace(self, n=1, seed=self.seed + i) for i in range(n)]

    def basename(self) -> str:
        words = "-".join(re.findall(r"\w+", self.prompt.lower())[:6])[:60]  # no file system takes names without end
        return "-".join(filter(None, [words, self.style])) or "picture"


@dataclass(frozen=True, kw_only=True)
class Export(Request):
    """Write a model's networks as ONNX graphs beside its weights, to draw without torch."""

    model: ModelName


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure a model beside real pictures and the simplest baselines."""

    model: ModelName = "emoji"
    data: Data = None
    split: Annotated[Literal["test", "validation"], Help("test for the final table, validation for choosing.")] = (
        "test"
    )
    per_row: Annotated[int, Ge(6), Le(10_000), Help("Pictures of each kind.")] = 300
    seed: Annotated[int, Ge(0), Le(2**64 - 1), Help("Of the choice of concepts and of the pictures.")] = 0
    size: Annotated[int | None, Ge(8), Le(4096), Help("The model's own, or that of its upsampler.")] = None
    guidance: Annotated[float | None, Ge(0), Le(30), Help("Instead of the model's own.")] = None
    sampler: Annotated[Sampler | None, Help("Instead of the model's own.")] = None
    steps: Annotated[int | None, Ge(1), Le(1000), Help("Instead of the model's own.")] = None


@dataclass(frozen=True, kw_only=True)
class Train(train.Train):
    """Train a model by a recipe, or on a folder of pictures of your own, with or without captions; or go on with a
    run that was stopped."""

    size: Annotated[int | None, Ge(8), Le(4096), Help("Side of the pictures in pixels.")] = None
    flip: Annotated[bool, Help("Mirror half of the pictures of a folder of your own.")] = False
    resize: Annotated[
        Literal["crop", "pad"] | None,
        Help("Of those that are not square the middle is cut out, or all is laid on white; crop if left out."),
    ] = None

    KEYS = train.Train.KEYS | {"size": "model.size", "flip": "folder.flip", "resize": "folder.resize"}


@dataclass(frozen=True, kw_only=True)
class Tune(tune.Tune):
    """Learn how to sample a model in few steps; then `generate --sampler tuned --steps 6`."""

    model: ModelName = "emoji"
    data: Data = None
