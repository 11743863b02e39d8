"""Small models with random weights."""

import torch

from inkwash.codecs.text import TextCodec
from inkwash.networks.sketch import Sketch
from inkwash.networks.unet import UNet
from inkwash.systems.pictures.model import TEXT_ENCODER, Info, Pictures


def tiny(sketch: bool = False, **changes) -> Pictures:
    """A small model of 16 x 16 pictures with random weights, the last layer included; with a sketch if asked for."""
    torch.manual_seed(0)
    info = Info(**{"size": 16, "patch": 4, "styles": ["flat", "noto"], "steps": 3, **changes})
    unet = UNet(
        sample_size=4,
        in_channels=48 * (1 + sketch),
        out_channels=48,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=384,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=384 + len(info.styles),
    )
    drawn = Sketch(384 + len(info.styles), 48, 4, hidden=32).eval() if sketch else None
    model = Pictures(unet.eval(), info, TextCodec.load(TEXT_ENCODER), sketch=drawn)
    for parameter in model.network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model
