"""The networks of a checkpoint out of its files, and the hash of those."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from inkwash.codecs.clip import END, CLIPTokenizer
from inkwash.errors import UserError
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.clip import load_clip
from inkwash.networks.stable_diffusion import load_single_file
from inkwash.networks.unet import load_unet
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.weights.files import digest, weight_files
from inkwash.weights.shipped import load_json

ENCODERS = ("text_encoder", "text_encoder_2")
V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"  # spreads wider where SD 2 predicts v
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", **dict.fromkeys(ENCODERS, "model")}


def files_of(path: Path) -> list[Path]:
    """The files that hold the weights of a checkpoint: itself, or those of its networks in a folder."""
    if path.is_file():
        return [path]
    places = [path / name / f"{file}.safetensors" for name, file in WEIGHTS.items() if (path / name).is_dir()]
    return [file for place in places for file in weight_files(place)]


def hash_of(path: Path) -> str:
    """SHA-256 of a single file, as other tools have it; of a folder that of the hashes of its networks' files."""
    hashes = [digest(file) for file in files_of(path)]
    return hashes[0] if path.is_file() else hashlib.sha256("".join(hashes).encode()).hexdigest()


def load_folder(folder: Path) -> tuple[dict[str, Any], NoiseTable]:
    index = load_json(folder / "model_index.json")
    components: dict[str, Any] = {"unet": load_unet(folder / "unet"), "vae": load_autoencoder(folder / "vae")}
    for name in ENCODERS:
        if index.get(name, (None, None))[1] is not None:
            tokenizer = name.replace("text_encoder", "tokenizer")
            components |= {name: load_clip(folder / name), tokenizer: CLIPTokenizer.load(folder / tokenizer)}
    return components, NoiseTable.of(load_json(folder / "scheduler" / "scheduler_config.json"))


def load_file(path: Path) -> tuple[dict[str, Any], NoiseTable]:
    """From a single file, which names neither its noise table nor what it predicts: SDXL by marks, SD 2 by a bias."""
    family, components, others = load_single_file(path)
    if edm := sorted(name for name in others if name.startswith("edm_")):
        raise UserError(f"{path}: {edm[0]} says that it has EDM's noise, not a table of betas: it cannot be drawn")
    predicts = "epsilon"
    if "v_pred" in others or (family == "sd2" and components["unet"].state_dict()[V_BIAS].std(unbiased=False) > 0.09):
        predicts = "v_prediction"
    facts = STABLE | {"prediction_type": predicts, "rescale_betas_zero_snr": "ztsnr" in others}
    found: dict[str, Any] = dict(components)
    for name in ENCODERS:
        if name in components:
            fill = "!" if family == "sd2" or name == "text_encoder_2" else END
            found[name.replace("text_encoder", "tokenizer")] = CLIPTokenizer.shipped(fill)
    return found, NoiseTable.of(facts)
