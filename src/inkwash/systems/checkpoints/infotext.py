"""Recipes as A1111 writes them into its pictures (`parameters`), read for our options and written from our recipes.

    a cat
    Negative prompt: a dog
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Clip skip: 2

Forge, Civitai and others read and write the same. Loads no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.checkpoints.wildcards import literal

SAMPLERS = {  # A1111's names of our samplers, where they are the same method
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "lms": "LMS",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "ddim": "DDIM",
    "unipc": "UniPC",
    "consistency": "LCM",
    "ancestral": "DDPM",
    "deis": "DEIS",
}
GRIDS = {  # A1111's names of our grids
    "normal": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
}
AUTOMATIC = {  # what A1111 takes with the schedule type "Automatic"; others Uniform
    "dpm2": "karras",
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpmpp_2m_sde": "exponential",
    "ddim": "leading",
}
BROWNIAN = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
OURS = {name.lower(): sampler for sampler, name in SAMPLERS.items()}
OUR_GRIDS = {name.lower(): grid for grid, name in GRIDS.items()} | {"normal": "normal"}
SOURCES = {"gpu": "a1111", "nv": "a1111", "cpu": "a1111-cpu"}
WEIGHTINGS = {"original": "a1111", "none": "none"}
UPSCALERS = {"latent": "Latent", "lanczos": "Lanczos"}  # A1111's names of ours
CLIP_SKIP = (
    "clip_skip is that of SD 1 and 2: leave it out for SDXL, of which those tools leave out one layer in any case"
)
OWN = {"Seed like": "seed_like", "Weighting": "weighting"}  # fields of ours, where no other tool has one
NEGATIVE = "Negative prompt:"
KEY = re.compile(r"\s*(\w[\w \-/]+):\s*")
END = re.compile(rf",(?=\s*\Z|{KEY.pattern})|\Z")  # of a value: a comma that no key follows is one of its own
JSON = json.JSONDecoder()
MAX_TEXT = 1_000_000
SAID = {
    "model hash",
    "version",
    "vae hash",
    "lora hashes",
    "ti hashes",
    "hashes",
    "created date",
    "user",
}  # no options


class Settings(NamedTuple):
    """options: ours, of `StableDiffusion.generate`, with `model` as the file calls it. notes: what of the recipe
    could not be taken, a line each."""

    options: dict[str, Any]
    notes: list[str]


def read_infotext(text: str) -> Settings:
    """The options that an infotext names, and notes of what has none here. UserError for JSON, as SwarmUI and Fooocus
    write it in its place."""
    if is_json(text):
        raise UserError("its settings are JSON of another program, which is not read; give its words as a prompt")
    prompt, negative, fields = split_infotext(text)
    options: dict[str, Any] = {"prompt": prompt, "negative": negative}
    notes = [] if fields else ["it says nothing beside the words"]
    for key in [key for key, value in fields.items() if "," in value and key.lower() in ONE]:
        fields[key], _, rest = fields[key].partition(",")
        notes.append(f"{rest.strip()[:60]} is not taken")
    for key, value in fields.items():
        if key.lower() in READERS:
            try:
                options |= READERS[key.lower()](value)
            except (KeyError, ValueError, OverflowError):
                notes.append(f"{key}: {value[:60]!r} is nothing that is known here")
        elif key.lower() not in SAID and key not in ("Sampler", "Schedule type"):
            notes.append(f"{key}: {value[:60]} is not taken")
    named, noted = read_sampler(fields)
    options |= named
    if options.get("clip_skip"):
        notes.append(CLIP_SKIP)
    if "Model hash" in fields and "Model" not in fields:
        notes.append(f"Model hash: {fields['Model hash'][:60]}: the model has no name there; name it with model")
    if "hires" not in options:  # without which the others say nothing
        lost = [name for name in ("hires_steps", "hires_upscaler") if options.pop(name, None) is not None]
        notes += [f"{name} is of a second pass that is not taken" for name in lost]
    if "hires" in options and "strength" in options:
        options["hires_strength"] = options.pop("strength")
    elif any(key.startswith("Hires") for key in fields) and "strength" in options:
        notes.append(f"Denoising strength: {options.pop('strength'):g} is of the second pass, which is not taken")
    elif "strength" in options:
        notes.append("the picture to begin from is not in the file: give it with image")
    if fields:
        options = implied_by(fields.get("Version", "")) | options
    if options.get("weighting") != "none" and not fields.get("Version", "").startswith("inkwash"):
        options |= {name: literal(options[name]) for name in ("prompt", "negative")}  # whose choices are made
    return without_paths(Settings(options, notes + noted))


def without_paths(settings: Settings) -> Settings:
    """Without the noise of another tool for a sampler that draws a Brownian path, which is not theirs here."""
    options, notes = settings
    if options.get("sampler") not in BROWNIAN or "seed_like" not in options:
        return settings
    note = f"sampler {options['sampler']}: its noise is another tool's package's; ours makes another picture"
    return Settings({name: value for name, value in options.items() if name != "seed_like"}, [*notes, note])


def is_json(text: str) -> bool:
    """Whether it is an object of JSON, and not words."""
    try:
        return isinstance(json.loads(text[:MAX_TEXT]), dict)
    except (ValueError, RecursionError):
        return False


def implied_by(version: str) -> dict[str, Any]:
    """The noise and the weighting of the program that wrote the fields, as far as they do not say them."""
    if version.startswith("inkwash"):
        return {}
    return {"seed_like": "comfyui", "weighting": "comfyui"} if version == "ComfyUI" else {"seed_like": "a1111"}


def split_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and the fields of the last line, or of that with the steps and what extensions write
    below it; fewer than three are words of the prompt."""
    lines = text[:MAX_TEXT].strip().splitlines()
    last = max((i for i, line in enumerate(lines) if line.strip().startswith("Steps:")), default=len(lines) - 1)
    fields = parse_fields(", ".join(lines[last:]))
    if len(fields) < 3:
        fields = {}
    body = lines[:last] if fields else lines
    start = next((i for i, line in enumerate(body) if line.strip().startswith(NEGATIVE)), len(body))
    negative = "\n".join(body[start:]).strip().removeprefix(NEGATIVE)
    return "\n".join(body[:start]).strip(), negative.strip(), fields


def parse_fields(line: str) -> dict[str, str]:
    """ "Key: value, key: value", where a value in quotes, or that is JSON, may hold commas and colons."""
    fields, at = dict[str, str](), 0
    while (found := KEY.match(line, at)) is not None:
        value, at = parse_value(line, found.end())
        fields.setdefault(found[1], value)
        at = end_of(line, at).end()
    return fields


def parse_value(line: str, at: int) -> tuple[str, int]:
    """A value that begins at a place of the line, and the place where it ends."""
    if line[at : at + 1] in ('"', "{", "["):
        try:
            value, end = JSON.raw_decode(line, at)
            return (value if isinstance(value, str) else line[at:end]), end
        except (ValueError, RecursionError):
            pass
    end = end_of(line, at).start()
    return line[at:end].strip(), end


def end_of(line: str, at: int) -> re.Match[str]:
    found = END.search(line, at)
    assert found is not None  # there is one at the end of the line
    return found


def read_sampler(fields: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """sampler and grid. Until A1111 1.9 the grid was part of the sampler's name, "DPM++ 2M Karras"."""
    if (name := fields.get("Sampler")) is None:
        return {}, []
    kind = fields.get("Schedule type", "")
    if not kind:
        kind = next((kind for kind in ("Karras", "Exponential") if name.endswith(f" {kind}")), "")
        name = name.removesuffix(f" {kind}") if kind else name
    sampler = name if name in diffusion.SAMPLERS else OURS.get(name.lower())
    if sampler is None:
        named = {"grid": OUR_GRIDS[kind.lower()]} if kind.lower() in OUR_GRIDS else {}
        return named, [f"Sampler: {name} is not here; choose another, which draws another picture"]
    if kind in diffusion.GRIDS or kind.lower() in OUR_GRIDS:  # "uniform" is ours, "Uniform" is A1111's
        return {"sampler": sampler, "grid": kind if kind in diffusion.GRIDS else OUR_GRIDS[kind.lower()]}, []
    if kind and kind.lower() != "automatic":
        return {"sampler": sampler}, [f"Schedule type: {kind} is not here; choose another grid"]
    if sampler == "unipc":
        return {"sampler": sampler, "grid": "uniform"}, ["UniPC: its steps lie near to the grid uniform, not upon it"]
    grid = AUTOMATIC.get(sampler, "normal") if kind or sampler == "ddim" else "normal"
    return {"sampler": sampler, "grid": grid}, []


def read_size(value: str) -> dict[str, Any]:
    width, height = value.lower().split("x")
    return {"width": int(width), "height": int(height)}


def read_hires(value: str) -> dict[str, Any]:
    if not (times := float(value)) > 1:
        raise ValueError(value)
    return {"hires": times}


def whole(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {name: int(value)}


def number(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {name: float(value)}


def lowered(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {name: value.lower()}


READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "steps": whole("steps"),
    "seed": whole("seed"),
    "cfg scale": number("guidance"),
    "denoising strength": number("strength"),
    "size": read_size,
    "clip skip": lambda value: {"clip_skip": max(int(value), 1) - 1},  # A1111 counts the layers that are taken from 1
    "model": lambda value: {"model": value},
    "hires upscale": read_hires,
    "hires steps": lambda value: {"hires_steps": int(value)} if int(value) else {},
    "hires upscaler": lambda value: {"hires_upscaler": {name: own for own, name in UPSCALERS.items()}[value]},
    "tiling": lambda value: {"tiling": {"true": "xy", "false": ""}.get(value.lower(), value.lower())},
    "cfg rescale phi": number("rescale"),
    "rng": lambda value: {"seed_like": SOURCES[value.lower()]},
    "emphasis": lambda value: {"weighting": WEIGHTINGS[value.lower()]},
    **{name.lower(): lowered(option) for name, option in OWN.items()},
}
ONE = {"sampler", "schedule type", *READERS} - {"model"}  # fields of one value; what follows its comma is another's


def infotext(recipe: Mapping[str, Any]) -> str:
    """A recipe of `StableDiffusion.generate` as A1111 writes its own."""
    sampler, grid, model = recipe["sampler"], recipe["grid"], recipe.get("model")
    hashes = ", ".join(f"{name}: {value[:12]}" for name, value in (recipe.get("embeddings") or {}).items())
    name = None if model is None else Path(str(model)).name.removesuffix(".safetensors")
    single, tiling = str(model).endswith(".safetensors"), recipe.get("tiling") or ""
    fields = {
        "Steps": recipe["steps"],
        "Sampler": SAMPLERS.get(sampler, sampler),
        "Schedule type": GRIDS.get(grid, grid),
        "CFG scale": recipe["guidance"],
        "Seed": recipe["seed"],
        "Size": f"{recipe['width']}x{recipe['height']}",
        "Model hash": recipe["hash"][:10] if single and recipe.get("hash") else None,  # of a folder nobody knows it
        "Model": name,
        "VAE": (recipe.get("vae") or {}).get("name"),
        "Denoising strength": recipe.get("hires_strength" if recipe.get("hires") else "strength"),
        "Clip skip": recipe["clip_skip"] + 1 if recipe.get("clip_skip") else None,
        "Hires upscale": recipe.get("hires"),
        "Hires steps": recipe.get("hires_steps"),
        "Hires upscaler": UPSCALERS.get(recipe.get("hires_upscaler") or ""),
        "Refiner": recipe.get("refiner"),
        "Refiner switch at": recipe.get("refiner_start"),
        "Tiling": {"": None, "xy": "True"}.get(tiling, tiling),
        "CFG Rescale phi": recipe.get("rescale") or None,
        "RNG": {"a1111": "GPU", "a1111-cpu": "CPU", "comfyui": "CPU"}.get(recipe.get("seed_like") or ""),
        "Emphasis": "None" if recipe.get("weighting") == "none" else None,
        **{name: "ComfyUI" for name, option in OWN.items() if recipe.get(option) == "comfyui"},
        "TI hashes": hashes or None,
        "Version": f"inkwash {recipe['version']}",
    }
    last = ", ".join(f"{name}: {quote(value)}" for name, value in fields.items() if value is not None)
    negative = [f"{NEGATIVE} {recipe['negative']}"] if recipe.get("negative") else []
    return "\n".join([recipe["prompt"], *negative, last])


def quote(value: Any) -> str:
    """As A1111 writes a value: in quotes where a reader would find an end, or a quote, within it."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) or text[:1] in "{[" else text
