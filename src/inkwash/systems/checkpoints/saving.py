"""Checkpoints as other tools open them: a folder in the diffusers format, or a single file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from inkwash.errors import UserError
from inkwash.networks.autoencoder import save_autoencoder
from inkwash.networks.clip import save_clip
from inkwash.networks.stable_diffusion import save_single_file
from inkwash.networks.unet import save_unet
from inkwash.systems.checkpoints.facts import EDITS, ENCODERS, PAINTS
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.weights.files import save_json
from inkwash.weights.shipped import load_json

SCHEDULER = "scheduler/scheduler_config.json"
PIPELINES = {  # diffusers' classes, of Stable Diffusion 1 and 2 and of XL, by the channels beside those of the state
    0: ("StableDiffusionPipeline", "StableDiffusionXLPipeline"),
    PAINTS: ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
    EDITS: ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline"),
}


def save_folder(folder: Path, components: Mapping[str, Any], noise: NoiseTable, source: Path | None) -> None:
    """Each network with its settings, in the precision that its weights have, and last the index, without which the
    folder is no checkpoint. source: a folder whose scheduler is kept if it is of this noise."""
    scheduler = scheduler_of(noise, source)
    save_unet(components["unet"], folder / "unet", exact=True)
    save_autoencoder(components["vae"], folder / "vae", exact=True)
    for name in ENCODERS:
        if name in components:
            tokenizer = name.replace("text_encoder", "tokenizer")
            save_clip(components[name], folder / name, exact=True)
            components[tokenizer].save(folder / tokenizer)
    save_json(folder / SCHEDULER, scheduler)
    save_json(folder / "model_index.json", index_of(components, str(scheduler["_class_name"])))


def index_of(components: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """The content of model_index.json: which class of diffusers and transformers each component is of."""
    unet = components["unet"].config
    is_xl, is_refiner = unet["addition_embed_type"] == "text_time", "text_encoder" not in components
    name = PIPELINES[unet["in_channels"] - unet["out_channels"]][is_xl]
    if unet["time_cond_proj_dim"] is not None:
        name = "LatentConsistencyModelPipeline"
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLImg2ImgPipeline" if is_refiner else name,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", scheduler],
    }
    for encoder in ENCODERS[: 1 + is_xl]:
        kind = "CLIPTextModel" if encoder == "text_encoder" else "CLIPTextModelWithProjection"
        there = encoder in components
        index[encoder] = ["transformers", kind] if there else [None, None]
        index[encoder.replace("text_encoder", "tokenizer")] = (
            ["transformers", "CLIPTokenizer"] if there else [None] * 2
        )
    if not is_xl:
        unused = {"safety_checker": [None, None], "feature_extractor": [None, None]}
        return index | unused | {"requires_safety_checker": False}
    return (
        index
        | {"force_zeros_for_empty_prompt": not is_refiner}
        | ({"requires_aesthetics_score": True} if is_refiner else {})
    )


def scheduler_of(noise: NoiseTable, source: Path | None) -> dict[str, Any]:
    """A scheduler's settings by which diffusers has this noise: those of the folder that it came from, those of
    Stable Diffusion, or the table itself."""
    predicts = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}[noise.parametrization]
    default = STABLE | {"_class_name": "EulerDiscreteScheduler", "prediction_type": predicts, "steps_offset": 1}
    default["num_train_timesteps"] = len(noise.betas)
    zero = default | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    candidates = [default] if predicts == "epsilon" else [default, zero]
    if source is not None and source.is_dir():
        candidates.insert(0, load_json(source / SCHEDULER))
    table = default | {"trained_betas": list(noise.betas)}
    return next((settings for settings in candidates if NoiseTable.of(settings) == noise), table)


def save_file(path: Path, components: Mapping[str, Any], noise: NoiseTable) -> None:
    """All networks in one file, in the precision that their weights have; `v_pred` and `ztsnr` mark a network that
    predicts v, and a noise that ends in noise alone. UserError for noise that such a file cannot tell."""
    settings = scheduler_of(noise, None)
    if "trained_betas" in settings or noise.parametrization == "x0" or len(noise.betas) != 1000:
        raise UserError(f"{path}: a single file cannot say what noise this checkpoint has: save it as a folder")
    marks = (["v_pred"] if noise.parametrization == "v" else []) + (["ztsnr"] if noise.betas[-1] == 1 else [])
    networks = {name: part.state_dict() for name, part in components.items() if isinstance(part, nn.Module)}
    save_single_file(path, family_of(components), networks, marks)


def family_of(components: Mapping[str, Any]) -> str:
    """A key of `single_file.FAMILIES`, by the text encoders: OpenCLIP's, of Stable Diffusion 2, have another
    activation than CLIP's."""
    if "text_encoder_2" in components:
        return "sdxl" if "text_encoder" in components else "sdxl-refiner"
    return "sd2" if components["text_encoder"].config["hidden_act"] == "gelu" else "sd1"
