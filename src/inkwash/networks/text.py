"""A small text encoder: word pieces to one state per piece and one for the whole text."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerLayer(nn.Module):
    """One pre-norm transformer layer (Xiong et al. 2020, arXiv 2002.04745).

    mask: which positions each one sees, True where it does, broadcast to (B, heads, L, L); None: all. angles (L,
    width / heads / 2): by how much queries and keys are turned at each position (`rotary`).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None, angles: Tensor | None = None) -> Tensor:
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, width / H)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if angles is not None:
            q, k = apply_rotary(q, angles), apply_rotary(k, angles)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return x


def rotary(position: Tensor, dim: int) -> Tensor:
    """Angles (L, dim / 2) = position times 10000^(-2 k / dim): with queries and keys turned so, attention depends on
    how far apart two positions are (RoFormer, Su et al. 2021, arXiv 2104.09864)."""
    return position[:, None] * 10000.0 ** (-torch.arange(0, dim, 2, device=position.device) / dim)


def apply_rotary(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair (first half, second half) of the last axis, turned by its angle."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TextEncoder(nn.Module):
    """Word pieces -> states, with a factorised embedding (ALBERT, arXiv 1909.11942): pieces x embedding x width.

    ids (B, L) piece numbers with L <= length, mask (B, L) True where a piece is real ->
    states (B, L, output) and pooled (B, output) = sqrt(output) * m / |m|, m the mean of the real states.
    Both have about unit mean square. What stands behind the mask changes nothing before it.
    """

    def __init__(
        self, vocabulary: int, embedding: int, width: int, layers: int, heads: int, length: int, output: int
    ) -> None:
        super().__init__()
        self.config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.pieces = nn.Embedding(vocabulary, embedding)
        self.widen = nn.Linear(embedding, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, output)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.widen(self.pieces(ids)) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        states = self.head(self.norm(x))
        mean = (states * mask[..., None]).sum(1)  # its length does not matter: it is normalised next
        return states, math.sqrt(states.shape[-1]) * F.normalize(mean, dim=-1)
