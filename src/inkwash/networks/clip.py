"""The text encoder of CLIP (Radford et al. 2021, 2103.00020), in the transformers format.

One class for the encoders of Stable Diffusion 1 (CLIP's ViT-L/14), 2 (OpenCLIP's ViT-H/14) and XL (ViT-L/14, and
OpenCLIP's ViT-bigG/14 with a projection). The names of its parameters are those of transformers' CLIPTextModel and
CLIPTextModelWithProjection, with the prefix `text_model.` that every version of transformers reads.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.errors import UserError, unknown
from inkwash.networks.unet import load_network, save_network
from inkwash.weights.files import WEIGHTS

PREFIX, PROJECTED = "text_model.", "CLIPTextModelWithProjection"


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), near to GELU: what CLIP itself was trained with; OpenCLIP has GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class CLIPStates(NamedTuple):
    """states (B, L, width); pooled (B, width), the last layer's at the end of the text; text_embeds (B, projection),
    pooled and projected, None without a projection."""

    states: Tensor
    pooled: Tensor
    text_embeds: Tensor | None


class CLIPAttention(nn.Module):
    """Multi-head self-attention in which each token sees itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x


class CLIPMLP(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(self.activation(self.fc1(x)))
        return x


class CLIPLayer(nn.Module):
    """Self-attention and perceptron, each after a norm and added to its input."""

    def __init__(self, width: int, hidden: int, heads: int, activation: str, eps: float) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(width, eps), CLIPAttention(width, heads)
        self.layer_norm2, self.mlp = nn.LayerNorm(width, eps), CLIPMLP(width, hidden, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        x = x + self.mlp(self.layer_norm2(x))
        return x


class CLIPEmbeddings(nn.Module):
    """Token numbers (B, L) -> the embeddings of tokens and places, added."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.token_embedding, self.position_embedding = nn.Embedding(vocabulary, width), nn.Embedding(length, width)

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.token_embedding(ids) + self.position_embedding(torch.arange(ids.shape[1], device=ids.device))
        return x


class CLIPTransformer(nn.Module):
    """Token numbers -> the states before and after each layer; its norm is for who takes one of them."""

    def __init__(self, vocabulary: int, length: int, layers: int, width: int, *layer: Any) -> None:
        super().__init__()
        self.embeddings = CLIPEmbeddings(vocabulary, length, width)
        blocks = nn.ModuleList(CLIPLayer(width, *layer) for _ in range(layers))
        self.encoder = nn.ModuleDict({"layers": blocks})
        self.final_layer_norm = nn.LayerNorm(width, layer[-1])

    def forward(self, ids: Tensor) -> list[Tensor]:
        states = [self.embeddings(ids)]
        for layer in self.encoder["layers"].children():
            states.append(layer(states[-1]))
        return states


class CLIPTextEncoder(nn.Module):
    """Token numbers -> states; the keywords are those of transformers' CLIPTextConfig, and `projection`: whether
    there is a text_projection, as in CLIPTextModelWithProjection.

    eos_token_id says where a text ends, and so which state is the pooled one: at the first token of this number; but
    where it is 2, as in the configurations of Stable Diffusion, which have it wrong, at the highest of all numbers.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 49408,
        hidden_size: int = 512,
        intermediate_size: int = 2048,
        projection_dim: int = 512,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 8,
        max_position_embeddings: int = 77,
        hidden_act: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        bos_token_id: int = 49406,
        eos_token_id: int = 49407,
        pad_token_id: int = 1,
        projection: bool = False,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__()
        self.config: dict[str, Any] = config
        if hidden_act not in ACTIVATIONS:
            raise unknown("hidden_act", hidden_act, ACTIVATIONS)
        if hidden_size % num_attention_heads:
            raise UserError(f"num_attention_heads {num_attention_heads} does not divide hidden_size {hidden_size}")
        if not isinstance(eos_token_id, int):
            raise UserError(f"eos_token_id is one number, not {eos_token_id!r}")
        layer = hidden_size, intermediate_size, num_attention_heads, hidden_act, layer_norm_eps
        self.text_model = CLIPTransformer(vocab_size, max_position_embeddings, num_hidden_layers, *layer)
        self.text_projection = nn.Linear(hidden_size, projection_dim, bias=False) if projection else None

    @classmethod
    def from_config(cls, **config: Any) -> Self:
        """From the content of a config.json of transformers. What else it writes there (dropout, dtype, versions and
        dozens more) changes nothing here. UserError for the configuration of something else."""
        if config.get("model_type", "clip_text_model") != "clip_text_model":
            raise UserError(f"model_type {config['model_type']!r}: a CLIP text encoder's is 'clip_text_model'")
        projection = PROJECTED in (config.get("architectures") or ())
        keys = inspect.signature(cls).parameters.keys() & config.keys()
        return cls(**{key: config[key] for key in keys} | {"projection": projection})

    def forward(self, ids: Tensor, clip_skip: int = 0, final_norm: bool = True) -> CLIPStates:
        """The states of B texts, ids (B, L) with L <= max_position_embeddings.

        clip_skip: how many of the last layers are left out of the states (not of the pooled one), as diffusers
        counts for Stable Diffusion 1; A1111's "CLIP skip" is one more. final_norm: whether the states pass the final
        norm, as in Stable Diffusion 1 and 2. SDXL has clip_skip = 1 and final_norm = False. UserError for as many as
        there are layers, or more.
        """
        layers = self.config["num_hidden_layers"]
        if not 0 <= clip_skip < layers:
            raise UserError(f"clip_skip {clip_skip}: this text encoder has {layers} layers; give 0 to {layers - 1}")
        if ids.shape[1] > self.config["max_position_embeddings"]:
            raise ValueError(
                f"{ids.shape[1]} tokens: this text encoder takes {self.config['max_position_embeddings']}"
            )
        hidden = self.text_model(ids)
        norm = self.text_model.final_layer_norm
        states, eos = hidden[-1 - clip_skip], self.config["eos_token_id"]
        end = (ids if eos == 2 else (ids == eos).int()).argmax(1)  # the first of equals
        pooled = norm(hidden[-1][torch.arange(len(ids), device=ids.device), end])
        text_embeds = None if self.text_projection is None else self.text_projection(pooled)
        return CLIPStates(norm(states) if final_norm else states, pooled, text_embeds)


def save_clip(encoder: CLIPTextEncoder, folder: str | os.PathLike[str], exact: bool = False) -> None:
    """Writes config.json and the weights to a folder that transformers can open; see `save_network`."""
    config = encoder.config.copy()
    config["architectures"] = [PROJECTED if config.pop("projection") else "CLIPTextModel"]
    save_network(encoder, folder, {"model_type": "clip_text_model"} | config, WEIGHTS, exact)


def load_clip(folder: str | os.PathLike[str], mapped: bool = False) -> CLIPTextEncoder:
    """The text encoder of a folder in the transformers format, of any version; see `load_network`."""
    return load_network(CLIPTextEncoder.from_config, folder, WEIGHTS, with_prefix, mapped)


def with_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that they have here: transformers 5 leaves `text_model.` out, and until 4.31 the
    numbers 0 to 76 were saved, too."""
    named = {
        name if name.startswith((PREFIX, "text_projection.")) else PREFIX + name: tensor
        for name, tensor in tensors.items()
    }
    named.pop(f"{PREFIX}embeddings.position_ids", None)
    return named
