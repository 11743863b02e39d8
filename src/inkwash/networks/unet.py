"""The U-Net of latent diffusion, for 1, 2 and 3 spatial dimensions, in the diffusers format.

Ho et al. 2020 (2006.11239) with the cross-attention of Rombach et al. 2022 (2112.10752). In two dimensions
the names of its parameters and of its configuration are those of diffusers' UNet2DConditionModel, so one
class serves our own weights and Stable Diffusion's, and diffusers opens what is saved here.
"""

import json
import os
from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.errors import UserError, unknown
from inkwash.networks.layers import Attention, VectorEmbedding, sinusoidal_embedding, zero_module
from inkwash.weights.files import fill, load_into, save_json, save_tensors, weight_files
from inkwash.weights.mapped import map_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
T = TypeVar("T", bound=nn.Module)
CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

# What attends in a block of each type, by the block's position.
DOWN = {"DownBlock2D": None, "CrossAttnDownBlock2D": "cross", "AttnDownBlock2D": "self"}
MIDDLE = {None: None, "UNetMidBlock2D": None, "UNetMidBlock2DCrossAttn": "cross"}
UP = {"UpBlock2D": None, "CrossAttnUpBlock2D": "cross", "AttnUpBlock2D": "self"}

# Keys of the format that this network knows in one value only.
FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "dual_cross_attention": False,
    "mid_block_scale_factor": 1,
    "num_attention_heads": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1,
    "resnet_skip_time_act": False,
    "reverse_transformer_layers_per_block": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
# Keys that change nothing here: they serve a fixed key above.
IDLE = {"addition_embed_type_num_heads", "mid_block_only_cross_attention"}


class BlockConfig(NamedTuple):
    """What all blocks of one network have in common."""

    conv: type[nn.Module]
    embedding: int  # 0 for residual blocks without a time embedding
    groups: int
    eps: float
    scale_shift: bool
    dropout: float
    linear: bool
    padding: int


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + W e))), or e as scale and shift of the second norm."""

    def __init__(self, c: BlockConfig, dim_in: int, dim: int) -> None:
        super().__init__()
        self.scale_shift, self.dropout = c.scale_shift, c.dropout
        self.norm1 = nn.GroupNorm(c.groups, dim_in, eps=c.eps)
        self.conv1 = c.conv(dim_in, dim, 3, padding=1)
        self.time_emb_proj = nn.Linear(c.embedding, dim * (1 + c.scale_shift)) if c.embedding else None
        self.norm2 = nn.GroupNorm(c.groups, dim, eps=c.eps)
        self.conv2 = zero_module(c.conv(dim, dim, 3, padding=1))
        self.conv_shortcut = c.conv(dim_in, dim, 1) if dim_in != dim else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is None:
            h = self.norm2(h)
        else:
            vector = self.time_emb_proj(embedding)
            vector = vector.reshape(*vector.shape, *[1] * (x.ndim - 2))
            if self.scale_shift:
                scale, shift = vector.chunk(2, dim=1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + vector)
        h = self.conv2(F.dropout(F.silu(h), self.dropout, self.training))
        h = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h
        return h


class GEGLU(nn.Module):
    """u * gelu(v) with (u, v) = W x (GEGLU, Shazeer 2020, 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        x = value * F.gelu(gate)
        return x


class FeedForward(nn.Module):
    """GEGLU, then linear; the identity between them keeps the format's numbering (dropout there)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        return x


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, heads, context_dim)
        self.norm3, self.ff = nn.LayerNorm(dim), FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, mask)
        x = x + self.ff(self.norm3(x))
        return x


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a picture; between projections, added to its input."""

    def __init__(self, c: BlockConfig, dim: int, heads: int, context_dim: int, depth: int) -> None:
        super().__init__()
        self.linear = c.linear
        self.norm = nn.GroupNorm(c.groups, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim) if c.linear else c.conv(dim, dim, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(dim, heads, context_dim) for _ in range(depth))
        self.proj_out = zero_module(nn.Linear(dim, dim) if c.linear else c.conv(dim, dim, 1))

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        if context is None:
            raise ValueError("this U-Net needs a context")
        h = self.norm(x)
        h = self.proj_in(to_tokens(h)) if self.linear else to_tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            h = block(h, context, mask)
        return x + (to_spatial(self.proj_out(h), x) if self.linear else self.proj_out(to_spatial(h, x)))


class SpatialAttention(Attention):
    """Self-attention over the positions of a picture, added to its input."""

    def __init__(self, c: BlockConfig, dim: int, heads: int) -> None:
        super().__init__(dim, heads, bias=True)
        self.group_norm = nn.GroupNorm(c.groups, dim, eps=c.eps)
        zero_module(self.to_out)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return x + to_spatial(super().forward(to_tokens(self.group_norm(x))), x)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, N, C): a view, and a contiguous one if x is channels-last."""
    return x.flatten(2).transpose(1, 2)


def to_spatial(h: Tensor, like: Tensor) -> Tensor:
    """(B, N, C) -> (B, C, *spatial): a channels-last view, of the spatial sizes of `like`."""
    return h.transpose(1, 2).reshape(h.shape[0], -1, *like.shape[2:])


class Resample(nn.Module):
    """The convolution of a change of resolution, under the name it has in the format."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x


class DownBlock(nn.Module):
    """Resnets, each with its attention, then a strided convolution; returns every state it passes."""

    def __init__(self, c: BlockConfig, widths: list[int], attentions: list[nn.Module], last: bool) -> None:
        super().__init__()
        self.pad = c.padding == 0  # the format then pads the far side of each dimension only
        self.resnets = nn.ModuleList(ResnetBlock(c, dim_in, dim) for dim_in, dim in pairwise(widths))
        self.attentions = nn.ModuleList(attentions)
        conv = c.conv(widths[-1], widths[-1], 3, stride=2, padding=c.padding)
        self.downsamplers = nn.ModuleList([] if last else [Resample(conv)])

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None, mask: Tensor | None = None
    ) -> list[Tensor]:
        states = []
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(x, embedding)
            x = x if attention is None else attention(x, context, mask)
            states.append(x)
        for downsampler in self.downsamplers:
            states.append(downsampler(F.pad(x, (0, 1) * (x.ndim - 2)) if self.pad else x))
        return states


class MidBlock(nn.Module):
    """A resnet, and perhaps attention and a second resnet."""

    def __init__(self, c: BlockConfig, dim: int, attentions: list[nn.Module], resnets: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(c, dim, dim) for _ in range(resnets))
        self.attentions = nn.ModuleList(attentions)

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        x = self.resnets[0](x, embedding)
        for attention, resnet in zip_longest(self.attentions, self.resnets[1:]):
            x = resnet(x if attention is None else attention(x, context, mask), embedding)
        return x


class UpBlock(nn.Module):
    """Resnets on the state joined with one skip each, with attention; then nearest-neighbour growth."""

    def __init__(
        self, c: BlockConfig, widths: list[int], skips: list[int], attentions: list[nn.Module], last: bool
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(c, dim_in + skip, dim) for (dim_in, dim), skip in zip(pairwise(widths), skips, strict=True)
        )
        self.attentions = nn.ModuleList(attentions)
        conv = c.conv(widths[-1], widths[-1], 3, padding=1)
        self.upsamplers = nn.ModuleList([] if last else [Resample(conv)])

    def forward(
        self, x: Tensor, skips: list[Tensor], embedding: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(torch.cat([x, skips.pop()], dim=1), embedding)
            x = x if attention is None else attention(x, context, mask)
        for upsampler in self.upsamplers:
            # The size is the next skip's: twice this one's, or one less where the way down rounded up.
            x = upsampler(F.interpolate(x, size=skips[-1].shape[2:], mode="nearest"))
        return x


class UNet(nn.Module):
    """The network of a diffusion model for pictures (dims=2), sequences (1) and volumes or films (3).

    The keywords are those of diffusers' UNet2DConditionModel; a value this class does not carry is a
    UserError that names its key. Where a key may differ between levels it is one value or one for each
    block of `down_block_types`. Mind two names of the format: `attention_head_dim` is the *number* of heads
    in blocks with cross-attention (in AttnDownBlock2D and AttnUpBlock2D it is what it says), and only blocks
    named CrossAttn look at a context. `upcast_attention` is kept for others that open what is saved: scores are
    reckoned in float32 here, whatever the precision. The last convolution of every residual branch starts at zero.

    Example: UNet(in_channels=48, out_channels=48, block_out_channels=(128, 256),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=384, attention_head_dim=4).
    """

    def __init__(
        self,
        *,
        dims: int = 2,
        sample_size: int | Sequence[int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        flip_sin_to_cos: bool = True,
        freq_shift: float = 0,
        down_block_types: Sequence[str] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        mid_block_type: str | None = "UNetMidBlock2DCrossAttn",
        up_block_types: Sequence[str] = ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int | Sequence[int] = 2,
        downsample_padding: int = 1,
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int | Sequence[int] | None = 1280,
        transformer_layers_per_block: int | Sequence[int] = 1,
        attention_head_dim: int | Sequence[int] = 8,
        use_linear_projection: bool = False,
        class_embed_type: str | None = None,
        num_class_embeds: int | None = None,
        projection_class_embeddings_input_dim: int | None = None,
        encoder_hid_dim: int | None = None,
        encoder_hid_dim_type: str | None = None,
        resnet_time_scale_shift: str = "default",
        addition_embed_type: str | None = None,
        addition_time_embed_dim: int | None = None,
        time_cond_proj_dim: int | None = None,
        upcast_attention: bool = False,
        **others: Any,
    ) -> None:
        config: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in locals().items()
            if key not in ("self", "others", "__class__")
        }
        super().__init__()
        self.config = config
        check_config(config, others)
        levels = len(block_out_channels)

        def per_level(key: str) -> list[Any]:
            value = config[key]
            return value if isinstance(value, list) else [value] * levels

        layers, depths = per_level("layers_per_block"), per_level("transformer_layers_per_block")
        heads, context_dims = per_level("attention_head_dim"), per_level("cross_attention_dim")
        width, embedding = block_out_channels[0], 4 * block_out_channels[0]
        common = BlockConfig(
            conv=CONVOLUTION[dims],
            embedding=embedding,
            groups=norm_num_groups,
            eps=norm_eps,
            scale_shift=resnet_time_scale_shift == "scale_shift",
            dropout=dropout,
            linear=use_linear_projection,
            padding=downsample_padding,
        )

        def attentions(kind: str | None, level: int, count: int) -> list[nn.Module]:
            dim = block_out_channels[level]
            number = dim // heads[level] if kind == "self" else heads[level]
            if kind is not None and dim % number:
                raise UserError(f"attention_head_dim {heads[level]} does not divide block_out_channels {dim}")
            if kind == "cross":
                args = common, dim, number, context_dims[level], depths[level]
                return [SpatialTransformer(*args) for _ in range(count)]
            return [SpatialAttention(common, dim, number) for _ in range(count)] if kind == "self" else []

        self.conv_in = common.conv(in_channels, width, 3, padding=1)
        self.time_embedding = VectorEmbedding(width, embedding, time_cond_proj_dim)
        self.class_embedding: nn.Module | None = None
        if class_embed_type == "timestep":
            self.class_embedding = VectorEmbedding(width, embedding)
        elif class_embed_type == "projection":
            self.class_embedding = VectorEmbedding(config["projection_class_embeddings_input_dim"], embedding)
        elif num_class_embeds is not None:
            self.class_embedding = nn.Embedding(num_class_embeds, embedding)
        self.add_embedding: VectorEmbedding | None = None
        if addition_embed_type == "text_time":
            self.add_embedding = VectorEmbedding(config["projection_class_embeddings_input_dim"], embedding)
        self.encoder_hid_proj = nn.Linear(encoder_hid_dim, context_dims[0]) if encoder_hid_dim else None

        before = [width, *block_out_channels]  # before[i] enters level i on the way down, and leaves it as a skip
        self.down_blocks = nn.ModuleList()
        for i, dim in enumerate(block_out_channels):
            attending = attentions(DOWN[down_block_types[i]], i, layers[i])
            self.down_blocks.append(DownBlock(common, [before[i]] + [dim] * layers[i], attending, i == levels - 1))
        attending = attentions(MIDDLE[mid_block_type], -1, 1)
        self.mid_block = MidBlock(common, dim, attending, 1 + len(attending)) if mid_block_type else None
        self.up_blocks = nn.ModuleList()
        for i, block in zip(reversed(range(levels)), up_block_types, strict=True):
            count, below, dim = layers[i] + 1, dim, block_out_channels[i]
            attending = attentions(UP[block], i, count)
            skips = [dim] * layers[i] + [before[i]]
            self.up_blocks.append(UpBlock(common, [below] + [dim] * count, skips, attending, i == 0))
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, width, eps=norm_eps)
        self.conv_out = zero_module(common.conv(width, out_channels, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        label: Tensor | None = None,
        added: Tensor | None = None,
        residuals: Sequence[Tensor] | None = None,
        concat: Tensor | None = None,
        noise_level: Tensor | None = None,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """The prediction for x (B, C, *spatial), whatever the denoiser reads it as; of x's spatial sizes.

        time (B,), 0 to 1000. context (B, L, D), states of a text, for cross-attention; context_mask (B, L),
        True where a token is real. label: (B, K) floats with class_embed_type "projection", (B,) class
        numbers with num_class_embeds, (B,) numbers on the scale of time with "timestep".

        added (B, block_out_channels[0], *spatial): features of another picture, added to those of x after conv_in
        (SegDiff, Amit et al. 2021, 2112.00390). residuals: one for each skip state, from conv_in's on down, and the
        middle's last, each of its state's shape (ControlNet, Zhang et al. 2023, 2302.05543).

        concat (B, D, *spatial), in_channels = C + D: another picture, beside x place by place (SR3, Saharia et al.
        2021, 2104.07636). noise_level (B,), 0 to 1: the time to which it is noised (noise conditioning augmentation,
        Ho et al. 2021, 2106.15282), which class_embed_type "timestep" takes as the label 1000 noise_level.

        text_embeds (B, D) and time_ids (B, K), both with addition_embed_type "text_time": the pooled state of the
        text, and K numbers, each as addition_time_embed_dim sinusoids; D + K addition_time_embed_dim =
        projection_class_embeddings_input_dim. SDXL's six are, in pixels, the height and width of the original, the
        top and left of the crop, the height and width aimed at; its refiner's five have an aesthetic score, 6 or 2.5,
        for the last two (Podell et al. 2023, 2307.01952).

        timestep_cond (B, time_cond_proj_dim), with that key: the sinusoids of the guidance scale w that a latent
        consistency model was distilled with (Luo et al. 2023, 2310.04378), sinusoidal_embedding(1000 (w - 1), dim,
        cosine_first=False, shift=1).
        """
        if concat is not None:
            x = torch.cat([x, concat.to(x.dtype)], dim=1)
        if noise_level is not None:
            if label is not None:
                raise ValueError("noise_level is this U-Net's label: it takes no other")
            label = 1000 * noise_level
        embedding = self.embed(x, time, label, text_embeds, time_ids, timestep_cond)
        if self.encoder_hid_proj is not None and context is not None:
            context = self.encoder_hid_proj(context)
        x = self.conv_in(x)
        states = [x if added is None else add_residual(x, added, "added")]
        for block in self.down_blocks:
            states += block(states[-1], embedding, context, context_mask)
        x = states[-1]
        if self.mid_block is not None:
            x = self.mid_block(x, embedding, context, context_mask)
        if residuals is not None:
            if len(residuals) != len(states) + 1:
                raise ValueError(f"{len(residuals)} residuals: this U-Net takes {len(states) + 1}, the middle's last")
            pairs = zip([*states, x], residuals, strict=True)
            *states, x = (add_residual(state, residual, f"residual {i}") for i, (state, residual) in enumerate(pairs))
        for block in self.up_blocks:
            x = block(x, states, embedding, context, context_mask)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return x

    def embed(
        self,
        x: Tensor,
        time: Tensor,
        label: Tensor | None,
        text_embeds: Tensor | None,
        time_ids: Tensor | None,
        timestep_cond: Tensor | None,
    ) -> Tensor:
        """SiLU of the embeddings of time and of what else there is, added: the vector (B, D) of every resnet."""

        def sinusoids(value: Tensor, dim: int) -> Tensor:
            cosine_first, shift = self.config["flip_sin_to_cos"], self.config["freq_shift"]
            return sinusoidal_embedding(value, dim, cosine_first=cosine_first, shift=shift).to(x.dtype)

        for name, value, needed in (
            ("label", label, self.class_embedding is not None),
            ("text_embeds tensor", text_embeds, self.add_embedding is not None),
            ("time_ids tensor", time_ids, self.add_embedding is not None),
            ("timestep_cond tensor", timestep_cond, self.config["time_cond_proj_dim"] is not None),
        ):
            if (value is not None) != needed:
                raise ValueError(f"this U-Net {'needs a' if needed else 'takes no'} {name}")
        width = self.config["block_out_channels"][0]
        vector = self.time_embedding(sinusoids(time.expand(x.shape[0]), width), timestep_cond)
        if label is not None and self.class_embedding is not None:
            timelike = self.config["class_embed_type"] == "timestep"
            vector = vector + self.class_embedding(sinusoids(label, width) if timelike else label)
        if text_embeds is not None and time_ids is not None and self.add_embedding is not None:
            numbers = sinusoids(time_ids, self.config["addition_time_embed_dim"]).flatten(1)
            features = torch.cat([text_embeds.to(x.dtype), numbers], dim=1)
            if (count := features.shape[1]) != (due := self.config["projection_class_embeddings_input_dim"]):
                raise ValueError(f"text_embeds and time_ids make {count} features, this U-Net takes {due}")
            vector = vector + self.add_embedding(features)
        return F.silu(vector)


def add_residual(state: Tensor, other: Tensor, name: str) -> Tensor:
    """Their sum, in the precision of the state; a ValueError with the name if their shapes differ."""
    if other.shape != state.shape:
        raise ValueError(f"{name} has the shape {tuple(other.shape)}, this U-Net's state {tuple(state.shape)}")
    return state + other.to(state.dtype)


def check_config(config: dict[str, Any], others: dict[str, Any]) -> None:
    """Raise the UserError of the first key whose value a UNet does not carry."""
    for key, value in others.items():
        if key not in FIXED and key not in IDLE:
            raise unknown("configuration key of a U-Net", key, [*config, *FIXED])
        if key in FIXED and value != FIXED[key]:
            raise UserError(f"this U-Net has {key} = {FIXED[key]!r} only, not {value!r}")
    choices: dict[str, tuple[Any, ...]] = {
        "dims": (1, 2, 3),
        "mid_block_type": tuple(MIDDLE),
        "downsample_padding": (0, 1),
        "class_embed_type": (None, "timestep", "projection"),
        "encoder_hid_dim_type": (None, "text_proj"),
        "resnet_time_scale_shift": ("default", "scale_shift"),
        "addition_embed_type": (None, "text_time"),
    }
    for key, valid in choices.items():
        if config[key] not in valid:
            raise UserError(f"{key} {config[key]!r}: choose from {', '.join(map(repr, valid))}")
    levels = len(config["block_out_channels"])
    for key, blocks in {"down_block_types": DOWN, "up_block_types": UP}.items():
        for name in config[key]:
            if name not in blocks:
                raise unknown(key, name, blocks)
        if len(config[key]) != levels:
            raise UserError(f"{key} names {len(config[key])} blocks, block_out_channels {levels}")
    for key in ("layers_per_block", "transformer_layers_per_block", "attention_head_dim", "cross_attention_dim"):
        if isinstance(config[key], list) and len(config[key]) != levels:
            raise UserError(f"{key} has {len(config[key])} values for {levels} levels of block_out_channels")
    kinds = {DOWN[name] for name in config["down_block_types"]} | {UP[name] for name in config["up_block_types"]}
    kinds.add(MIDDLE[config["mid_block_type"]])
    if "cross" in kinds and config["cross_attention_dim"] is None:
        raise UserError("blocks named CrossAttn need a cross_attention_dim, the width of the context")
    if "self" in kinds and isinstance(config["attention_head_dim"], list):
        raise UserError("attention_head_dim is one number where AttnDownBlock2D or AttnUpBlock2D is used")
    if config["encoder_hid_dim"] and not isinstance(config["cross_attention_dim"], int):
        raise UserError("encoder_hid_dim needs one cross_attention_dim for all levels")
    if config["class_embed_type"] == "projection" and not config["projection_class_embeddings_input_dim"]:
        raise UserError("class_embed_type 'projection' needs projection_class_embeddings_input_dim")
    if config["addition_embed_type"] == "text_time":
        for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
            if not config[key]:
                raise UserError(f"addition_embed_type 'text_time' needs {key}")
    for width in config["block_out_channels"]:
        if width % config["norm_num_groups"]:
            raise UserError(f"norm_num_groups {config['norm_num_groups']} does not divide channels {width}")


def save_unet(unet: UNet, folder: str | os.PathLike[str], exact: bool = False) -> None:
    """Write config.json and the weights to a folder that diffusers can open; see `save_network`."""
    config = unet.config.copy()
    if config["cross_attention_dim"] is None:  # diffusers wants a number, though no block reads it here
        del config["cross_attention_dim"]
    if config["dims"] == 2:
        del config["dims"]  # diffusers knows no other
        config = {"_class_name": "UNet2DConditionModel"} | config
    save_network(unet, folder, config, exact=exact)


def save_network(
    network: nn.Module,
    folder: str | os.PathLike[str],
    config: dict[str, Any],
    weights: str = WEIGHTS,
    exact: bool = False,
) -> None:
    """Writes config.json and the weights, as safetensors in float16, or in the precision that they have (`exact`);
    each file is whole or not there. UserError if a weight is not finite."""
    tensors = network.state_dict()
    save_tensors(Path(folder, weights), tensors, {"format": "pt"}, exact=tensors if exact else ())
    save_json(Path(folder, "config.json"), config)


def load_network(
    network: Callable[..., T],
    folder: str | os.PathLike[str],
    weights: str = WEIGHTS,
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    mapped: bool = False,
) -> T:
    """A network from what `save_network` wrote, or diffusers, in float32 and set to evaluate.

    convert: tensors of the file -> tensors under this network's names, where a format has had others. mapped: the
    weights stay in the file, in its precision, to be used by `networks.offload`. UserError, in one line with the
    file's name, for a file that is missing, broken, a pickle, or does not fit the configuration.
    """
    file, path, name = (
        Path(folder, "config.json"),
        Path(folder, weights),
        network.__qualname__.partition(".")[0],
    )
    try:
        config = json.loads(file.read_bytes())
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        with torch.device("meta"):  # no memory, and no time for random values that the file replaces
            module = network(**config)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; the folder of a {name} holds config.json and {weights}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: not the configuration of a {name} ({error})") from None
    if weight_files(path) == [path] and not path.exists() and path.with_suffix(".bin").exists():
        raise UserError(f"{path.with_suffix('.bin')}: only safetensors are loaded: a pickle can run code")
    if mapped:
        tensors = {name: tensor for part in weight_files(path) for name, tensor in map_tensors(part)[0].items()}
        fill(module, convert(tensors) if convert else tensors, str(path), assign=True)
        return module.eval()
    module.to_empty(device="cpu")
    load_into(module, path, convert)
    return module.eval()


def load_unet(folder: str | os.PathLike[str], mapped: bool = False) -> UNet:
    """The U-Net of a folder in the diffusers format; see `load_network`."""
    return load_network(UNet, folder, mapped=mapped)
