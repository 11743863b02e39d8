"""One picture as it is asked for, and what its recipe says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.base import options
from inkwash.systems.checkpoints.adapters import AdapterFile, AdapterFiles, as_file
from inkwash.systems.checkpoints.grammar import take_adapters
from inkwash.systems.checkpoints.options import HIRES_STRENGTH, REFINER_START
from inkwash.systems.checkpoints.request import Generate
from inkwash.systems.checkpoints.wildcards import choose
from inkwash.systems.pictures.data import Source, source_facts

UPSCALER = "latent"  # if none is named
FILES = ("image", "mask", "wildcards", "vae", "adapters", "refiner")  # which a recipe names otherwise, or not at all


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture, as `StableDiffusion.generate` is asked for it. What is None is left out. UserError for a value of
    another kind, or out of the range that `Generate` has for it.

    prompt, negative  what it shows, and what it shall not show
    seed              the same makes the same picture
    sampler, grid, steps, guidance
                      as a few-step adapter needs them, or the checkpoint's usual ones, if left out
    rescale           how far the contrast that guidance adds is taken back, see `StableDiffusion.to_x0`
    size              the side of a square in pixels; or width and height. Those of training if left out, or with an
                      image as large a picture of the image's shape
    clip_skip         see `encode_prompt`
    weighting         "a1111" reads prompts as A1111 does, "comfyui" as ComfyUI, "none" as they stand; but for "none"
                      the seed also chooses from {a|b}, and from the files of the folder `wildcards` (`choose`)
    seed_like         the tool whose noise is drawn, see `seeds`; with ComfyUI's its times, the nearest entries
    image, strength   a file or picture to begin from, and which share of the steps is taken from there (0.6 if not
                      given, 1 with a mask)
    mask              only where it is white is the image drawn anew
    image_guidance    of checkpoints that edit, see `edit_guidance`
    vae               a file whose autoencoder stands in the place of the checkpoint's own
    adapters          files, or files with their weights, see `StableDiffusion.load_adapters`; <lora:name:0.8> in a
                      prompt gives one of them, by its file's name, another weight
    dora_norm, merge_adapters
                      see `adapted`
    refiner           a checkpoint that draws the last steps, from `refiner_start` on, a share of the noise's times
    hires             how many times larger than width and height the picture is, which is drawn in a second pass:
                      enlarged as a latent or (`hires_upscaler` = "lanczos") in pixels, and drawn anew for the last
                      `hires_strength` of `hires_steps` (of `steps` if left out)
    tiling            along which axes the picture's sides meet, so that it repeats without a seam: x, y or xy
    """

    prompt: str = ""
    negative: str = ""
    seed: int = 0
    sampler: str | None = None
    grid: str | None = None
    steps: int | None = None
    guidance: float | None = None
    rescale: float = 0.0
    size: int | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int = 0
    weighting: str = "a1111"
    seed_like: str | None = None
    wildcards: str | Path | None = None
    image: Source | None = None
    strength: float | None = None
    mask: Source | None = None
    image_guidance: float | None = None
    vae: str | Path | None = None
    adapters: AdapterFiles = ()
    dora_norm: str = "changed"
    merge_adapters: bool = True
    refiner: Any = None
    refiner_start: float | None = None
    hires: float | None = None
    hires_strength: float | None = None
    hires_steps: int | None = None
    hires_upscaler: str | None = None
    tiling: str = ""

    def __post_init__(self) -> None:
        request_options = options(Generate)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                object.__setattr__(self, field.name, field.default)
            elif field.name in request_options and field.name not in FILES and value != "":
                plain = value.item() if isinstance(value, np.generic) else value
                object.__setattr__(self, field.name, request_options[field.name].check(plain))
        if self.refiner is None and self.refiner_start is not None:
            raise UserError("refiner_start means nothing without a refiner: leave it out")
        for name in ("hires_strength", "hires_steps", "hires_upscaler"):
            if self.hires is None and getattr(self, name) is not None:
                raise UserError(f"{name} means nothing without hires: leave it out")
        if self.hires is not None and self.image is not None:
            raise UserError("hires means nothing with an image to begin from: give a larger size instead")

    @property
    def second_strength(self) -> float:
        return HIRES_STRENGTH if self.hires_strength is None else self.hires_strength

    def chosen(self) -> dict[str, str]:
        """prompt and negative, after what is left to chance is chosen."""
        texts = {"prompt": self.prompt, "negative": self.negative}
        if self.weighting == "none":
            return texts
        folder = None if self.wildcards is None else Path(self.wildcards)
        return {name: choose(text, self.seed, folder, name) for name, text in texts.items()}

    def facts(self) -> dict[str, Any]:
        """What the recipe says as it was asked for."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.hires is not None:
            values["hires_strength"] = HIRES_STRENGTH if self.hires_strength is None else self.hires_strength
            values["hires_upscaler"] = self.hires_upscaler or UPSCALER
        if self.refiner is not None:
            values["refiner_start"] = REFINER_START if self.refiner_start is None else self.refiner_start
        named = {name: value for name, value in values.items() if name not in (*FILES, "size")}
        return named | {name: source_facts(values[name]) for name in ("image", "mask")}


def with_tags(
    texts: Mapping[str, str], files: AdapterFiles, weighting: str
) -> tuple[dict[str, str], list[AdapterFile]]:
    """The prompts without their tags <lora:name:0.8>, and the adapters with the weights that those give, by the names
    of their files without endings. UserError for a name that no file has. Prompts that are taken as they stand have
    no tags."""
    found = [as_file(file) for file in files]
    if weighting == "none":
        return dict(texts), found
    plain, tagged = {}, set[str]()
    for name, text in texts.items():
        plain[name], tags = take_adapters(text)
        for tag in tags:
            places = [i for i, file in enumerate(found) if Path(file.path).stem == tag.name]
            if not places:
                raise no_adapter(tag.name, found)
            if len(places) > 1 or tag.name in tagged:
                which = "two adapters have this name: rename one" if len(places) > 1 else "it is there twice"
                raise UserError(f"<lora:{tag.name[:60]}> in the prompt: {which}")
            tagged.add(tag.name)
            found[places[0]] = found[places[0]]._replace(weight=tag.unet, text_weight=tag.text_encoder)
    return plain, found


def no_adapter(name: str, files: Sequence[AdapterFile]) -> UserError:
    there = ", ".join(Path(file.path).stem for file in files)
    what = f"those given are {there}" if there else "none is given"
    return UserError(f"<lora:{name[:60]}> in the prompt: give its file as an adapter too; {what}")
