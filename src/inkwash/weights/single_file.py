"""The names of tensors in a single .safetensors file of Stable Diffusion, and in folders of the diffusers format.

A single file is laid out as the first programs of its family were: `model.diffusion_model.` the U-Net,
`first_stage_model.` the autoencoder, and the text encoders as transformers' CLIP or OpenCLIP has them. Only names and
shapes differ; no number is changed, so what is written and read again is the same to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from inkwash.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embedding.cond_proj",  # of latent consistency: nobody has given it another name
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "resnets": "block",
}
OPENCLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}
FUSED = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
# What no network needs: numbers of places; of OpenCLIP the scale of its loss and, in Stable Diffusion 2, what comes
# after the states that it takes; of the autoencoder the networks of its loss.
IDLE = r"\.position_ids$|\.logit_scale$|\.attn_mask$|\.resblocks\.23\.|\.text_projection$|^first_stage_model\.loss\."


class Source(NamedTuple):
    """Where a tensor of a folder lies in a single file: under this name, and if `part` is given as that third of the
    rows there, transposed, or as the kernel of a convolution of width 1."""

    name: str
    part: int | None = None
    transposed: bool = False
    kernel: bool = False


class Component(NamedTuple):
    """A network of a single file: the prefix of its names, and the sources of its tensors from their names."""

    prefix: str
    sources: Callable[[Collection[str]], dict[str, Source]]


def unet_sources(names: Collection[str]) -> dict[str, Source]:
    """Of a U-Net with equally many resnets in each of its blocks."""
    stride = 1 + len({m[1] for name in names if (m := re.match(r"down_blocks\.0\.resnets\.(\d+)", name))})
    attending = {m[1] for name in names if (m := re.match(r"up_blocks\.(\d+)\.attentions", name))}

    def original(name: str) -> str:
        if match := re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name):
            side, block, kind, number, rest = match.groups()
            place = stride * int(block) + int(number)
            into = f"input_blocks.{place + 1}" if side == "down" else f"output_blocks.{place}"  # conv_in is the first
            return f"{into}.0.{resnet(rest)}" if kind == "resnets" else f"{into}.1.{rest}"
        if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
            kind, number, rest = match.groups()
            return f"middle_block.{2 * int(number)}.{resnet(rest)}" if kind == "resnets" else f"middle_block.1.{rest}"
        if match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", name):
            return f"input_blocks.{stride * (int(match[1]) + 1)}.0.op.{match[2]}"
        if match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.+)", name):
            place = stride * int(match[1]) + stride - 1
            return f"output_blocks.{place}.{1 + (match[1] in attending)}.conv.{match[2]}"
        layer, _, kind = name.rpartition(".")
        if layer not in UNET:
            raise UserError(f"a single file has no place for the U-Net's {name}")
        return f"{UNET[layer]}.{kind}"

    return {name: Source(original(name)) for name in names}


def resnet(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{RESNET[layer]}.{kind}"


def vae_sources(names: Collection[str]) -> dict[str, Source]:
    """Of an autoencoder: its blocks on the way up are numbered from the end, its attention is of convolutions."""
    last = max(int(m[1]) for name in names if (m := re.match(r"decoder\.up_blocks\.(\d+)", name)))

    def original(name: str) -> str:
        name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{last - int(m[1])}", name.replace("down_blocks", "down"))
        return replace_layers(name, VAE)

    def is_kernel(name: str) -> bool:
        return re.search(r"attentions\.0\.to_.+\.weight", name) is not None

    return {name: Source(original(name), kernel=is_kernel(name)) for name in names}


def clip_sources(names: Collection[str]) -> dict[str, Source]:
    """Of a text encoder that lies there as transformers saved it."""
    return {name: Source(name) for name in names}


def openclip_sources(names: Collection[str]) -> dict[str, Source]:
    """Of a text encoder that lies there as OpenCLIP's: queries, keys and values in one, the projection transposed."""

    def source(name: str) -> Source:
        if name == "text_projection.weight":
            return Source("text_projection", transposed=True)
        original = replace_layers(name.removeprefix("text_model."), OPENCLIP)
        if match := re.search(r"\.(q_proj|k_proj|v_proj)\.(weight|bias)$", original):
            return Source(f"{original[: match.start()]}.in_proj_{match[2]}", part=FUSED[match[1]])
        return Source(original)

    return {name: source(name) for name in names}


def replace_layers(name: str, layers: Mapping[str, str]) -> str:
    for layer, other in layers.items():
        name = re.sub(rf"(?<![^.]){re.escape(layer)}(?![^.])", other, name)
    return name


NETWORKS = {
    "unet": Component("model.diffusion_model.", unet_sources),
    "vae": Component("first_stage_model.", vae_sources),
}
# The networks of each family, by the names of their folders.
FAMILIES: dict[str, dict[str, Component]] = {
    "sd1": NETWORKS | {"text_encoder": Component("cond_stage_model.transformer.", clip_sources)},
    "sd2": NETWORKS | {"text_encoder": Component("cond_stage_model.model.", openclip_sources)},
    "sdxl": NETWORKS
    | {
        "text_encoder": Component("conditioner.embedders.0.transformer.", clip_sources),
        "text_encoder_2": Component("conditioner.embedders.1.model.", openclip_sources),
    },
    "sdxl-refiner": NETWORKS | {"text_encoder_2": Component("conditioner.embedders.0.model.", openclip_sources)},
}


def find_family(names: Iterable[str]) -> str | None:
    """The family that the tensors of a single file are of, by its text encoders; None if by none of these."""
    names = list(names)
    for family in ("sdxl", "sdxl-refiner", "sd2", "sd1"):
        encoders = FAMILIES[family].keys() - NETWORKS
        prefixes = [FAMILIES[family][folder].prefix for folder in encoders]
        if all(any(name.startswith(prefix) for name in names) for prefix in prefixes):
            return family
    return None


def from_single_file(component: Component, tensors: Tensors, names: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a network of these names, out of those of a single file, whose memory they share.

    Those that are missing there are left out, and those that this network does not have keep the names they have.
    """
    found, left = {}, dict(tensors)
    for name, source in component.sources(names).items():
        # transformers 5 leaves out the layer that holds all others
        for key in (component.prefix + source.name, component.prefix + source.name.removeprefix("text_model.")):
            if key in tensors:
                found[name] = from_source(tensors[key], source)
                left.pop(key, None)
    idle = re.compile(IDLE)
    return found | {key: tensor for key, tensor in left.items() if not idle.search(key)}


def from_source(tensor: Tensor, source: Source) -> Tensor:
    """As it is in a folder; as it is, for whoever checks shapes, if it is not what lies in such a file."""
    if source.part is not None and tensor.ndim and len(tensor) % 3 == 0:
        tensor = tensor.chunk(3)[source.part]
    if source.kernel and tensor.shape[2:] == (1, 1):
        tensor = tensor.flatten(1)
    return tensor.T if source.transposed and tensor.ndim == 2 else tensor


def to_single_file(component: Component, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors of a network under the names, and of the shapes, that they have in a single file."""
    import torch

    found: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, source in component.sources(tensors).items():
        tensor, key = tensors[name], component.prefix + source.name
        if source.part is not None:
            parts.setdefault(key, {})[source.part] = tensor
            continue
        tensor = tensor[..., None, None] if source.kernel else tensor
        found[key] = tensor.T if source.transposed else tensor
    return found | {key: torch.cat([thirds[i] for i in range(3)]) for key, thirds in parts.items()}
