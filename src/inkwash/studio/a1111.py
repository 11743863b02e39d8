"""A1111's API: pictures as clients of /sdapi/v1 ask for them, and what those of its ControlNet extension look for.

What is asked for and cannot be done is refused in one line. Some of what clients send without being asked changes
nothing: fields that are in no model below, of extensions that are not here; hr_... and firstphase_... without
enable_hr; save_images and do_not_save_... (the studio keeps each picture until its user deletes it); subseed (its
strength is refused), s_tmin and s_tmax (s_churn is), eta at 0 or 1 (each sampler has its own). With a mask nothing
beyond it changes by one pixel, and the whole picture is seen: mask_blur and inpaint_full_res are not followed; what
lies under it, as inpainting_fill says, counts as far as denoising_strength leaves it. override_settings are of one
request, whatever override_settings_restore_afterwards says: POST options is what lasts. CLIP_stop_at_last_layers
changes nothing with SDXL, as in A1111. Engines have no sampler, steps and so on: what clients send of these by
themselves (`UNASKED`) changes nothing there, any other value is refused.
"""

import base64
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Request
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from inkwash.codecs.pixels import on_white
from inkwash.codecs.png import add_text, encode_png
from inkwash.errors import UserError, unknown
from inkwash.studio import accounts, uploads
from inkwash.studio.accounts import User
from inkwash.studio.api import recipe_in
from inkwash.studio.auth import CurrentEngine, CurrentUser
from inkwash.studio.catalogue import card
from inkwash.studio.engine import Engine
from inkwash.studio.engine import Progress as JobProgress
from inkwash.studio.errors import APIError, invalid
from inkwash.studio.hashes import hash_so_far
from inkwash.studio.library import OPEN
from inkwash.studio.openai import (
    MAX_CHECKPOINT_SIDE,
    MAX_EACH,
    MAX_NAME,
    MAX_PROMPT,
    MAX_SIDE,
    SYSTEM,
    SYSTEMS,
    TIMEOUT,
    VERB,
    Fraction,
    Guidance,
    Prompt,
    Steps,
    check_done,
    models_of,
    shape_of,
    system_of_model,
)
from inkwash.studio.requests import api_errors
from inkwash.studio.schemas import NOT_BOOL
from inkwash.studio.store import MAX_QUEUED_EACH
from inkwash.studio.streams import SaveUpload, check_waits, temporary_uploads, wait_for_job
from inkwash.systems import available, base, system_of, systems
from inkwash.systems.checkpoints.facts import read_facts
from inkwash.systems.checkpoints.infotext import UPSCALERS, split_infotext
from inkwash.systems.checkpoints.infotext import infotext as checkpoint_infotext
from inkwash.systems.pictures.data import load_mask, surroundings
from inkwash.systems.pictures.model import (
    TUNED,
    default_sampler,
    default_strength,
    read_config,
    read_index,
    weights_hash,
)
from inkwash.version import __version__
from inkwash.weights.shipped import CHECKPOINTS, ENGINES

API = "a1111"
PREVIEWS = 4  # of each picture, for current_image
HASHING = 2.0  # seconds that a list waits for the hashes of large files
NAMES = {  # A1111's of our samplers, where they are the same method; its DPM++ 2S a and 3M SDE are others than ours
    "ancestral": "DDPM",
    "ddim": "DDIM",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "lms": "LMS",
    "deis": "DEIS",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "unipc": "UniPC",
    "consistency": "LCM",
}
SAMPLERS = {name.lower(): sampler for sampler, name in NAMES.items()}
MAX_HEAD = 1_000_000  # bytes of a PNG in which its texts lie
AUTOMATIC = "automatic"  # as the scheduler: the steps lie as is usual with the sampler
SQUARE_GRIDS = {  # names of the grids of models of squares: the first is shown
    "uniform": ("Uniform", "Normal", "Simple", "SGM Uniform", "sgm_uniform"),
    "karras": ("Karras",),
    "exponential": ("Exponential",),
    "beta": ("Beta",),
}
CHECKPOINT_GRIDS = {  # of checkpoints, as A1111 and its forks have them
    "normal": ("Normal", "Uniform"),  # which are one in A1111
    "karras": ("Karras",),
    "exponential": ("Exponential",),
    "sgm_uniform": ("SGM Uniform", "SGMUniform"),
    "simple": ("Simple",),
    "ddim_uniform": ("DDIM", "ddim"),
    "beta": ("Beta",),
    "kl_optimal": ("KL Optimal",),
    "align_your_steps": ("Align Your Steps",),
    "linear_quadratic": ("Linear Quadratic",),
    "leading": ("Leading",),
    "trailing": ("Trailing",),
}
SCHEDULERS = {SYSTEM: SQUARE_GRIDS, CHECKPOINTS: CHECKPOINT_GRIDS}
AUTOMATIC_GRIDS = {  # of A1111's samplers, where it is not normal
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpm2": "karras",
    "dpmpp_2m_sde": "exponential",
    "ddim": "ddim_uniform",
    "consistency": "trailing",
}
SETTINGS = {"sd_vae": ("Automatic", "None", "", None), "CLIP_stop_at_last_layers": (1, 0, None)}  # as they are here
HIRES = {"enable_hr", "hr_scale", "hr_resize_x", "hr_resize_y"}  # of what enlarges, what can be chosen here
SECOND_PASS = {"enable_hr", "hr_scale", "hr_upscaler", "hr_second_pass_steps", "denoising_strength"}  # of checkpoints
UNSET = (None, 0, "", "None", "Latent", 0.7, "Use same checkpoint", "Use same sampler", "Use same scheduler")
# what clients send of these by themselves, A1111's page and its API among them
UNASKED: dict[str, tuple[Any, ...]] = {
    "sampler_name": ("Euler", "Euler a", "DPM++ 2M", "Automatic"),
    "sampler_index": ("Euler", "Euler a", "Automatic"),
    "scheduler": ("automatic", "Automatic"),
    "steps": (20, 50),
    "cfg_scale": (7,),
    "denoising_strength": (0.7, 0.75),
    "image_cfg_scale": (1.5,),
}
OF_EDITS = {"denoising_strength", "image_cfg_scale"}  # of these; without a picture they mean nothing to any model
Short = Annotated[str, Field(max_length=100)]
Title = Annotated[str, Field(max_length=MAX_NAME + 20)]  # a model's name, and ten digits of its hash
Side = Annotated[int, Field(ge=8, le=MAX_CHECKPOINT_SIDE), NOT_BOOL]
SideOrNot = Annotated[int, Field(ge=0, le=MAX_CHECKPOINT_SIDE), NOT_BOOL]
Count = Annotated[int, Field(ge=1, le=MAX_EACH), NOT_BOOL]
Off = Literal[False, None]  # what cannot be done here, in these five
Blank = Literal["", "None", None]
Zero = Annotated[int, Field(ge=-1, le=0), NOT_BOOL] | None
One = Annotated[int, Field(ge=1, le=1), NOT_BOOL] | None
Fill = Annotated[int, Field(ge=0, le=3), NOT_BOOL]
ZeroOrOne = Annotated[int, Field(ge=0, le=1), NOT_BOOL] | None


class Choice(BaseModel):
    """Settings: the model. Others are refused unless they are what they are here."""

    model_config = ConfigDict(extra="allow")
    sd_model_checkpoint: Title | None = Field(None, description="A name or title of GET sd-models.")


class Override(Choice):
    """Settings of one request: the model, and how many layers of its text encoder are left out."""

    CLIP_stop_at_last_layers: Annotated[int, Field(ge=0, le=12), NOT_BOOL] | None = Field(
        None, description="Of checkpoints but SDXL: 1 for all layers, 2 without the last."
    )


class Generation(BaseModel):
    """What is left out, or null, is as is usual with the model."""

    prompt: Prompt = ""
    negative_prompt: Prompt | None = ""
    styles: Annotated[list[Short], Field(max_length=20)] | None = Field(None, description="One of prompt-styles.")
    seed: Annotated[int, Field(ge=-1, lt=2**64), NOT_BOOL] | None = Field(-1, description="-1: at random.")
    sampler_name: Short | None = None
    sampler_index: Short | None = Field(None, description="The older name of sampler_name, which goes before it.")
    scheduler: Short | None = Field(None, description="One of GET schedulers; automatic: even steps.")
    batch_size: Count | None = 1
    n_iter: Count | None = Field(1, description=f"Times batch_size: {MAX_EACH} pictures at most.")
    steps: Steps | None = None
    cfg_scale: Guidance | None = None
    width: Side | None = Field(None, description="As the height, but of checkpoints, which draw any shape.")
    height: Side | None = None
    denoising_strength: Fraction | None = Field(None, description="Of img2img: how much of the picture may change.")
    send_images: bool | None = True
    override_settings: Override | None = None
    alwayson_scripts: Annotated[dict[Short, Any], Field(max_length=50)] | None = None
    script_name: Blank = None
    subseed_strength: Zero = 0
    seed_resize_from_h: Zero = 0
    seed_resize_from_w: Zero = 0
    restore_faces: Off = False
    tiling: Off = False
    eta: ZeroOrOne = None
    s_churn: Zero = 0
    s_noise: One = 1
    refiner_checkpoint: Blank = None
    infotext: Blank = Field(None, description="Give its settings as fields.")


class Txt2Img(Generation):
    enable_hr: bool | None = Field(False, description="Draw it larger: by hr_scale, or to hr_resize_x and _y.")
    hr_scale: Annotated[float, Field(ge=1, le=16, allow_inf_nan=False), NOT_BOOL] | None = 2
    hr_resize_x: SideOrNot | None = 0
    hr_resize_y: SideOrNot | None = 0
    hr_upscaler: Short | None = Field(None, description="Left out: the model enlarges its pictures by itself.")
    hr_second_pass_steps: SideOrNot | None = 0
    hr_checkpoint_name: Short | None = None
    hr_sampler_name: Short | None = None
    hr_scheduler: Short | None = None
    hr_prompt: Prompt | None = ""
    hr_negative_prompt: Prompt | None = ""
    firstphase_width: SideOrNot | None = 0
    firstphase_height: SideOrNot | None = 0


class Img2Img(Generation):
    init_images: list[str] = Field(
        min_length=1, max_length=1, description="In base64, also as data: URL; others are not fetched."
    )
    mask: str | None = Field(None, description="White: drawn anew. Black: kept to the pixel.")
    latent_mask: Blank = Field(None, description="Give a mask.")
    inpainting_mask_invert: bool | None = False
    inpainting_fill: Fill | None = Field(
        0, description="Under the mask at first: 0 the colours around, 1 the picture, 2 noise, 3 grey."
    )
    image_cfg_scale: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), NOT_BOOL] | None = Field(
        None, description="How closely a checkpoint that edits keeps to the picture."
    )
    resize_mode: Annotated[int, Field(ge=0, le=2), NOT_BOOL] | None = Field(
        0, description="If it is of another shape: 0 stretched, 1 cut, 2 padded."
    )
    initial_noise_multiplier: One = 1
    include_init_images: bool | None = False


class Answer(BaseModel):
    images: list[str] = Field(description="PNGs in base64, each with its recipe.")
    parameters: dict[str, Any] = Field(description="What was asked for, as it was understood.")
    info: str = Field(description="JSON: what was drawn.")


class State(BaseModel):
    job: str = ""
    job_count: int = Field(default=0, description="Pictures of the job.")
    job_no: int = Field(default=0, description="Pictures that are done.")
    job_timestamp: str = "0"
    sampling_step: int = 0
    sampling_steps: int = 0
    skipped: bool = False
    interrupted: bool = False


class Progress(BaseModel):
    progress: float = 0.0
    eta_relative: float = Field(default=0.0, description="Seconds, as far as one can tell.")
    state: State = State()
    current_image: str | None = None
    textinfo: str | None = None


class Sampler(BaseModel):
    name: str
    aliases: list[str]
    options: dict[str, str] = {}


class Scheduler(BaseModel):
    name: str
    label: str
    aliases: list[str]


class Checkpoint(BaseModel):
    title: str
    model_name: str
    hash: str | None = Field(description="null while a large file is read for the first time, or fetched.")
    sha256: str | None
    filename: str = Field(description="The name again; where it lies is nobody's business.")
    config: str | None = None


class Named(BaseModel):
    name: str


class Style(Named):
    prompt: str = ""
    negative_prompt: str = ""


class Options(BaseModel):
    sd_model_checkpoint: str
    sd_checkpoint_hash: str | None
    sd_vae: str = "Automatic"
    CLIP_stop_at_last_layers: int = 1


class Memory(BaseModel):
    ram: dict[Literal["free", "used", "total"], float]
    cuda: dict[str, float] = {}


class Png(BaseModel):
    image: str


class PngInfo(BaseModel):
    info: str = Field(description="The recipe as text; empty if there is none.")
    items: dict[str, str]
    parameters: dict[str, str]


class A1111Error(BaseModel):
    """Every error of this API."""

    error: str
    detail: str
    body: str
    errors: str


ERRORS = (400, 401, 403, 404, 409, 413, 415, 422, 429, 504, 507)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": A1111Error, "description": "What was asked for cannot be."} for status in ERRORS
}
router = APIRouter(tags=["A1111"], responses=RESPONSES)
SD = "/sdapi/v1"


# drawing


@router.post(f"{SD}/txt2img")
async def txt2img(body: Txt2Img, user: CurrentUser, engine: CurrentEngine, request: Request) -> Answer:
    """Pictures from words."""
    return await generate(body, user, engine, request)


@router.post(f"{SD}/img2img")
async def img2img(body: Img2Img, user: CurrentUser, engine: CurrentEngine, request: Request) -> Answer:
    """Pictures from words and a picture: all of it drawn anew, or where the mask is white."""
    return await generate(body, user, engine, request)


async def generate(body: Generation, user: User, engine: Engine, request: Request) -> Answer:
    check_waits(user, request)
    async with temporary_uploads(engine, user) as save:
        job = await to_thread.run_sync(submit, body, save, user, engine)
        with engine.subscribe(job, previews=True) as subscriber:
            row = await wait_for_job(engine, user, job, TIMEOUT, request)
    return await to_thread.run_sync(answer_of, body, row, subscriber.previews, engine)


def submit(body: Generation, save: SaveUpload, user: User, engine: Engine) -> str:
    checkpoint = body.override_settings.sd_model_checkpoint if body.override_settings else None
    model = name_of(checkpoint, user, engine) if checkpoint else chosen_model(user, engine)
    system = system_of_model(model, user, engine)
    with api_errors(systems()[system].verbs[VERB]):
        available(systems()[system], VERB)
    check(body, system)
    values = values_of(body, model, system, user, engine)
    if isinstance(body, Img2Img):
        mode, picture = body.resize_mode or 0, load_picture(body.init_images[0], "init_images")
        own = None if system == SYSTEM else picture.size
        size = (values["width"], values["height"]) if values.get("width") else own
        picture = reshaped(picture, mode, size)
        if body.mask:
            mask = reshaped(load_picture(body.mask, "mask"), mode, size)
            mask = inverted(mask) if body.inpainting_mask_invert else mask
            picture = filled(picture, mask, body.inpainting_fill or 0)
            values["mask"] = save(png_of(mask), "mask")
        values["image"] = save(png_of(picture), "init_images")
    return str(engine.submit(user, system, VERB, values, api=API, previews=PREVIEWS).id)


def check(body: Generation, system: str) -> None:
    """APIError for what the models above let through and cannot be done either."""
    if isinstance(body, Txt2Img) and body.enable_hr:
        taken = SECOND_PASS if system == CHECKPOINTS else HIRES
        why = "of a second pass this cannot be chosen" if system == CHECKPOINTS else "the model enlarges by itself"
        for name in ("denoising_strength", *Txt2Img.__annotations__):
            if name not in taken and getattr(body, name) not in UNSET:
                raise invalid(f"{name}: {why}; leave it out", name)
    if body.override_settings:
        check_settings(body.override_settings.model_extra or {}, "override_settings")
    for name, value in (body.alwayson_scripts or {}).items():
        args = value.get("args") if isinstance(value, dict) else value
        args = args if isinstance(args, list) else [args]
        if name.lower() == "controlnet":
            if any(switched_on([unit]) for unit in args):
                raise invalid("there are no ControlNet models here; disable the units", "alwayson_scripts")
        elif switched_on(args):
            raise invalid(f"there is no script '{name[:60]}' here; leave it out", "alwayson_scripts")
    if tag := re.search(r"<(lora|lyco|hypernet)\s*:([^:<>]*)", f"{body.prompt}\n{body.negative_prompt}", re.I):
        raise invalid(f"there is no {tag[1].lower()} '{tag[2][:60]}' here; take it out of the prompt", "prompt")


def check_settings(settings: dict[str, Any], param: str) -> None:
    """APIError for one that is not as it is here."""
    for name, value in settings.items():
        if value not in SETTINGS.get(name, ()):
            raise invalid(f"{param}: only the model can be chosen here, not {name[:60]}", param)


def switched_on(arguments: list[Any]) -> bool:
    """Whether a script would do anything: its first switch says so; if it has none, whatever it is given does."""
    for value in arguments:
        if isinstance(value, bool):
            return value
        if isinstance(value, dict) and value:
            return bool(value.get("enabled", value.get("enable", True)))
    return any(arguments)


def values_of(body: Generation, model: str, system: str, user: User, engine: Engine) -> dict[str, Any]:
    """What the verb is asked, without its pictures."""
    n = (body.batch_size or 1) * (body.n_iter or 1)
    if n > MAX_EACH:
        raise invalid(f"batch_size x n_iter = {n}: {MAX_EACH} pictures at most", "n_iter")
    folder = engine.catalogue.folder(model, user.id)
    narrowed = limits_of(folder)
    sampler, grid = (None, None) if system == ENGINES else sampler_and_grid(body, system, narrowed["grid"].choices)
    values = {
        "prompt": body.prompt,
        "negative": body.negative_prompt or "",
        "model": model,
        "n": n,
        "seed": None if body.seed == -1 else body.seed,
        "sampler": sampler,
        "steps": body.steps,
        "grid": grid,
        "guidance": body.cfg_scale,
        "strength": body.denoising_strength if isinstance(body, Img2Img) else None,
    }
    if system == CHECKPOINTS:
        values |= values_of_checkpoint(body, model, folder)
    elif system == ENGINES:
        values |= values_of_engine(body, model)
    else:
        values |= values_of_squares(body, narrowed["size"].default)
    # clients send all that there is, whether the model knows it or not; but a prompt was written by somebody
    absent = {name for name, limit in narrowed.items() if limit.absent and name != "prompt"}
    known = base.options(systems()[system].verbs[VERB].request).keys() - absent
    return {name: value for name, value in values.items() if name in known}


def values_of_squares(body: Generation, default_size: int) -> dict[str, Any]:
    styles = styles_of(body)
    if len(styles) > 1:
        raise invalid("styles: a picture has one style here; choose one", "styles")
    if clip_skip_of(body):
        raise invalid("CLIP_stop_at_last_layers: the model has no such layers; leave it out", "override_settings")
    return {"style": styles[0] if styles else None, "size": side(body, default_size)}


def values_of_engine(body: Generation, model: str) -> dict[str, Any]:
    hires = isinstance(body, Txt2Img) and body.enable_hr
    wanted: dict[str, Any] = {"styles": styles_of(body), "negative_prompt": body.negative_prompt, "enable_hr": hires}
    wanted |= {"CLIP_stop_at_last_layers": clip_skip_of(body)}
    drawn = UNASKED if isinstance(body, Img2Img) else UNASKED.keys() - OF_EDITS
    wanted |= {name: True for name in drawn if getattr(body, name) not in (None, "", *UNASKED[name])}
    for name, value in wanted.items():
        if value:
            raise invalid(f"{name}: the engine of {model} has none; leave it out", name)
    return {"width": body.width or body.height, "height": body.height or body.width}


def values_of_checkpoint(body: Generation, model: str, path: Path) -> dict[str, Any]:
    if styles_of(body):
        raise invalid(f"styles: {model} has none; leave them out", "styles")
    values: dict[str, Any] = {
        "width": body.width or body.height,
        "height": body.height or body.width,
        "clip_skip": 0 if is_xl(path) else clip_skip_of(body),
        "image_guidance": body.image_cfg_scale if isinstance(body, Img2Img) else None,
    }
    if isinstance(body, Txt2Img) and body.enable_hr:
        upscaler = (body.hr_upscaler or "Latent").lower()
        if upscaler not in UPSCALERS:
            raise invalid(str(unknown("hr_upscaler", str(body.hr_upscaler), UPSCALERS.values())), "hr_upscaler")
        values |= {
            "hires": body.hr_scale or 2,
            "hires_strength": body.denoising_strength,
            "hires_steps": body.hr_second_pass_steps or None,
            "hires_upscaler": upscaler,
        }
    return values


def styles_of(body: Generation) -> list[str]:
    return [name for name in body.styles or [] if name not in ("", "None")]


def clip_skip_of(body: Generation) -> int:
    """How many layers are left out, none where A1111 counts 1."""
    settings = body.override_settings
    return max(0, ((settings and settings.CLIP_stop_at_last_layers) or 1) - 1)


def sampler_and_grid(body: Generation, system: str, choices: Sequence[Any]) -> tuple[str | None, str | None]:
    """By our names, None for the model's own. "DPM++ 2M Karras" is both, as it was until A1111 1.9."""
    sampler, scheduler = body.sampler_name or body.sampler_index or "", (body.scheduler or AUTOMATIC).lower()
    first, _, last = sampler.rpartition(" ")
    grids = grids_of(system)
    if first and last.lower() in grids:
        if scheduler not in (AUTOMATIC, last.lower()):
            raise invalid(f"sampler_name says {last}, scheduler {body.scheduler}: leave one of them out", "scheduler")
        sampler, scheduler = first, last.lower()
    if scheduler not in (AUTOMATIC, *grids):
        raise invalid(str(unknown("scheduler", scheduler, (AUTOMATIC, *grids))), "scheduler")
    found, grid = SAMPLERS.get(sampler.lower(), sampler) or None, grids.get(scheduler)
    if grid is None and found and system == CHECKPOINTS:
        usual = AUTOMATIC_GRIDS.get(found, "normal")
        grid = usual if usual in choices else None
    return found, grid


def grids_of(system: str) -> dict[str, str]:
    """Our grids by A1111's names and by ours, in small letters."""
    return {text.lower(): grid for grid, names in SCHEDULERS[system].items() for text in (grid, *names)}


def name_of(checkpoint: str, user: User, engine: Engine) -> str:
    """The model of a name, an alias or a title."""
    return engine.catalogue.real_name(re.sub(r"\s*\[\w*\]$", "", checkpoint), user.id)


def limits_of(folder: Path) -> Any:
    """What a model narrows of the verb's options; nothing where its system is not installed."""
    return card(folder)["limits"].get(VERB, {})


def is_xl(path: Path) -> bool:
    with suppress(UserError):  # of a file that broke meanwhile, which says so when its job is taken in
        return read_facts(path).family.startswith("SDXL")
    return False


def chosen_model(user: User, engine: Engine) -> str:
    """That of POST options, or what the verb takes if none is named. APIError for one that is gone."""
    chosen = accounts.a1111_model(engine.store, user.id)
    if chosen is None:
        return str(base.options(systems()[SYSTEM].verbs[VERB].request)["model"].default)
    if chosen not in models_of(user, engine):
        message = f"the model '{chosen}', which POST options chose, is gone: choose another there"
        raise APIError(404, message, "model_not_found", "sd_model_checkpoint")
    return chosen


def side(body: Generation, default_size: int) -> int | None:
    """Of the picture, in pixels; None if that is left to the model."""
    width, height = body.width or body.height, body.height or body.width
    if isinstance(body, Txt2Img) and body.enable_hr:
        x, y, scale = body.hr_resize_x, body.hr_resize_y, body.hr_scale or 2
        width, height = (
            x or y or round(scale * (width or default_size)),
            y or x or round(scale * (height or default_size)),
        )
    if width is not None and (width != height or width > MAX_SIDE):
        message = f"{width} x {height}: the models draw squares of up to {MAX_SIDE} pixels; ask for width = height"
        raise invalid(message, "width")
    return width


def load_picture(text: str, param: str) -> Image.Image:
    return Image.open(BytesIO(uploads.clean(uploads.from_base64(text, param), param)))


def reshaped(picture: Image.Image, mode: int, size: tuple[int, int] | None) -> Image.Image:
    """A picture that came in, at a width and height as `resize_mode` says; without them as a square, to which the
    model pads it itself."""
    side = max(picture.size)
    if picture.size == size or (size is None and mode == 2):
        return picture
    size = size or (side, side)
    if mode == 2:
        return padded(picture, size)
    if mode == 1:
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    return picture.resize(size, Image.Resampling.LANCZOS)


def padded(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole picture in the middle, its outermost pixels repeated."""
    pixels = np.asarray(ImageOps.contain(picture, size, Image.Resampling.LANCZOS))
    more = [total - there for total, there in zip(size[::-1], pixels.shape, strict=False)]
    pads = [(one // 2, one - one // 2) for one in more] + [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, pads, mode="edge"))


def inverted(mask: Image.Image) -> Image.Image:
    black = Image.new("RGBA", mask.size, "black")
    return ImageOps.invert(Image.alpha_composite(black, mask.convert("RGBA")).convert("L"))


def png_of(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def filled(picture: Image.Image, mask: Image.Image, fill: int) -> Image.Image:
    """The picture with other content where the mask is white, as `inpainting_fill` says."""
    if fill == 1:
        return picture
    pixels = np.array(picture.convert("RGBA"))
    hole = np.asarray(load_mask(mask).resize(picture.size, Image.Resampling.BOX)) > 127
    if fill == 0:
        content = surroundings(on_white(pixels[None])[0], hole)
    elif fill == 2:  # the same each time: that of the seed comes in sampling
        content = np.random.default_rng(0).integers(0, 256, (*hole.shape, 3), np.uint8)
    else:
        content = np.full((*hole.shape, 3), 127, np.uint8)
    pixels[hole, :3], pixels[hole, 3] = content[hole], 255
    return Image.fromarray(pixels)


def answer_of(body: Generation, row: Any, previews: list[tuple[int, str]], engine: Engine) -> Answer:
    """The pictures of the job; of one that was interrupted, those that were done by then, and its newest preview."""
    interrupted = row.status == "cancelled"
    if not interrupted:
        check_done(row)
    results = engine.store.results_of(row.id)
    recipes = [result.recipe for result in results]
    begun = recipes[0] if recipes else usual_recipe(row, engine)
    images = [engine.store.read(result.files[0]) for result in results]
    if interrupted and previews and previews[-1][0] == len(results):
        picture = Image.open(BytesIO(base64.b64decode(previews[-1][1])))
        size = shape_of(begun) if all(shape_of(begun)) else picture.size
        images.append(encode_png(picture.resize(size, Image.Resampling.LANCZOS)))
        recipes.append(begun | {"seed": row.request["seed"] + len(results), "unfinished": True})
    for i, (png, recipe) in enumerate(zip(images, recipes, strict=True)):
        if b"parameters\0" not in png[:MAX_HEAD]:  # a checkpoint's picture has them
            images[i] = add_text(png, "parameters", infotext(recipe))
    hidden = {"override_settings", "alwayson_scripts"}
    if isinstance(body, Img2Img) and not body.include_init_images:
        hidden |= {"init_images", "mask"}
    return Answer(
        images=[base64.b64encode(image).decode() for image in images if body.send_images is not False],
        parameters=body.model_dump(exclude=hidden),
        info=json.dumps(info_of(body, row, begun, recipes) | {"interrupted": interrupted}, ensure_ascii=False),
    )


def usual_recipe(row: Any, engine: Engine) -> dict[str, Any]:
    """What the first picture of the job will have in its recipe: what is not asked for is as is usual."""
    request, masked = row.request, row.request["mask"] is not None
    folder = engine.catalogue.folder(row.model, row.user_id)
    if row.system == CHECKPOINTS:
        narrowed = limits_of(folder)
        usual = {name: narrowed[name].default for name in ("sampler", "steps", "grid", "guidance")}
        side = narrowed["size"].default if request["image"] is None else None  # else it is of the picture's shape
        usual |= {"width": side, "height": side, "hash": hash_so_far(folder, time.monotonic() + HASHING)}
        edits = narrowed["strength"].absent
    elif row.system == ENGINES:
        usual, edits = {"width": None, "height": None}, True
    else:
        config, edits = read_config(folder), False
        usual = {"sampler": default_sampler(config, masked), "steps": config.steps, "guidance": config.guidance}
        usual |= {"size": config.picture_size, "hash": fingerprint(folder)}
    usual["strength"] = None if request["image"] is None or edits else default_strength(masked)
    given = {name: value for name, value in request.items() if value is not None or name not in usual}
    return {**usual, **given, "system": row.system, "version": __version__}


def info_of(body: Generation, row: Any, first: dict[str, Any], recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """What clients read in `info`."""
    seeds = [recipe["seed"] for recipe in recipes]
    return {
        "prompt": first["prompt"],
        "all_prompts": [first["prompt"]] * len(recipes),
        "negative_prompt": first.get("negative", ""),
        "all_negative_prompts": [first.get("negative", "")] * len(recipes),
        "seed": first["seed"],
        "all_seeds": seeds,
        "subseed": first["seed"],
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": shape_of(first)[0],
        "height": shape_of(first)[1],
        "sampler_name": NAMES.get(first.get("sampler", ""), first.get("sampler", "")),
        "cfg_scale": first.get("guidance"),
        "steps": first.get("steps"),
        "batch_size": body.batch_size or 1,
        "sd_model_name": first.get("model", row.model),
        "sd_model_hash": text_of(first.get("hash"))[:10],
        "denoising_strength": first.get("strength"),
        "styles": [first["style"]] if first.get("style") else [],
        "clip_skip": first.get("clip_skip", 0) + 1,
        "index_of_first_image": 0,
        "infotexts": [infotext(recipe) for recipe in recipes],
        "job_timestamp": timestamp(row.created),
    }


def infotext(recipe: dict[str, Any]) -> str:
    """A recipe in the form in which A1111 writes its own."""
    if recipe.get("system") == CHECKPOINTS and "unfinished" not in recipe:
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # it may be anyone's, and hold anything
            return checkpoint_infotext(recipe)
    negative = text_of(recipe.get("negative"))
    last = ", ".join(f"{name}: {quote(value)}" for name, value in infotext_params(recipe).items())
    return "\n".join([text_of(recipe.get("prompt")), *([f"Negative prompt: {negative}"] if negative else []), last])


def infotext_params(recipe: dict[str, Any]) -> dict[str, str]:
    """What a recipe says beside the words, by A1111's names. It may be anyone's, and hold anything."""
    if recipe.get("system") == CHECKPOINTS and "unfinished" not in recipe:
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            return split_infotext(checkpoint_infotext(recipe))[2]
    width, height = map(text_of, shape_of(recipe))
    grid, sampler = text_of(recipe.get("grid")) or "uniform", text_of(recipe.get("sampler"))
    grids = CHECKPOINT_GRIDS if recipe.get("system") == CHECKPOINTS else SQUARE_GRIDS
    clip_skip = recipe.get("clip_skip")
    facts = {
        "Steps": recipe.get("steps"),
        "Sampler": NAMES.get(sampler, sampler),
        "Schedule type": "" if sampler in (TUNED, "") else grids.get(grid, [grid])[0],
        "CFG scale": recipe.get("guidance"),
        "Seed": recipe.get("seed"),
        "Size": width and f"{width}x{height}",
        "Model hash": text_of(recipe.get("hash"))[:10],
        "Model": recipe.get("model"),
        "Style": recipe.get("style"),
        "Denoising strength": recipe.get("strength"),
        "Clip skip": clip_skip + 1 if clip_skip and isinstance(clip_skip, int) else None,
        "Unfinished": recipe.get("unfinished"),
        "Version": f"inkwash {text_of(recipe.get('version'))}",
    }
    return {name: text for name, value in facts.items() if (text := text_of(value))}


def text_of(value: Any) -> str:
    """As text of bounded length that any answer can hold; nothing for what is no text or number."""
    return str(value)[:MAX_PROMPT].encode("utf-8", "replace").decode() if isinstance(value, str | int | float) else ""


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def timestamp(moment: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(moment))


# on the way


def current(user: User, engine: Engine) -> Any:
    """Of the user's own open jobs that came by this API, the one that is drawn, or else is next; or None."""
    rows = engine.store.jobs(user.id, status=OPEN, limit=2 * MAX_QUEUED_EACH)
    open_jobs = [row for row in rows if row.api == API]
    return min(open_jobs, key=lambda row: (row.status != "running", row.created), default=None)


@router.get(f"{SD}/progress")
def progress(user: CurrentUser, engine: CurrentEngine, skip_current_image: bool = False) -> Progress:
    """How far one's own job is that came by this API; nothing of another user's."""
    row = current(user, engine)
    if row is None:
        return Progress()
    latest = engine.progress.get(row.id) or JobProgress(row.part)
    fraction = min(1.0, (latest.place + latest.done / max(1, latest.total)) / row.parts)
    elapsed = 0.0 if row.started is None else engine.store.clock() - row.started
    position = engine.store.queue_position(row) if row.status == "queued" else 0
    return Progress(
        progress=fraction,
        eta_relative=elapsed * (1 - fraction) / fraction if fraction else 0.0,
        state=State(
            job=f"picture {latest.place + 1} of {row.parts}",
            job_count=row.parts,
            job_no=latest.place,
            job_timestamp=timestamp(row.created),
            sampling_step=latest.done,
            sampling_steps=latest.total,
        ),
        current_image=None if skip_current_image else latest.preview,
        textinfo=f"{position} jobs before this one" if position else None,
    )


@router.post(f"{SD}/interrupt")
def interrupt(user: CurrentUser, engine: CurrentEngine) -> dict[str, str]:
    """Ends the job that `progress` tells of: one's own, never another user's. Its request is answered with the
    pictures that are done, and the one that was forming as far as it was."""
    row = current(user, engine)
    if row is not None:
        engine.change(user, row.id, engine.store.cancel)
    return {}


@router.post(f"{SD}/skip")
def skip(user: CurrentUser, engine: CurrentEngine) -> dict[str, str]:
    """Ends a job of one picture, as interrupt does. Of several pictures none can be left out."""
    row = current(user, engine)
    if row is not None and row.parts > 1:
        raise APIError(422, "a job of several pictures can be interrupted, but none of them skipped", "not_possible")
    return interrupt(user, engine)


# what there is


@lru_cache(maxsize=100)
def fingerprint(folder: Path) -> str:
    """The model's hash, as recipes have it."""
    return weights_hash({name: component.folder for name, component in read_index(folder).items()})


def hash_of(folder: Path, until: float) -> str | None:
    """Of a model; None while a large file is read: no longer than until this moment of time.monotonic()."""
    system = system_of(folder).name
    return None if system == ENGINES else hash_so_far(folder, until) if system == CHECKPOINTS else fingerprint(folder)


def checkpoint(name: str, folder: Path, until: float) -> Checkpoint:
    sha256 = hash_of(folder, until) if folder.exists() else None
    short = None if sha256 is None else sha256[:10]
    title = name if short is None else f"{name} [{short}]"
    return Checkpoint(title=title, model_name=name, hash=short, sha256=sha256, filename=name)


def choices(option: str, user: User, engine: Engine) -> list[str]:
    """Of an option of the verb, in all models."""
    found = dict[str, None]()
    for one in engine.catalogue.cards(user.id):
        verb = systems()[one["system"]].verbs.get(VERB) if one["system"] in SYSTEMS else None
        if verb is not None and option in base.options(verb.request):
            narrowed = one["limits"].get(VERB, {}).get(option)
            own = narrowed.choices if narrowed else ()
            found |= dict.fromkeys(own or base.options(verb.request)[option].choices)
    return list(found)


@router.get(f"{SD}/sd-models")
def sd_models(user: CurrentUser, engine: CurrentEngine) -> list[Checkpoint]:
    """The models. POST options chooses one, `override_settings: {"sd_model_checkpoint": ...}` for one request."""
    until = time.monotonic() + HASHING
    return [checkpoint(*model, until) for model in models_of(user, engine).items()]


@router.get(f"{SD}/samplers")
def samplers(user: CurrentUser, engine: CurrentEngine) -> list[Sampler]:
    """The samplers. A1111's older names, as "DPM++ 2M Karras", are a sampler and a scheduler."""
    found = choices("sampler", user, engine)
    return [Sampler(name=NAMES.get(sampler, sampler), aliases=[sampler]) for sampler in found]


@router.get(f"{SD}/schedulers")
def schedulers(user: CurrentUser, engine: CurrentEngine) -> list[Scheduler]:
    """How steps can lie in time, with the models that there are."""
    found = [Scheduler(name=AUTOMATIC, label="Automatic", aliases=[])]
    more = CHECKPOINT_GRIDS if engine.catalogue.of_system(CHECKPOINTS, user.id) else {}
    labels = {names[0] for names in more.values()}
    for grid, names in (SQUARE_GRIDS | more).items():
        aliases = [name for name in names[1:] if name not in labels]
        found.append(Scheduler(name=grid, label=names[0], aliases=aliases))
    return found


@router.get(f"{SD}/prompt-styles")
def prompt_styles(user: CurrentUser, engine: CurrentEngine) -> list[Style]:
    """The models' styles, for `styles`. They are no words that are added to the prompt."""
    return [Style(name=name) for name in choices("style", user, engine)]


@router.get(f"{SD}/options")
def options(user: CurrentUser, engine: CurrentEngine) -> Options:
    """The settings of A1111 that mean something here. The model can be changed."""
    name = chosen_model(user, engine)
    model = checkpoint(name, engine.catalogue.folder(name, user.id), time.monotonic() + HASHING)
    return Options(sd_model_checkpoint=model.title, sd_checkpoint_hash=model.sha256)


@router.post(f"{SD}/options")
def set_options(body: Choice, user: CurrentUser, engine: CurrentEngine) -> None:
    """Chooses the model for those of one's requests that name none; who is in an open studio shares one choice."""
    models = {model.model_name: model.sha256 for model in sd_models(user, engine)}
    settings = body.model_extra or {}
    if settings.get("sd_checkpoint_hash") in [None, *models.values()]:  # clients send back all that GET options says
        settings.pop("sd_checkpoint_hash", None)
    check_settings(settings, "options")
    if body.sd_model_checkpoint is not None:
        name = name_of(body.sd_model_checkpoint, user, engine)
        if name not in models:
            raise APIError(404, str(unknown("model", name[:60], models)), "model_not_found", "sd_model_checkpoint")
        accounts.choose_a1111_model(engine.store, user.id, name)


@router.get(f"{SD}/memory")
def memory(user: CurrentUser, engine: CurrentEngine) -> Memory:
    """Bytes that the processes that draw take, and may take."""
    used = sum(worker.memory for worker in engine.workers.values())
    total = 1e6 * engine.settings.memory * len(engine.workers)
    return Memory(ram={"free": max(0.0, total - used), "used": used, "total": total})


@router.post(f"{SD}/png-info")
def png_info(body: Png, user: CurrentUser) -> PngInfo:
    """The recipe in a PNG that inkwash made, in A1111's form."""
    try:
        recipe = recipe_in(uploads.from_base64(body.image, "image"), "image")
    except APIError as error:
        if error.code != "no_recipe":
            raise
        return PngInfo(info="", items={}, parameters={})
    words = {"Prompt": text_of(recipe.get("prompt")), "Negative prompt": text_of(recipe.get("negative"))}
    text = infotext(recipe)
    return PngInfo(info=text, items={"parameters": text}, parameters={**words, **infotext_params(recipe)})


# what there is not, and what changes nothing

Lists = dict[str, list[str]]
CONTROL = {"module_list": ["none"], "model_list": ["None"], "default_option": "none", "default_model": "None"}
CONSTANT: dict[str, tuple[Any, Any]] = {  # types and answers
    f"GET {SD}/upscalers": (list[Named], [{"name": "None"}]),
    f"GET {SD}/latent-upscale-modes": (list[Named], []),
    f"GET {SD}/sd-vae": (list[Named], []),
    f"GET {SD}/loras": (list[Named], []),
    f"GET {SD}/hypernetworks": (list[Named], []),
    f"GET {SD}/embeddings": (dict[str, dict[str, str]], {"loaded": {}, "skipped": {}}),
    f"GET {SD}/face-restorers": (list[Named], []),
    f"GET {SD}/realesrgan-models": (list[Named], []),
    f"GET {SD}/scripts": (Lists, {"txt2img": [], "img2img": []}),
    f"GET {SD}/script-info": (list[Named], []),
    f"GET {SD}/cmd-flags": (dict[str, str], {}),
    f"POST {SD}/refresh-checkpoints": (dict[str, str], {}),
    f"POST {SD}/unload-checkpoint": (dict[str, str], {}),
    f"POST {SD}/reload-checkpoint": (dict[str, str], {}),
    "GET /controlnet/version": (dict[str, int], {"version": 0}),
    "GET /controlnet/model_list": (Lists, {"model_list": []}),
    "GET /controlnet/module_list": (Lists, {"module_list": ["none"]}),
    "GET /controlnet/control_types": (dict[str, dict[str, dict[str, Any]]], {"control_types": {"All": CONTROL}}),
}
UNSUPPORTED = {
    f"{SD}/interrogate": (422, "no model here puts a picture into words"),
    f"{SD}/extra-single-image": (422, "there is no upscaler here for pictures from elsewhere, and no face restorer"),
    f"{SD}/extra-batch-images": (422, "there is no upscaler here for pictures from elsewhere, and no face restorer"),
    "/controlnet/detect": (422, "there are no ControlNet preprocessors here"),
}


def constant(answer: Any) -> Any:
    def route(user: CurrentUser) -> Any:
        """Always the same: of what else A1111 has there is nothing here."""
        return answer

    return route


def unsupported(status: int, message: str) -> Any:
    def route(user: CurrentUser) -> None:
        """Always refused."""
        raise APIError(status, message, "not_possible")

    return route


for method_path, (kind, answer) in CONSTANT.items():
    method, path = method_path.split()
    router.add_api_route(path, constant(answer), methods=[method], response_model=kind, name=path.rpartition("/")[2])
for path, why in UNSUPPORTED.items():
    router.add_api_route(path, unsupported(*why), methods=["POST"], name=path.rpartition("/")[2])
