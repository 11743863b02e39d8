"""Textual inversion (Gal et al. 2022, 2208.01618): vectors that stand for a word, out of other tools' files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inkwash.errors import UserError
from inkwash.systems.checkpoints.facts import ENCODERS
from inkwash.weights.files import digest, load_tensors

KEYS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}  # of SDXL's two encoders
FAMILIES = {(768,): "SD 1", (1024,): "SD 2", (768, 1280): "SDXL", (1280,): "the refiner of SDXL"}  # by their widths
UNNAMED = "learned_embeds"  # as diffusers calls every file
MAX_VECTORS = 75


class Embedding(NamedTuple):
    """vectors: of each text encoder, (n, its width), n the same in all. file: its name; hash: its SHA-256."""

    name: str
    vectors: dict[str, Tensor]
    hash: str
    file: str = ""


def load_embedding(path: str | Path, components: Mapping[str, Any]) -> Embedding:
    """From a safetensors file for a checkpoint of these components: A1111's (`emb_params`), diffusers' (the token's
    name) or SDXL's (`clip_l`, `clip_g`). Its name is that of the file, as in A1111; of diffusers' learned_embeds the
    token's. UserError for anything else, and for vectors of another family's width."""
    path = Path(path)
    if path.suffix.lower() in (".pt", ".bin", ".pth", ".ckpt"):
        raise UserError(f"{path}: a pickle, which can run code, is not opened: convert it to safetensors")
    tensors, _ = load_tensors(path)
    if tensors.keys() == KEYS.keys():
        vectors = {name: tensors[key] for key, name in KEYS.items()}
    elif len(tensors) == 1:
        vectors = {"text_encoder": next(iter(tensors.values()))}
    else:
        shown = ", ".join(sorted(tensors)[:3]) or "none"
        raise UserError(f"{path}: no embedding of a word: tensors named {shown}; name a file of textual inversion")
    if not all(tensor.is_floating_point() for tensor in vectors.values()):
        raise UserError(f"{path}: whole numbers are no vectors of an embedding: name a file of textual inversion")
    vectors = {name: (tensor if tensor.ndim > 1 else tensor[None]).float() for name, tensor in vectors.items()}
    check(path, vectors, {name: components[name].config["hidden_size"] for name in ENCODERS if name in components})
    name = next(iter(tensors)) if path.stem == UNNAMED and len(tensors) == 1 else path.stem
    if not name.strip():
        raise UserError(f"{path}: a prompt cannot call an embedding without a name: rename the file")
    return Embedding(name, vectors, digest(path), path.name)


def check(path: Path, vectors: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """UserError for vectors that are none of these text encoders'."""
    shapes = {name: tuple(tensor.shape) for name, tensor in vectors.items()}
    counts = {shape[0] for shape in shapes.values()}
    if any(len(shape) != 2 for shape in shapes.values()) or len(counts) > 1 or not 1 <= min(counts) <= MAX_VECTORS:
        raise UserError(
            f"{path}: its shapes are {list(shapes.values())}, not 1 to {MAX_VECTORS} vectors; fetch it again"
        )
    found = {name: shape[1] for name, shape in shapes.items()}
    if found != dict(widths):
        raise UserError(f"{path}: an embedding for {family(found)}; this checkpoint is {family(widths)}")
    if not all(torch.isfinite(tensor).all() for tensor in vectors.values()):
        raise UserError(f"{path}: its vectors hold values that are not finite; fetch it again")


def family(widths: Mapping[str, int]) -> str:
    numbers = tuple(widths.values())
    return f"{FAMILIES.get(numbers, 'another family')} (width {' and '.join(map(str, numbers))})"
