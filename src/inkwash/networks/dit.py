"""The diffusion transformer (DiT, Peebles & Xie 2023, 2212.09748), with cross-attention on a text if wanted."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.errors import UserError
from inkwash.networks.layers import Attention, VectorEmbedding, sinusoid, zeroed

WAVES = 256  # sinusoids of the time, as in the paper


class Block(nn.Module):
    """Attention, cross-attention and a perceptron, whose norms and gates the vector c sets (adaLN-zero).

    x += g (.) f(norm(x) (1 + s) + b) with (b, s, g) = W silu(c), W = 0 at the start: each block begins as
    the identity. Cross-attention is not modulated; its output projection begins at zero.
    """

    def __init__(self, width: int, heads: int, context_dim: int | None) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.attention = Attention(width, heads, bias=True)
        self.cross: Attention | None = None
        if context_dim is not None:
            self.cross = Attention(width, heads, context_dim, bias=True)
            zeroed(self.cross.to_out)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, vector: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(vector)[:, None].chunk(6, dim=-1)
        x = x + gate * self.attention(norm(x) * (1 + scale) + shift)
        if self.cross is not None:
            x = x + self.cross(norm(x), context, mask)
        return x + gate_2 * self.perceptron(norm(x) * (1 + scale_2) + shift_2)


class DiT(nn.Module):
    """A transformer over the patches of a picture; forward as UNet's.

    patch: side of a patch in pixels (of the latent picture). width is divisible by 4 (sinusoids of rows and
    of columns) and by heads. context_dim: width of the text states, None for a network without. label_dim:
    width of a label's vector, None for a network without. The output is zero until training begins.
    """

    def __init__(
        self,
        *,
        in_channels: int = 4,
        out_channels: int = 4,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        context_dim: int | None = None,
        label_dim: int | None = None,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__()
        if width % 4 or width % heads:
            raise UserError(f"width {width}: a DiT's width is a multiple of 4 and of its {heads} heads")
        self.config: dict[str, Any] = config
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.time_embedding = VectorEmbedding(WAVES, width)
        self.label_embedding = None if label_dim is None else VectorEmbedding(label_dim, width)
        self.blocks = nn.ModuleList(Block(width, heads, context_dim) for _ in range(depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, out_channels * patch**2))

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """The prediction for x (B, C, H, W), H and W multiples of `patch`, time (B,), 0 to 1000.

        context (B, L, context_dim), context_mask (B, L) True where a token is real, label (B, label_dim).
        """
        for name, given, key in (("context", context, "context_dim"), ("label", label, "label_dim")):
            if (given is None) != (self.config[key] is None):
                raise ValueError(f"this DiT {'needs a' if given is None else 'takes no'} {name}")
        if any(side % self.config["patch"] for side in x.shape[2:]):
            raise ValueError(f"size {tuple(x.shape[2:])} is no multiple of the patch {self.config['patch']}")
        vector = self.time_embedding(sinusoid(time.expand(x.shape[0]), WAVES).to(x.dtype))
        if self.label_embedding is not None:
            vector = vector + self.label_embedding(label)
        vector = F.silu(vector)
        h = self.patches(x)
        grid = h.shape[2:]
        h = h.flatten(2).transpose(1, 2)
        h = h + positions(*grid, self.config["width"]).to(h)
        for block in self.blocks:
            h = block(h, vector, context, context_mask)
        shift, scale = self.modulation(vector)[:, None].chunk(2, dim=-1)
        h = self.out(norm(h) * (1 + scale) + shift)
        # (B, rows * columns, C * patch^2) -> each token to its patch of the picture
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, grid), self.config["patch"])


def norm(x: Tensor) -> Tensor:
    """Layer norm without weights: its scale and shift come from the modulation."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sinusoids of the row in the first half, of the column in the second: (rows * columns, width)."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([sinusoid(row.flatten(), width // 2), sinusoid(column.flatten(), width // 2)], dim=-1)
