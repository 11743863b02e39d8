"""The image autoencoder of latent diffusion (Rombach et al. 2022, 2112.10752), in the diffusers format.

The names of its parameters and of its configuration are those of diffusers' AutoencoderKL, so one class serves our
own weights and Stable Diffusion's, and diffusers opens what is saved here.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.errors import UserError
from inkwash.networks.unet import (
    BlockConfig,
    DownBlock,
    MidBlock,
    Resample,
    ResnetBlock,
    SpatialAttention,
    load_network,
    save_network,
)

# Keys of the format that this network knows in one value only, and keys that change nothing here.
FIXED: dict[str, Any] = {"act_fn": "silu", "latents_mean": None, "latents_std": None}
BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
# What the attention's layers were called until 2023, in Stable Diffusion 1's own folder among others.
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class UpBlock(nn.Module):
    """Resnets, then nearest-neighbour growth by two and a convolution."""

    def __init__(self, c: BlockConfig, widths: list[int], last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(c, dim_in, dim) for dim_in, dim in pairwise(widths))
        conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.upsamplers = nn.ModuleList([] if last else [Resample(conv)])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for upsampler in self.upsamplers:
            x = upsampler(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Encoder(nn.Module):
    """(B, in, H, W) -> (B, out, H / f, W / f), f = 2^(levels - 1)."""

    def __init__(
        self, c: BlockConfig, dim_in: int, dim_out: int, widths: Sequence[int], layers: int, attend: bool
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(dim_in, widths[0], 3, padding=1)
        before = [widths[0], *widths]
        self.down_blocks = nn.ModuleList(
            DownBlock(c, [before[i]] + [width] * layers, [], last=i == len(widths) - 1)
            for i, width in enumerate(widths)
        )
        self.mid_block = mid_block(c, widths[-1], attend)
        self.conv_norm_out = nn.GroupNorm(c.groups, widths[-1], eps=c.eps)
        self.conv_out = nn.Conv2d(widths[-1], dim_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)[-1]
        x = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return x


class Decoder(nn.Module):
    """(B, in, h, w) -> (B, out, f h, f w)."""

    def __init__(
        self, c: BlockConfig, dim_in: int, dim_out: int, widths: Sequence[int], layers: int, attend: bool
    ) -> None:
        super().__init__()
        widths = list(reversed(widths))
        self.conv_in = nn.Conv2d(dim_in, widths[0], 3, padding=1)
        self.mid_block = mid_block(c, widths[0], attend)
        before = [widths[0], *widths]
        self.up_blocks = nn.ModuleList(
            UpBlock(c, [before[i]] + [width] * (layers + 1), last=i == len(widths) - 1)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(c.groups, widths[-1], eps=c.eps)
        self.conv_out = nn.Conv2d(widths[-1], dim_out, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return x


class Autoencoder(nn.Module):
    """Pictures <-> latents; the keywords are those of diffusers' AutoencoderKL.

    A value this class does not carry is a UserError that names its key. The state that a diffusion model sees is
    scaling_factor (latent - shift_factor): `scaling_factor` is 1 / the standard deviation of the latents, and
    `shift_factor`, 0 where it is None, their mean. `force_upcast`: the activations overflow float16, as those of
    SDXL's do, so who computes in it decodes in float32. `sample_size`: the side of the pictures of its training.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: Sequence[int] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        scaling_factor: float = 0.18215,
        shift_factor: float | None = None,
        sample_size: int = 32,
        force_upcast: bool = True,
        mid_block_add_attention: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        **others: Any,
    ) -> None:
        config: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in locals().items()
            if key not in ("self", "others", "__class__")
        }
        super().__init__()
        self.config = config
        for key, value in others.items():
            if key in BLOCKS and len(value) == len(block_out_channels) and set(value) == {BLOCKS[key]}:
                continue
            if key not in FIXED or value != FIXED[key]:
                raise UserError(f"{key} = {value!r}: this autoencoder does not know it")
        if any(width % norm_num_groups for width in block_out_channels):
            raise UserError(f"norm_num_groups {norm_num_groups} does not divide {list(block_out_channels)}")
        common = BlockConfig(
            conv=nn.Conv2d,
            embedding=0,
            groups=norm_num_groups,
            eps=1e-6,
            scale_shift=False,
            dropout=0.0,
            linear=True,
            padding=0,
        )
        shape = block_out_channels, layers_per_block, mid_block_add_attention
        self.encoder = Encoder(common, in_channels, 2 * latent_channels, *shape)
        self.decoder = Decoder(common, latent_channels, out_channels, *shape)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else None

    @property
    def factor(self) -> int:
        """Places a side of x for one of the latent."""
        return 1 << len(self.config["block_out_channels"]) - 1

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent_channels, H / f, W / f), of q(z | x); H and W multiples of f."""
        h = self.encoder(x)
        if self.quant_conv is not None:
            h = self.quant_conv(h)
        mean, log_variance = h.chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z], (B, out_channels, H, W)."""
        x: Tensor = self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))
        return x


def mid_block(c: BlockConfig, dim: int, attend: bool) -> MidBlock:
    """Two resnets, with attention of one head between them or with none."""
    return MidBlock(c, dim, [SpatialAttention(c, dim, 1)] if attend else [], resnets=2)


def save_autoencoder(autoencoder: Autoencoder, folder: str | os.PathLike[str], exact: bool = False) -> None:
    """Writes config.json and the weights to a folder that diffusers can open; see `save_network`."""
    levels = len(autoencoder.config["block_out_channels"])
    config = {"_class_name": "AutoencoderKL"} | {key: [name] * levels for key, name in BLOCKS.items()}
    config |= autoencoder.config
    save_network(autoencoder, folder, config, exact=exact)


def load_autoencoder(folder: str | os.PathLike[str], mapped: bool = False) -> Autoencoder:
    """The autoencoder of a folder in the diffusers format; see `load_network`."""
    return load_network(Autoencoder, folder, convert=rename_former, mapped=mapped)


def rename_former(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, those of attention under their present names."""

    def present(name: str) -> str:
        *path, layer, kind = name.split(".")
        return ".".join([*path, FORMER.get(layer, layer), kind]) if "attentions" in path else name

    return {present(name): tensor for name, tensor in tensors.items()}
