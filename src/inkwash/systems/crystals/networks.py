"""Message passing over the atoms of a cell and their periodic images, in dense padded batches.

A network sees differences of fractional coordinates, through waves that fit the cell (DiffCSP, Jiao et al. 2023,
2309.04475, equation 10), and real distances to the images. So nothing changes when the crystal is moved or turned, or
an atom is named by another of its images; atoms that change places change their outputs.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.diffusion.arrays import constant
from inkwash.systems.crystals.lattice import heights, parameters

WAVES, SHELLS = 4, 16  # of the pair features
CUTOFF = 6.0  # angstrom
CELL = 7  # numbers that describe the cell as a whole
IMAGES = constant([*product((-1, 0, 1), repeat=3)])


class PeriodicNetwork(nn.Module):
    """Embedded atoms in a cell -> features of atoms, and a vector at each.

    forward(kinds (B, N, width), coordinates (B, N, 3) fractional, lattice (B, 3, 3) rows in angstrom, mask (B, N),
    context (B, context)) -> (features (B, N, width), vectors (B, N, 3) in fractional coordinates). The context is
    what is known of the crystal as a whole, a time for one; lengths, angles and the number of atoms are added here.
    What lies outside the mask is 0 in the answer, and counts nowhere.
    """

    def __init__(self, width: int, layers: int, context: int) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(context + CELL, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.directions = nn.Linear(width, SHELLS + WAVES)

    def forward(
        self, kinds: Tensor, coordinates: Tensor, lattice: Tensor, mask: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        pairs, directions = pair_features(coordinates, lattice)
        real = mask.to(pairs)
        count = real.sum(1)
        weights = (real[:, None, :] * real[:, :, None] / count.clamp(min=1)[:, None, None])[..., None]
        known = self.context(torch.cat([context, cell_features(lattice, count)], -1))[:, None]
        h = kinds
        for layer in self.layers:
            h, messages = layer(h, pairs, weights, known)
        vectors = torch.einsum("bijk,bijkd->bid", self.directions(messages) * weights, directions)
        features: Tensor = self.norm(h) * real[..., None]
        return features, vectors


class Layer(nn.Module):
    """A message from each atom to each, and what they make of the mean of those that reach them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context = nn.Linear(width, width)
        self.receiver, self.sender = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(6 * WAVES + SHELLS, width, bias=False)
        self.message = nn.Linear(width, width)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, h: Tensor, pairs: Tensor, weights: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(h (B, N, W), messages (B, N, N, W)); weights (B, N, N, 1) are those of the mean."""
        own = self.norm(h) + self.context(context)
        messages = self.receiver(own)[:, :, None] + self.sender(own)[:, None] + self.pair(pairs)
        messages = F.silu(self.message(F.silu(messages)))
        return h + self.update(torch.cat([own, (messages * weights).sum(2)], -1)), messages


def cell_features(lattice: Tensor, count: Tensor) -> Tensor:
    """Lengths over the cube root of the number of atoms, in units of 2 angstrom, cosines of the angles, and the
    logarithm of the number: (B, 7)."""
    sides = parameters(lattice)
    lengths = sides[:, :3] / count.clamp(min=1)[:, None] ** (1 / 3) / 2
    return torch.cat([lengths, torch.cos(torch.deg2rad(sides[:, 3:])), count.clamp(min=1).log()[:, None]], -1)


def pair_features(coordinates: Tensor, lattice: Tensor) -> tuple[Tensor, Tensor]:
    """What an atom i sees of an atom j and all its images: numbers (B, N, N, 6 waves + shells), and directions in
    fractional coordinates (B, N, N, shells + waves, 3), which turn round with the sign of x_j - x_i.

    Waves sin(2 pi k f), cos(2 pi k f), k = 1, 2, ..., of f = x_j - x_i; shells: how many images lie at about each
    distance, up to a cutoff, an atom's own images among them. Only the 27 nearest cells are searched, so in a narrow
    cell the cutoff is 1.5 times its smallest height, beyond which they do not see everything.
    """
    f = coordinates[:, None] - coordinates[:, :, None]
    f = f - f.round()
    k = 2 * math.pi * torch.arange(1, WAVES + 1, device=f.device, dtype=f.dtype)
    waves = k[:, None] * f[..., None, :]  # (B, N, N, K, 3)
    sines = waves.sin()

    fractional = f[..., None, :] + IMAGES(torch, f.dtype, f.device)  # (B, N, N, 27, 3)
    distance = (fractional @ lattice[:, None, None]).norm(dim=-1)
    cutoff = (1.5 * heights(lattice).amin(-1)).clamp(max=CUTOFF)[:, None, None, None]
    near = (0.5 + 0.5 * torch.cos(math.pi * (distance / cutoff).clamp(max=1))) * (distance > 1e-4)
    shells = _shells(distance) * near[..., None]
    numbers = torch.cat([sines.flatten(-2), waves.cos().flatten(-2), shells.sum(-2)], -1)
    return numbers, torch.cat([shells.mT @ (fractional / distance.clamp(min=0.1)[..., None]), sines], -2)


def _shells(distance: Tensor) -> Tensor:
    """Bumps around distances from 0 to the cutoff: (..., shells)."""
    step = CUTOFF / (SHELLS - 1)
    centres = torch.arange(SHELLS, device=distance.device, dtype=distance.dtype)
    return torch.exp(-((distance[..., None] / step - centres).square() / 2))
