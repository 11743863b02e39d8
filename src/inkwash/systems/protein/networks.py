"""Networks of the backbone: ProtDiff's, which cannot tell a chain from its mirror image, and ours, which can."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# distances between atoms (N, CA, C = 0, 1, 2) of one residue and of the next that hardly vary, with their means in nm
# over the compact chains of the training set
WITHIN = ((0, 1, 0.1460), (1, 2, 0.1524), (0, 2, 0.2460))
TO_NEXT = ((2, 0, 0.1330), (1, 0, 0.2432), (2, 1, 0.2435), (1, 1, 0.3804))


def sinusoid(values: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """sin and cos of `values` (...) at width / 2 wavelengths from 2 pi to 2 pi `longest`: (..., width)."""
    rates = torch.exp(torch.arange(width // 2, device=values.device) * (-math.log(longest) / (width // 2)))
    angles = values[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class ProtDiffNetwork(nn.Module):
    """The noise of CA traces, by an E(3)-equivariant network of all pairs (ProtDiff, Trippe et al. 2023, 2206.04119;
    EGNN, Satorras et al. 2021, 2102.09844). Mirrored input gives mirrored output, so it cannot learn handedness.

    In each layer m_ij = MLP(h_i, h_j, |x_i - x_j|^2, e(i - j)), x_i moves by
    mean_j phi(m_ij) (x_i - x_j) / |x_i - x_j|, and h_i by MLP(h_i, sum_j m_ij). h_i begins as the place in the chain
    plus the time, turned by a fixed rotation so that one is not taken for the other; e is of the signed offset. The
    output is x_out - x_in.
    """

    atoms = 1
    rotation: Tensor

    def __init__(self, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.config = {"width": width, "layers": layers}
        rotation = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
        self.register_buffer("rotation", rotation)
        self.layers = nn.ModuleList(EGNNLayer(width) for _ in range(layers))

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, L, 3), time: (B,), mask: (B, L). Returns (B, L, 3)."""
        mask = torch.ones_like(x[..., 0], dtype=torch.bool) if mask is None else mask
        place, width = torch.arange(x.shape[1], device=x.device), self.config["width"]
        h = sinusoid(place.to(x), width) + (sinusoid(time, width) @ self.rotation.T)[:, None]
        offset = sinusoid((place[:, None] - place).to(x), width)
        out = x
        for layer in self.layers:
            h, out = layer(h, out, offset, mask)
        return out - x


class EGNNLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.receiver, self.sender = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.offset, self.distance = nn.Linear(width, width, bias=False), nn.Linear(1, width, bias=False)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        step = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(step.weight, gain=0.001)
        self.shift = nn.Sequential(nn.Linear(width, width), nn.SiLU(), step)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, h: Tensor, x: Tensor, offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        way = x[:, :, None] - x[:, None]
        square = (way**2).sum(-1, keepdim=True)
        m = self.receiver(h)[:, :, None] + self.sender(h)[:, None] + self.offset(offset) + self.distance(square)
        m = self.message(m) * mask[:, None, :, None]
        count = mask.sum(1)[:, None, None]
        x = x + (way / (square.detach().sqrt() + 1e-8) * self.shift(m) * mask[:, None, :, None]).sum(2) / count
        return self.norm(h + self.update(torch.cat([h, m.sum(2)], -1))), x


class FrameNetwork(nn.Module):
    """N, CA and C, by attention among residues that see each other from frames of their own.

    Vectors are turned into the frame that N, CA and C of a residue span, where they are numbers that rotations and
    translations leave alone and mirrors do not (invariant points: AlphaFold 2, Jumper et al. 2021). There are two
    stages, each of which estimates the clean points; the second one sees the first one's estimate as well, whose
    frames mean something where those of the noise do not. A stage answers with vectors in each residue's frame plus
    weighted sums of all points, the only answer there is at high noise.

    It is shown x / m and log(sigma) / 4 of the parametrization `edm(data_std)` at alpha = 1, m^2 = data_std^2 +
    sigma^2, and computes lengths in nm. Distances that chemistry fixes are shown as deviations in units of sigma, so
    that an error of 0.01 angstrom is seen at noise as small.
    """

    atoms = 3

    def __init__(
        self,
        width: int = 64,
        pair: int = 24,
        heads: int = 8,
        layers: tuple[int, ...] = (2, 3),
        data_std: float = 0.68,
    ) -> None:
        super().__init__()
        self.config = {"width": width, "pair": pair, "heads": heads, "layers": list(layers), "data_std": data_std}
        self.data_std = data_std
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Linear(50, width)
        self.stages = nn.ModuleList(Stage(width, pair, heads, count, k == 0) for k, count in enumerate(layers))

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, 3 L, 3), time: (B,), mask: (B, 3 L). Returns (B, 3 L, 3)."""
        b, n = x.shape[0], x.shape[1] // 3
        real = x.new_ones(b, n, dtype=torch.bool) if mask is None else mask[:, ::3]
        std = self.data_std
        sigma = torch.exp(4 * time).to(x)[:, None, None, None]
        m = (std**2 + sigma**2) ** 0.5
        x = x.reshape(b, n, 3, 3)
        skip, out = std**2 / m, sigma * std / m  # the clean points are skip x + out output
        h = self.time(sinusoid(time.to(x) * 20, 32, 100.0))[:, None] + self.place(places(real).to(x))
        output, guess, spread = torch.zeros_like(x), m * x, sigma
        for stage in self.stages:
            h, change = stage(h, x, guess * real[..., None, None], m, spread, real)
            output = output + change
            guess, spread = skip * x + out * output, out
        return (output * real[..., None, None]).reshape(b, 3 * n, 3)


def places(real: Tensor) -> Tensor:
    """Where a residue is in its chain, counted from both ends, and how long the chain is: (B, L, 50)."""
    first = torch.arange(real.shape[1], device=real.device).expand(real.shape).float()
    length = real.sum(1, keepdim=True).float()
    ends = [sinusoid(first, 16, 100.0), sinusoid(length - 1 - first, 16, 100.0), sinusoid(length, 16, 100.0)]
    return torch.cat(
        [*(end.expand(*real.shape, 16) for end in ends), torch.stack([first, length - first], -1) / 64], -1
    )


class Stage(nn.Module):
    """Layers of attention around one guess of the clean points."""

    def __init__(self, width: int, pair: int, heads: int, layers: int, wide: bool) -> None:
        super().__init__()
        self.wide = wide  # whether residues see others from the frame of the trace, which noise hides less
        self.pairs = PairFeatures(pair)
        self.local = nn.Sequential(nn.Linear(LOCAL, width), nn.SiLU(), nn.Linear(width, width))
        self.bias = nn.Linear(pair, heads * layers, bias=False)
        self.layers = nn.ModuleList(Attention(width, pair, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.in_frame, self.weights = nn.Linear(width, 18), nn.Linear(width, 3 * (3 * heads + 4))
        for layer in (self.in_frame, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, h: Tensor, x: Tensor, guess: Tensor, m: Tensor, spread: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """h: (B, L, W); x, as the network is shown it, and the guess in nm, its error about `spread`: (B, L, 3, 3).
        Returns h and the change of the output, (B, L, 3, 3)."""
        b, n = real.shape
        both = frames_of(guess), frames_of(trace(guess[:, :, 1], 2))
        frames = both[self.wide]
        e = self.pairs(guess, frames, m, spread)
        h = h + self.local(local_features(guess, frames, spread, real))
        away = torch.zeros_like(real, dtype=x.dtype).masked_fill(~real, -1e9)[:, None, None]
        biases = self.bias(e).transpose(-1, -2) + away  # (B, L, heads * layers, L)
        for layer, bias in zip(self.layers, biases.chunk(len(self.layers), 2), strict=True):
            h, weights = layer(h, e, bias, guess / m, frames)
        h = h * real[..., None]
        v = self.norm(h)
        inside = self.in_frame(v).view(b, n, 3, 6) @ torch.cat(both, -1).transpose(-1, -2)
        sums = (weights.flatten(1, 2) @ x.flatten(2)).view(b, n, -1, 3)  # of N, CA and C, by each head
        sums = torch.cat([sums, x, (guess / m)[:, :, 1:2]], 2)
        return h, inside + self.weights(v).view(b, n, 3, -1) @ sums


def frames_of(atoms: Tensor) -> Tensor:
    """Of N, CA, C (..., 3, 3) the right-handed axes, as columns (..., 3, 3): toward C, in the plane toward N, and
    across."""
    n, ca, c = atoms.unbind(-2)
    first = F.normalize(c - ca, dim=-1, eps=1e-6)
    toward = n - ca
    second = F.normalize(toward - (toward * first).sum(-1, keepdim=True) * first, dim=-1, eps=1e-6)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def trace(ca: Tensor, step: int) -> Tensor:
    """CA of the residues `step` before, of each, and `step` after: (B, L, 3, 3)."""
    return torch.stack([shifted(ca, -step), ca, shifted(ca, step)], -2)


def handedness(ca: Tensor, step: int) -> Tensor:
    """Of the bonds between CA of i - step, i, i + step, i + 2 step the triple product, over their lengths: (B, L)."""
    bonds = [shifted(ca, (k + 1) * step) - shifted(ca, k * step) for k in (-1, 0, 1)]
    a, b, c = (F.normalize(bond, dim=-1, eps=1e-6) for bond in bonds)
    product: Tensor = (torch.linalg.cross(a, b) * c).sum(-1)
    return product


STEPS = (1, 2, 3, 5)  # along the chain, at which handedness is seen
LOCAL = 3 + 2 * 4 + 4 * 9 + 2 + len(STEPS)


def local_features(guess: Tensor, frames: Tensor, spread: Tensor, real: Tensor) -> Tensor:
    """What a residue sees of itself and its neighbours in the chain: deviations of fixed distances; N, CA and C of
    the two before and the two after, in its frame; which neighbours there are; handedness. (B, L, LOCAL)."""
    scale = (spread[..., 0] ** 2 + 0.001**2) ** 0.5  # (B, 1, 1)

    def deviations(first: Tensor, second: Tensor, fixed: tuple[tuple[int, int, float], ...]) -> Tensor:
        pairs = [(first[:, :, i] - second[:, :, j]).norm(dim=-1) - length for i, j, length in fixed]
        return softsign(torch.stack(pairs, -1) / scale)

    parts = [deviations(guess, guess, WITHIN)]
    for step in (1, -1, 2, -2):
        other, there = shifted(guess, step), shifted(real, step)[..., None]
        if abs(step) == 1:
            pair = (guess, other) if step == 1 else (other, guess)
            parts.append(deviations(*pair, TO_NEXT) * there)
        seen = ((other - guess[:, :, 1:2]) @ frames).flatten(2)
        parts.append(seen / (0.25 + spread[..., 0]) * there)
    parts.append(torch.stack([handedness(guess[:, :, 1], step) for step in STEPS], -1))
    return torch.cat([*parts, shifted(real, 1)[..., None].to(guess), shifted(real, -1)[..., None].to(guess)], -1)


def softsign(x: Tensor) -> Tensor:
    """3 x / (3 + |x|): x near 0, never beyond 3."""
    return 3 * x / (3 + x.abs())


def shifted(x: Tensor, step: int) -> Tensor:
    """x of residue i + step at i; beyond the ends 0, of points the chain's centre."""
    out = torch.zeros_like(x)
    if step == 0 or abs(step) >= x.shape[1]:
        return out if step else x
    if step > 0:
        out[:, :-step] = x[:, step:]
    else:
        out[:, -step:] = x[:, :step]
    return out


class PairFeatures(nn.Module):
    """How a residue sees another: CA's direction and distance, and the vectors from it to N and C, in its own frame;
    and the signed offset in the chain. (B, L, L, pair)."""

    centres: Tensor

    def __init__(self, pair: int) -> None:
        super().__init__()
        self.offset = nn.Embedding(2 * 32 + 1, pair)
        self.seen, self.distance = nn.Linear(9, pair), nn.Linear(16 + 2, pair, bias=False)
        self.out = nn.Linear(pair, pair)
        self.register_buffer("centres", torch.linspace(0.3, 2.4, 16), persistent=False)

    def forward(self, guess: Tensor, frames: Tensor, m: Tensor, spread: Tensor) -> Tensor:
        b, n = guess.shape[:2]
        seen = guess.reshape(b, 3 * n, 3) @ frames.permute(0, 2, 1, 3).reshape(b, 3, 3 * n)
        seen = seen.view(b, n, 3, n, 3).permute(0, 3, 1, 2, 4)  # (B, i, j, atom of j, axis of i)
        ca = seen[:, :, :, 1] - guess[:, :, 1:2] @ frames
        d = (ca**2).sum(-1, keepdim=True).add(1e-6).sqrt()
        bonds = (seen[:, :, :, ::2] - seen[:, :, :, 1:2]).flatten(3) / (0.15 + spread)
        place = torch.arange(n, device=guess.device)
        offset = self.offset((place - place[:, None]).clamp(-32, 32) + 32)
        rbf = torch.exp(-(((d - self.centres) / 0.14) ** 2) / 2)
        e = self.seen(torch.cat([ca / d, bonds], -1)) + offset
        e = e + self.distance(torch.cat([rbf, d / m, (1 + d).log()], -1))
        out: Tensor = self.out(F.silu(e))
        return out


class Attention(nn.Module):
    """Among all residues, with a bias for each pair; a residue gathers values, pair features and points."""

    def __init__(self, width: int, pair: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width + heads * (pair + 9), width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor, e: Tensor, bias: Tensor, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """h: (B, L, W), e: (B, L, L, pair), bias: (B, L, heads, L), points: (B, L, 3, 3). Returns h and the weights,
        (B, L, heads, L)."""
        b, n = h.shape[:2]
        q, k, v = self.qkv(self.norm(h)).view(b, n, 3, self.heads, -1).unbind(2)
        logits = torch.einsum("bihd,bjhd->bihj", q, k) / q.shape[-1] ** 0.5
        weights = (logits + bias).softmax(-1)
        values = torch.einsum("bihj,bjhd->bihd", weights, v)
        where = (weights.flatten(1, 2) @ points.flatten(2)).view(b, n, self.heads * 3, 3)
        where = (where - points[:, :, 1:2]) @ frames
        gathered = [values.flatten(2), (weights @ e).flatten(2), where.flatten(2)]
        h = h + self.out(torch.cat(gathered, -1))
        return h + self.mlp(h), weights
