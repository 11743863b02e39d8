"""A small text encoder: word pieces to one state per piece and one for the whole text."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """One pre-norm transformer layer (Xiong et al. 2020, arXiv 2002.04745)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, width / H)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


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
        self.config = {
            "vocabulary": vocabulary,
            "embedding": embedding,
            "width": width,
            "layers": layers,
            "heads": heads,
            "length": length,
            "output": output,
        }
        self.pieces = nn.Embedding(vocabulary, embedding)
        self.widen = nn.Linear(embedding, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, output)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.widen(self.pieces(ids)) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        states = self.head(self.norm(x))
        mean = (states * mask[..., None]).sum(1)  # its length does not matter: it is normalised next
        return states, math.sqrt(states.shape[-1]) * F.normalize(mean, dim=-1)
