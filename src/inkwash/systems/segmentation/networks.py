"""The network of a mask in noise, and of the picture beside it: SegDiff's sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.networks.unet import UNet

RESIDUAL = 0.2  # of a dense block


class SegmentationNetwork(nn.Module):
    """h = F(x_t) + G(picture), then the rest of a U-Net (SegDiff, Amit et al. 2021, 2112.00390): F is the U-Net's
    first convolution, G a `PictureEncoder`, which does not see t, so that it is asked once a picture.

    condition "concat": the picture stands beside x_t as more channels, without G, to compare with.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (16, 24, 32, 32),
        layers: int = 1,
        blocks: int = 1,
        growth: int = 8,
        condition: Literal["sum", "concat"] = "sum",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "channels": channels, "widths": list(widths), "layers": layers, "blocks": blocks, "growth": growth,
            "condition": condition,
        }  # fmt: skip
        self.unet = UNet(
            in_channels=channels + (3 if condition == "concat" else 0),
            out_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * len(widths),
            up_block_types=("UpBlock2D",) * len(widths),
            mid_block_type="UNetMidBlock2D",
            cross_attention_dim=None,
            norm_num_groups=8,
        )
        self.encoder = PictureEncoder(widths[0], blocks, growth) if condition == "sum" else None

    def encode(self, picture: Tensor) -> Tensor:
        """What the network needs of pictures (B, 3, H, W), once for all steps and samples."""
        features: Tensor = picture if self.encoder is None else self.encoder(picture)
        return features

    def forward(self, x: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """x (B, channels, H, W), time (B,), features as `encode` made them. H and W are even."""
        name = "concat" if self.encoder is None else "added"
        answer: Tensor = self.unet(x, time, **{name: features})
        return answer


class PictureEncoder(nn.Module):
    """(B, 3, H, W) -> (B, width, H, W): residual-in-residual dense blocks without normalisation (ESRGAN, Wang et al.
    2018, 1809.00219), at half the side, where they cost a quarter; one convolution of the picture itself is added."""

    def __init__(self, width: int, blocks: int, growth: int) -> None:
        super().__init__()
        inner = 3 * width // 2
        self.fine = nn.Conv2d(3, width, 3, padding=1)
        self.conv_in = nn.Conv2d(12, inner, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(inner, growth) for _ in range(blocks))
        self.conv_out = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        h = first = self.conv_in(F.pixel_unshuffle(picture, 2))
        for block in self.blocks:
            h = block(h)
        coarse = F.interpolate(self.conv_out(first + h), scale_factor=2, mode="bilinear", align_corners=False)
        features: Tensor = self.fine(picture) + coarse
        return features


class ResidualBlock(nn.Module):
    """x + 0.2 times three dense blocks."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = x + RESIDUAL * self.dense(x)
        return h


class DenseBlock(nn.Module):
    """x + 0.2 times five convolutions, each of which sees all before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        inputs = [width + i * growth for i in range(5)]
        self.convs = nn.ModuleList(
            nn.Conv2d(dim, growth if i < 4 else width, 3, padding=1) for i, dim in enumerate(inputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        h: Tensor = x + RESIDUAL * self.convs[-1](torch.cat(seen, 1))
        return h


class Members(nn.Module):
    """Networks that are trained beside each other, each from its own beginning, on batches of its own."""

    def __init__(self, config: dict[str, Any], count: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(SegmentationNetwork(**config) for _ in range(count))
