"""What can be asked of other tools' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt, MaxLen

from inkwash.errors import UserError
from inkwash.systems.base import File, Help, Limit, Media, Request, idle
from inkwash.systems.pictures.request import check_guidance, check_prompt

Sampler = Literal[
    "ancestral", "ddim", "euler", "euler_ancestral", "heun", "dpm2", "dpm_solver_2m", "dpmpp_2m", "dpmpp_2m_sde",
    "dpmpp_2s", "dpmpp_3m", "dpmpp_3m_sde", "dpmpp_sde", "unipc", "deis", "lms", "consistency", "predictor_corrector",
]  # fmt: skip
Grid = Literal[
    "uniform", "leading", "trailing", "karras", "exponential", "beta", "normal", "sgm_uniform", "simple",
    "ddim_uniform", "kl_optimal", "linear_quadratic", "align_your_steps",
]  # fmt: skip
MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures from words by another tool's checkpoint: a file, or a folder in the diffusers format."""

    prompt: Annotated[str, MaxLen(20_000), Help("What the picture shows.", argument=True)] = ""
    model: Annotated[
        str, Help("A .safetensors file of Stable Diffusion 1, 2 or XL, a diffusers folder, or a hub id in the cache.")
    ]
    n: Annotated[int, Ge(1), Le(1000), Help("How many pictures; more than one also make a grid.")] = 1
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed makes the same picture; random if left out.")
    ] = None
    negative: Annotated[str, MaxLen(20_000), Help("What the picture shall not show.")] = ""
    sampler: Annotated[Sampler | None, Help("How to step down from noise.")] = None
    steps: Annotated[int | None, Ge(1), Le(1000), Help("Steps on the way; more take longer.")] = None
    grid: Annotated[Grid | None, Help("How the steps lie in time.")] = None
    guidance: Annotated[float | None, Ge(0), Le(30), Help("How closely to follow the words.")] = None
    rescale: Annotated[
        float | None, Ge(0), Le(1), Help("How far the contrast that guidance adds is taken back (CFG rescale).")
    ] = None
    size: Annotated[
        int | None, Ge(8), Le(MAX_SIDE), Help("Side of a square in pixels, a multiple of 8; the checkpoint's own.")
    ] = None
    width: Annotated[int | None, Ge(8), Le(MAX_SIDE), Help("In pixels, a multiple of 8; with height.")] = None
    height: Annotated[int | None, Ge(8), Le(MAX_SIDE), Help("In pixels, a multiple of 8; with width.")] = None
    clip_skip: Annotated[
        int | None, Ge(0), Le(11), Help("Layers of the text encoder left out; what A1111 calls 2 is 1 here.")
    ] = None
    weighting: Annotated[
        Literal["a1111", "comfyui", "none"] | None,
        Help("How (words:1.2) are weighted; none: prompts as they stand; a1111 if left out."),
    ] = None
    embedding: Annotated[
        tuple[File, ...], Media(".safetensors"), Help("Words of textual inversion, called by their files' names.")
    ] = ()
    vae: Annotated[
        File | None, Media(".safetensors"), Help("A file whose VAE stands in the place of the checkpoint's own.")
    ] = None
    adapter: Annotated[
        tuple[File, ...], Media(".safetensors"), Help("LoRA and its kin; <lora:name:0.8> in the prompt weights one.")
    ] = ()
    adapter_weight: Annotated[
        tuple[float, ...], Ge(-10), Le(10), Help("Of each adapter, in their order; 1 if left out.")
    ] = ()
    dora_norm: Annotated[
        Literal["changed", "original"] | None,
        Help(
            "DoRA's: of the changed weight, as in A1111, or of the original one, as in ComfyUI; changed if left out."
        ),
    ] = None
    wildcards: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("Texts of which __name__ takes a line of name.txt.")
    ] = None
    seed_like: Annotated[
        Literal["a1111", "a1111-cpu", "comfyui"] | None, Help("Draw noise from the seed as this tool does.")
    ] = None
    settings: Annotated[
        File | None,
        Media(".png,.jpg,.jpeg,.webp"),  # as it is, for what stands beside its pixels
        Help("A picture of A1111, ComfyUI or inkwash whose settings are taken where none are given."),
    ] = None
    image: Annotated[File | None, Media("image/*"), Help("A picture to begin from, or to edit.")] = None
    strength: Annotated[
        float | None, Gt(0), Le(1), Help("How much of it may change, 0 to 1; 0.6 if not given, with a mask 1.")
    ] = None
    mask: Annotated[File | None, Media("image/*"), Help("Where it is white, the picture is drawn anew.")] = None
    image_guidance: Annotated[
        float | None, Ge(0), Le(10), Help("How closely a checkpoint that edits keeps to the picture; 1.5.")
    ] = None
    refiner: Annotated[str | None, Help("A checkpoint that draws the last steps, as that of SDXL.")] = None
    refiner_start: Annotated[
        float | None, Gt(0), Lt(1), Help("From which share of the noise's times on; 0.8 if left out.")
    ] = None
    hires: Annotated[
        float | None, Gt(1), Le(8), Help("Draw it so many times larger, in a second pass over the picture enlarged.")
    ] = None
    hires_strength: Annotated[float | None, Gt(0), Le(1), Help("How much the second pass may change; 0.7.")] = None
    hires_steps: Annotated[int | None, Ge(1), Le(1000), Help("Of the second pass; as many as of the first.")] = None
    hires_upscaler: Annotated[
        Literal["latent", "lanczos"] | None, Help("How it is enlarged; latent if left out.")
    ] = None
    tiling: Annotated[Literal["x", "y", "xy"] | None, Help("Along which axes its sides meet without a seam.")] = None
    format: Annotated[Literal["png", "webp"], Help("Of its file.")] = "png"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_guidance(self.guidance, self.prompt, self.negative)
        if self.weighting == "none":
            idle(self, ("wildcards",), "with the weighting none, which takes prompts as they stand")
        if self.adapter_weight and len(self.adapter_weight) != len(self.adapter):
            counts = f"{len(self.adapter_weight)} for {len(self.adapter)} adapters"
            raise UserError(f"adapter_weight: {counts}: give one for each, or none")
        if not self.adapter:
            idle(self, ("dora_norm",), "without an adapter")
        if self.refiner is None:
            idle(self, ("refiner_start",), "without a refiner")
        if self.hires is None:
            idle(self, ("hires_strength", "hires_steps", "hires_upscaler"), "without hires")
        elif self.image is not None:
            idle(self, ("hires",), "with an image to begin from: give a larger size instead")
        if self.image is None:
            idle(self, ("mask", "strength", "image_guidance"), "without an image to begin from")
        if self.size is not None:
            idle(self, ("width", "height"), "beside size, the side of a square")
        if (self.width is None) != (self.height is None):
            raise UserError("width and height: give both, or a size")
        for name in ("size", "width", "height"):
            if (value := getattr(self, name)) is not None and value % 8:
                raise UserError(f"{name} = {value}: choose a multiple of 8 pixels, as {max(8, round(value / 8) * 8)}")

    def check(self, limits: Mapping[str, Limit]) -> None:
        if self.image is None and self.settings is None:
            check_prompt(self.prompt)
        if self.image is None and not limits["image_guidance"].absent:
            raise UserError(f"the checkpoint {self.model} edits pictures: give one with image")

    def subrequests(self) -> list[Self]:
        """A picture each, with the seeds that follow."""
        if self.n == 1 or self.seed is None:
            return [self]
        if self.seed + self.n > 2**64:
            raise UserError(f"seed = {self.seed}: choose a whole number from 0 to 2^64 - {self.n}")
        return [replace(self, n=1, seed=self.seed + i) for i in range(self.n)]

    def basename(self) -> str:
        return "-".join(re.findall(r"\w+", self.prompt.lower())[:6])[:60] or "picture"
