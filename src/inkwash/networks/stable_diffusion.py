"""Stable Diffusion 1, 2 and XL from single .safetensors files, and to them.

Such a file has the weights of all networks and says of none how it is built; so that stands here, by family, in the
words of the diffusers and transformers formats.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from inkwash.errors import UserError, unknown
from inkwash.networks.autoencoder import Autoencoder, rename_former
from inkwash.networks.clip import CLIPTextEncoder
from inkwash.networks.unet import UNet
from inkwash.weights.files import fill, load_names, load_tensors, save_tensors
from inkwash.weights.mapped import map_tensors
from inkwash.weights.quantised import dequantise
from inkwash.weights.single_file import FAMILIES, find_family, from_single_file, to_single_file

CLASSES: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "vae": Autoencoder,
    "text_encoder": CLIPTextEncoder,
    "text_encoder_2": CLIPTextEncoder,
}
SD1_UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD2_UNET: dict[str, Any] = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,  # 1280 of the pooled text, and six times 256
}
REFINER_UNET: dict[str, Any] = SDXL_UNET | {
    "block_out_channels": [384, 768, 1536, 1536],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 1280,
    "attention_head_dim": [6, 12, 24, 24],
    "transformer_layers_per_block": 4,
    "projection_class_embeddings_input_dim": 2560,  # five times 256
}
SD_VAE: dict[str, Any] = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512}
SDXL_VAE: dict[str, Any] = SD_VAE | {"sample_size": 1024, "scaling_factor": 0.13025}
CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_attention_heads": 12,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
OPENCLIP_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,  # of 24: it was trained with the states before the last
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
}
OPENCLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "projection": True,
}
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "sd1": {"unet": SD1_UNET, "vae": SD_VAE, "text_encoder": CLIP_L},
    "sd2": {"unet": SD2_UNET, "vae": SD_VAE | {"sample_size": 768}, "text_encoder": OPENCLIP_H},
    "sdxl": {"unet": SDXL_UNET, "vae": SDXL_VAE, "text_encoder": CLIP_L, "text_encoder_2": OPENCLIP_G},
    "sdxl-refiner": {"unet": REFINER_UNET, "vae": SDXL_VAE, "text_encoder_2": OPENCLIP_G},
}
# What is seen in the file itself: the second size of a tensor of the U-Net, of so many dimensions.
SEEN = {
    "in_channels": ("input_blocks.0.0.weight", 4),
    "time_cond_proj_dim": ("time_embedding.cond_proj.weight", 2),
}


class SingleFile(NamedTuple):
    """What a single file holds. others: the names of tensors that are of none of its networks: of the noise table, of
    averaged weights, and marks such as `v_pred`, `ztsnr` or `edm_mean`, by which a network is to be used in another
    way."""

    family: str
    components: dict[str, nn.Module]
    others: set[str]


def load_single_file(
    path: str | os.PathLike[str], configs: Mapping[str, Mapping[str, Any]] | None = None, mapped: bool = False
) -> SingleFile:
    """The networks of a single file, by the names of their folders, set to evaluate; in float32, or with weights that
    stay in the file (`mapped`), in its precision, to be used by `networks.offload`.

    The autoencoder may be missing. configs: how each is built, where it is not as in CONFIGS; how many channels the
    U-Net takes (9 to paint in, 8 to edit), and whether it takes a guidance scale, is seen in the file. UserError,
    with the file's name, for another family, and for a network with a tensor too few, too many or of another shape.
    """
    path = Path(path)
    names = load_names(path)
    family = find_family(names)
    if family is None:
        raise UserError(f"{path}: no text encoder of Stable Diffusion 1, 2 or XL; give a file of all networks")
    components: dict[str, nn.Module] = {}
    every, metadata = map_tensors(path) if mapped else load_tensors(path)
    for folder, component in FAMILIES[family].items():
        own = {name for name in names if name.startswith(component.prefix)}
        if folder == "vae" and not own:
            continue
        tensors = dequantise({name: every[name] for name in own}, metadata, str(path))
        config = dict((configs or CONFIGS[family])[folder])
        for key, (name, dims) in SEEN.items():
            tensor = tensors.get(FAMILIES[family]["unet"].prefix + name)
            if tensor is not None and tensor.ndim == dims and tensor.shape[1]:
                config[key] = tensor.shape[1]
        with torch.device("meta"):
            network = CLASSES[folder](**config)
        found = from_single_file(component, tensors, network.state_dict())
        if not mapped:
            network.to_empty(device="cpu")
        fill(network, found, f"{path}: the {folder} of {family}", assign=mapped)
        components[folder] = network.eval()
        names -= own
    return SingleFile(family, components, names)


def load_vae(path: str | Path, config: Mapping[str, Any]) -> Autoencoder:
    """The autoencoder of a file: of its own, by the names of the first program (with `first_stage_model.` or without)
    or of diffusers, or of a file of all networks; in float32 and set to evaluate. config: how it is built. UserError,
    with the file's name, for a tensor too few, too many or of another shape."""
    component = FAMILIES["sd1"]["vae"]
    names = load_names(path)
    own = {name for name in names if name.startswith(component.prefix)}
    tensors = dequantise(*load_tensors(path, own or names), str(path))
    with torch.device("meta"):
        network = Autoencoder(**config)
    if any(".down." in name for name in tensors):
        prefixed = {
            component.prefix + name.removeprefix(component.prefix): tensor for name, tensor in tensors.items()
        }
        found = from_single_file(component, prefixed, network.state_dict())
    else:
        found = rename_former(tensors)
    network.to_empty(device="cpu")
    fill(network, found, f"{path}: the VAE")
    return network.eval()


def save_single_file(
    path: str | os.PathLike[str],
    family: str,
    components: Mapping[str, Mapping[str, Tensor]],
    marks: Sequence[str] = (),
) -> None:
    """Writes the tensors of the networks of a family, by the names of their folders, as one file, in the precision
    that they have. marks: names of empty tensors that say something of them, see `SingleFile.others`. The autoencoder
    may be missing; a UserError for a network too many or too few."""
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    layout = FAMILIES[family]
    if layout.keys() - {"vae"} != components.keys() - {"vae"}:
        raise UserError(f"a single file of {family} has {', '.join(layout)}, not {', '.join(components)}")
    tensors = {name: torch.empty(0) for name in marks}
    for folder, own in components.items():
        tensors |= to_single_file(layout[folder], own)
    save_tensors(Path(path), tensors, {"format": "pt"}, exact=tensors)
