"""Weights that others have quantised, as floating-point numbers again.

    fp8           W = scale q                    `X.scale_weight` (with `scaled_fp8`), or `X.weight_scale`
    int8          W = scale q                    a scale for the whole, or for each output
    int8 convrot  W = (scale q) H                H: of each group of inputs a Hadamard rotation, its own inverse

The newer ones say what they are, by a tensor `X.comfy_quant` that holds JSON, or by the file's metadata, as ComfyUI
writes them. Any other format is named and refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from inkwash.errors import UserError

FP8 = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
KINDS = {dtype: name for name, dtype in FP8.items()} | {torch.int8: "int8_tensorwise"}
GROUP = 256  # inputs that are rotated together, if it is not said
BESIDE = (".comfy_quant", ".weight_scale", ".scale_weight", ".input_scale", ".scale_input")
METADATA = "_quantization_metadata"


def dequantise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str) -> dict[str, Tensor]:
    """The tensors of a file with float32 in the place of what is quantised, without scales and marks; all others as
    they are. UserError, which begins with `source`, for a format that is not read, and for scales that do not fit."""
    formats = of_metadata(metadata)
    found = {}
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if name.endswith(BESIDE) or name.rpartition(".")[2] == "scaled_fp8":
            continue
        facts = formats.get(layer) or of_tensor(tensors.get(f"{layer}.comfy_quant"))
        scale = tensors.get(f"{layer}.weight_scale", tensors.get(f"{layer}.scale_weight"))
        if name != layer and (facts or scale is not None):
            tensor = restored(tensor, scale, facts, f"{source}: {layer}")
        found[name] = tensor
    return found


def of_metadata(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What a file's metadata says of its layers."""
    try:
        layers = json.loads(metadata.get(METADATA) or "{}").get("layers", {})
        return {str(name): dict(facts) for name, facts in layers.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def of_tensor(tensor: Tensor | None) -> dict[str, Any]:
    """What a tensor of bytes of JSON says; nothing without one."""
    if tensor is None:
        return {}
    try:
        return dict(json.loads(bytes(tensor.flatten().tolist())))
    except (ValueError, TypeError):
        return {"format": "a format that cannot be read"}


def restored(tensor: Tensor, scale: Tensor | None, facts: Mapping[str, Any], source: str) -> Tensor:
    """One matrix or kernel in float32."""
    kind = str(facts.get("format", KINDS.get(tensor.dtype, f"{tensor.dtype} with scales")))[:40]
    if kind not in KINDS.values():
        raise UserError(f"{source} is quantised as {kind}, which is not read; give a file of fp8, or unquantised")
    if kind in FP8 and tensor.dtype == torch.uint8:
        tensor = tensor.view(FP8[kind])
    if scale is None:
        raise UserError(f"{source} is quantised and its scale is missing: fetch the file again")
    if scale.numel() not in (1, len(tensor)):
        raise UserError(f"{source} has {scale.numel()} scales for {len(tensor)} outputs: fetch the file again")
    whole = tensor.to(torch.float32) * scale.to(torch.float32).reshape(-1, *[1] * (tensor.ndim - 1))
    options = (facts["params"] if isinstance(facts.get("params"), dict) else {}) | dict(facts)
    return rotated(whole, int(options.get("convrot_groupsize", GROUP)), source) if options.get("convrot") else whole


def rotated(weight: Tensor, size: int, source: str) -> Tensor:
    """Each group of so many inputs turned by the Hadamard matrix of that size."""
    if size < 4 or size.bit_length() % 2 == 0 or size & (size - 1) or weight.shape[-1] % size:
        raise UserError(f"{source} is rotated in groups of {size} of {weight.shape[-1]} inputs, which cannot be")
    return (weight.reshape(len(weight), -1, size) @ hadamard(size)).flatten(1)


@cache
def hadamard(size: int) -> Tensor:
    """The regular one of a power of 4, symmetric and orthogonal: of 4 it is 1/2 (1 - 2 reversed identity), and of
    4 n the Kronecker product of those of n and of 4."""
    four = (1 - 2 * torch.eye(4).flip(1)) / 2
    return four if size == 4 else torch.kron(hadamard(size // 4), four)
