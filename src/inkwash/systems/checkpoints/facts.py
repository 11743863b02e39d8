"""What another tool's checkpoint is, by headers and settings alone. Loads no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inkwash.errors import UserError
from inkwash.weights.families import MODEL
from inkwash.weights.files import digest, weight_files
from inkwash.weights.headers import Header, read_header
from inkwash.weights.scan import describe
from inkwash.weights.shipped import load_json
from inkwash.weights.single_file import FAMILIES, find_family

PAINTS, EDITS = 5, 4  # channels beside those of the state: of a mask and what it leaves; of a picture to edit
NAMES = {"sd1": "SD 1", "sd2": "SD 2", "sdxl": "SDXL", "sdxl-refiner": "SDXL refiner"}
SIDES = {"sd1": 512, "sd2": 768, "sdxl": 1024, "sdxl-refiner": 1024}
ENCODERS = ("text_encoder", "text_encoder_2")
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", **dict.fromkeys(ENCODERS, "model")}


class Facts(NamedTuple):
    """What is known of a checkpoint before it is loaded.

    family    as people call it
    side      of the pictures of its training, in pixels; of a single file of SD 2 it may be 512
    extra     how many channels its U-Net sees beside those of the state
    zero_snr  whether its noise ends in noise alone
    levels    how many its U-Net has
    """

    family: str
    side: int
    extra: int
    zero_snr: bool
    levels: int


def files_of(path: Path) -> list[Path]:
    """The files that hold the weights of a checkpoint: itself, or those of its networks in a folder."""
    if path.is_file():
        return [path]
    places = [path / name / f"{file}.safetensors" for name, file in FILES.items() if (path / name).is_dir()]
    return [file for place in places for file in weight_files(place)]


def hash_of(path: Path) -> str:
    """SHA-256 of a single file, as other tools have it; of a folder that of the hashes of its networks' files."""
    hashes = [digest(file) for file in files_of(path)]
    return hashes[0] if path.is_file() else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_facts(path: Path) -> Facts:
    """UserError, with its right name, for what cannot be drawn."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return _of_file(path) if path.is_file() else _of_folder(path)


def header_of(path: Path) -> Header:
    """UserError, with the path, for a file without a whole header."""
    try:
        return read_header(path)
    except UserError as error:  # which does not say the path
        raise UserError(f"{path}: {error}") from None


def _of_file(path: Path) -> Facts:
    header = header_of(path)
    family = find_family(header.tensors)
    if family is None or header.format != "safetensors":
        raise UserError(f"{path}: {refusal(header)}")
    first = header.tensors.get(FAMILIES[family]["unet"].prefix + "input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4:
        raise UserError(f"{path}: it has the text encoders of {NAMES[family]} and no U-Net: give a file of both")
    if edm := sorted(name for name in header.tensors if name.startswith("edm_")):
        raise UserError(f"{path}: {edm[0]} says that it has EDM's noise, not a table of betas: it cannot be drawn")
    levels = 3 if family == "sdxl" else 4
    return Facts(NAMES[family], SIDES[family], first.shape[1] - 4, "ztsnr" in header.tensors, levels)


def refusal(header: Header) -> str:
    """What a file is that is no checkpoint of ours, and what to do."""
    found = describe(header)
    kind, family = found["kind"], found["family"] or "an unknown family"
    if kind == "unknown":
        return f"no checkpoint of Stable Diffusion 1, 2 or XL, and unknown ({len(header.tensors)} tensors)"
    if header.format == "GGUF":
        return f"{kind} of {family} as GGUF, which is not read: give one of safetensors"
    if kind in (MODEL, "checkpoint"):
        if family.startswith(("SD 1", "SD 2", "SDXL")):
            return f"the diffusion model of {family} alone, without its text encoders: give a file of all networks"
        return f"{family}, which cannot be drawn here: only Stable Diffusion 1, 2 and XL can"
    article = "an" if kind[0] in "AEIOU" or kind.startswith(("image", "embedding", "upscaler")) else "a"
    return f"{article} {kind} for {family}, and no checkpoint: name a checkpoint with --model"


def _of_folder(path: Path) -> Facts:
    index = load_json(path / "model_index.json")
    name = str(index.get("_class_name", "an unknown pipeline"))
    if not (path / "unet").is_dir() or not _has(index, "text_encoder") | _has(index, "text_encoder_2"):
        if "transformer" in index or "unet" not in index:
            raise UserError(f"{path}: {name}, which cannot be drawn here: only Stable Diffusion 1, 2 and XL can")
        raise UserError(f"{path}: unet or its text encoder is missing: fetch the folder again")
    missing = [key for key in FILES if _has(index, key) and not (path / key / "config.json").is_file()]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} is missing: fetch the folder again")
    config = load_json(path / "unet" / "config.json")
    scheduler = load_json(path / "scheduler" / "scheduler_config.json")
    try:
        return Facts(
            _family(config, index),
            8 * int(config.get("sample_size") or 64),
            int(config.get("in_channels", 4)) - int(config.get("out_channels", 4)),
            bool(scheduler.get("rescale_betas_zero_snr")),
            len(config.get("block_out_channels", range(4))),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{path / 'unet' / 'config.json'}: broken ({error}); fetch the folder again") from None


def _has(index: Mapping[str, Any], name: str) -> bool:
    pair = index.get(name)
    return isinstance(pair, list) and len(pair) == 2 and pair[1] is not None


def _family(config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
    if config.get("addition_embed_type") == "text_time":
        return "SDXL" if _has(index, "text_encoder") else "SDXL refiner"
    return {768: "SD 1", 1024: "SD 2"}.get(config.get("cross_attention_dim", 0), "Stable Diffusion")
