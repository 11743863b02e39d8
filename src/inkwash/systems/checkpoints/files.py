"""The networks of a checkpoint out of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.codecs.clip import END, CLIPTokenizer
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.clip import load_clip
from inkwash.networks.stable_diffusion import load_single_file
from inkwash.networks.unet import load_unet
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.weights.shipped import load_json

ENCODERS = ("text_encoder", "text_encoder_2")
V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"  # spreads wider where SD 2 predicts v


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
    unet: Any = components["unet"]
    predicts = "epsilon"
    if "v_pred" in others or (family == "sd2" and unet.state_dict()[V_BIAS].std(unbiased=False) > 0.09):
        predicts = "v_prediction"
    elif family == "sd2":
        unet.config["sample_size"] = 64  # the one that predicts noise was trained on 512 x 512 pixels
    facts = STABLE | {"prediction_type": predicts, "rescale_betas_zero_snr": "ztsnr" in others}
    found: dict[str, Any] = dict(components)
    for name in ENCODERS:
        if name in components:
            fill = "!" if family == "sd2" or name == "text_encoder_2" else END
            found[name.replace("text_encoder", "tokenizer")] = CLIPTokenizer.shipped(fill)
    return found, NoiseTable.of(facts)
