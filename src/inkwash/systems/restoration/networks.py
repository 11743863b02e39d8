"""The network of a picture in noise, and of the picture that it is made of beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.networks.layers import sinusoidal_embedding
from inkwash.networks.unet import UNet
from inkwash.systems.restoration.levels import COLOURS


class RestorationNetwork(nn.Module):
    """A U-Net that sees the source beside x_t as more channels (SR3, Saharia et al. 2021, 2104.07636; Palette,
    2111.05826).

    missing    a fourth channel of the source is 1 where it has nothing, and holds 0
    augmented  it is told the time to which its source was noised (CDM, Ho et al. 2021, 2106.15282)
    source     without it there is no source: it draws by time and kind alone
    classes    it is told which of so many kinds the picture shows (CDM)
    attention  self-attention at its lowest level
    patch      squares of so many pixels are the channels of one place: a permutation, by which a CPU gains
    """

    def __init__(
        self,
        missing: bool = False,
        augmented: bool = False,
        widths: Sequence[int] = (32, 48, 64),
        layers: int = 1,
        patch: int = 2,
        source: bool = True,
        classes: int = 0,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "missing": missing, "augmented": augmented, "widths": list(widths), "layers": layers, "patch": patch,
            "source": source, "classes": classes, "attention": attention,
        }  # fmt: skip
        self.patch = patch
        lowest = "Attn" * attention
        levels, seen = len(widths), COLOURS * (1 + source) + missing
        told = "projection" if classes else "timestep" if augmented else None
        self.unet = UNet(
            in_channels=seen * patch**2,
            out_channels=COLOURS * patch**2,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * (levels - 1) + (f"{lowest}DownBlock2D",),
            up_block_types=(f"{lowest}UpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            mid_block_type="UNetMidBlock2D",
            attention_head_dim=8,
            cross_attention_dim=None,
            norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",  # as Palette's: a shift before the norm is partly lost in it
            class_embed_type=told,
            projection_class_embeddings_input_dim=classes + widths[0] * augmented if classes else None,
        )

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        concat: Tensor | None = None,
        noise_level: Tensor | None = None,
        mask: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """x (B, 3, H, W), time (B,) from 0 to 1000, concat (B, 3 or 4, H, W), noise_level (B,) from 0 to 1: of x's
        shape. H and W are multiples of `patch`. mask (B, 3, H, W), what is drawn, is what `missing` says, too: x is 0
        elsewhere. label (B, classes), 1 in the place of the kind and 0 elsewhere.
        """
        seen = F.pixel_unshuffle(x if concat is None else torch.cat([x, concat.to(x.dtype)], 1), self.patch)
        if label is not None and noise_level is not None:
            width = self.config["widths"][0]
            label, noise_level = torch.cat([label, sinusoidal_embedding(1000 * noise_level, width)], 1), None
        answer: Tensor = F.pixel_shuffle(self.unet(seen, time, label=label, noise_level=noise_level), self.patch)
        return answer


class CellClassifier(nn.Module):
    """Tells kinds of pictures apart, so as to judge those that are generated: four strided convolutions, each after a
    norm, and the mean of what they find, its features (B, 64)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths, layers = (COLOURS, 16, 32, 48, 64), list[nn.Module]()
        for dim_in, dim in pairwise(widths):
            layers += [nn.Conv2d(dim_in, dim, 3, stride=2, padding=1), nn.GroupNorm(8, dim), nn.SiLU()]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        means: Tensor = self.layers(x).mean((2, 3))
        return means

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
