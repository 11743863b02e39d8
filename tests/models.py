"""Small models with random weights."""

from pathlib import Path
from typing import Any

import torch

from inkwash.codecs.text import TextCodec
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.unet import UNet
from inkwash.systems.pictures.model import Config, state_shape
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.weights.shipped import TEXT_ENCODER


def tiny_autoencoder() -> Autoencoder:
    """16 x 16 pixels with opacity <-> 6 channels of 4 x 4 places, with random weights."""
    torch.manual_seed(1)
    vae = Autoencoder(
        in_channels=4, out_channels=4, block_out_channels=(8, 8, 8), latent_channels=6, norm_num_groups=4
    )
    return random(vae)


def tiny(latent: bool = False, mean: bool = False, upsampler: bool = False, **changes) -> Pipeline:
    """A small model of 16 x 16 pictures, or of such distance fields, with random weights, the last layer included; if
    asked for, of latents, with a mean predictor, or with an upsampler."""
    torch.manual_seed(0)
    config = Config(**{"size": 16, "patch": 4, "styles": ["flat", "noto"], "steps": 3, **changes})
    components: dict[str, Any] = {"vae": tiny_autoencoder()} if latent else {}
    channels, label = 6 if latent else state_shape(config, None)[0], 384 + len(config.styles)
    unet = UNet(
        sample_size=4,
        in_channels=channels * (1 + mean + config.reference),
        out_channels=channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=384,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=label,
    )
    if mean:
        components["mean_predictor"] = random(MeanPredictor(label, channels, 4, hidden=32))
    components |= {"unet": random(unet), "text_encoder": TextCodec.load(TEXT_ENCODER)}
    if upsampler:
        components["upsampler"] = tiny_upsampler()
    return Pipeline(config, components)


def tiny_upsampler() -> UNet:
    unet = UNet(
        in_channels=68,
        out_channels=64,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=None,
        class_embed_type="timestep",
    )
    return random(unet)


def wordless(folder: Path) -> None:
    """Saves a model of 16 x 16 pictures that knows no words."""
    unet = UNet(
        in_channels=48,
        out_channels=48,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        cross_attention_dim=None,
        norm_num_groups=4,
    )
    Pipeline(Config(size=16, steps=3), {"unet": random(unet)}).save(folder)


def random(network: torch.nn.Module) -> Any:
    """With random matrices, the last layer included."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()
