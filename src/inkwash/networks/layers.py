"""Layers that the U-Net and the transformers share."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoidal_embedding(position: Tensor, dim: int, *, cosine_first: bool = True, shift: float = 0.0) -> Tensor:
    """Sines and cosines of a position at geometric frequencies (Vaswani et al. 2017, section 3.5).

    w_k = 10000^(-k / (dim/2 - shift)) for k = 0 .. dim/2 - 1; the result holds cos(w_k p) and sin(w_k p).

    position: any shape, in the unit of the embedding (here times of 0 to 1000). Returns float32 (..., dim).
    """
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=position.device) * (-math.log(10000.0) / (half - shift)))
    angle = position.float()[..., None] * frequency
    pair = (angle.cos(), angle.sin()) if cosine_first else (angle.sin(), angle.cos())
    return torch.cat(pair, dim=-1)


class VectorEmbedding(nn.Module):
    """A vector (sinusoids of a time, or a label) -> linear, SiLU, linear.

    cond (B, cond_dim) is projected and added to the vector first.
    """

    def __init__(self, dim_in: int, dim: int, cond_dim: int | None = None) -> None:
        super().__init__()
        self.cond_proj = nn.Linear(cond_dim, dim_in, bias=False) if cond_dim else None
        self.linear_1 = nn.Linear(dim_in, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is not None and self.cond_proj is not None:
            x = x + self.cond_proj(cond.to(x.dtype))
        x = self.linear_2(F.silu(self.linear_1(x)))
        return x


class Attention(nn.Module):
    """Multi-head attention, softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017).

    x (B, N, dim) asks; context (B, L, context_dim) answers, x itself if there is none. mask (B, L) is True
    where a token of the context is real. An element with no real token attends to nothing: zeros enter the
    output projection.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))  # a list of one: the format's name is "to_out.0"

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        q, k, v = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        attention_mask = None if mask is None else mask[:, None, None, :]
        if q.dtype == torch.bfloat16 and q.device.type == "cpu":  # there its backward is up to 4 times slower
            with torch.autocast("cpu", enabled=False):
                out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attention_mask).to(q.dtype)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attention_mask)
        x = self.to_out(out.transpose(1, 2).flatten(2))
        return x


def zero_module(layer: nn.Module) -> nn.Module:
    """The layer with all its parameters set to zero, so that what it ends starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
