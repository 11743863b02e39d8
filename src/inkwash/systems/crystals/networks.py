"""Message passing over the atoms of a cell and their periodic images, in dense padded batches.

A network sees differences of fractional coordinates, through waves that fit the cell (DiffCSP, Jiao et al. 2023,
2309.04475, equation 10), and real distances to the images. So nothing changes when the crystal is moved or turned, or
an atom is named by another of its images; atoms that change places change their outputs.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.diffusion.arrays import constant
from inkwash.systems.crystals.lattice import heights, parameters

WAVES, SHELLS = 4, 16  # of the pair features
CUTOFF = 6.0  # angstrom
CELL = 7  # numbers that describe the cell as a whole
IMAGES = constant([*product((-1, 0, 1), repeat=3)])
ORDERS = ((0, 1), (1, 4), (4, 9))  # of the harmonics: where those of l = 0, 1 and 2 begin and end


class PeriodicNetwork(nn.Module):
    """Embedded atoms in a cell -> features of atoms, and a vector at each.

    forward(kinds (B, N, width), coordinates (B, N, 3) fractional, lattice (B, 3, 3) rows in angstrom, mask (B, N),
    context (B, context)) -> (features (B, N, width), vectors (B, N, 3) in fractional coordinates). The context is
    what is known of the crystal as a whole, a time for one; lengths, angles and the number of atoms are added here.
    What lies outside the mask is 0 in the answer, and counts nowhere.

    moments: how many of each order (number, dipole and quadrupole of its surroundings) an atom keeps; products of
    them tell the angles between its bonds (the atomic cluster expansion, Drautz 2019, 10.1103/PhysRevB.99.014104).
    With 0 an atom sees distances only, and the context is added, not multiplied.
    """

    def __init__(self, width: int, layers: int, context: int, moments: int = 0) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(context + CELL, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.shells = nn.Linear(SHELLS, moments, bias=False) if moments else None
        kind = partial(AngularLayer, moments=moments) if moments else Layer
        self.layers = nn.ModuleList(kind(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.directions = nn.Linear(width, SHELLS + WAVES)

    def forward(
        self, kinds: Tensor, coordinates: Tensor, lattice: Tensor, mask: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen = images(coordinates, lattice)
        pairs, directions = pair_features(seen)
        real = mask.to(pairs)
        both, count = real[:, None, :] * real[:, :, None], real.sum(1).clamp(min=1)
        weights = (both / count[:, None, None])[..., None]
        known = self.context(torch.cat([context, cell_features(lattice, count)], -1))[:, None]
        h = kinds
        if self.shells is not None:
            terms = self.shells(harmonics(seen)) * both[..., None, None]
            moments = terms.sum(2)
        for layer in self.layers:
            if isinstance(layer, AngularLayer):
                h, messages, moments = layer(h, pairs, weights, known, terms, moments)
            else:
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


class AngularLayer(nn.Module):
    """A `Layer` whose messages know the angles at the receiver, and whose context scales what it is added to."""

    def __init__(self, width: int, moments: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context = nn.Linear(width, 2 * width)
        self.receiver, self.sender = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(6 * WAVES + SHELLS, width, bias=False)
        self.angles = nn.Linear(len(ORDERS) * moments, width, bias=False)
        self.message, self.gate = nn.Linear(width, width), nn.Linear(width, moments)
        self.left, self.right = (nn.Linear(moments, moments, bias=False) for _ in range(2))
        inputs = 2 * width + len(ORDERS) * moments
        self.update = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, h: Tensor, pairs: Tensor, weights: Tensor, context: Tensor, terms: Tensor, moments: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(h (B, N, W), messages (B, N, N, W), moments (B, N, 9, M)); terms (B, N, N, 9, M): what each atom adds to
        the moments of another."""
        shift, scale = self.context(context).chunk(2, -1)
        own = self.norm(h) * (1 + scale) + shift
        messages = self.receiver(own)[:, :, None] + self.sender(own)[:, None] + self.pair(pairs)
        messages = F.silu(messages + self.angles(products(moments[:, :, None], terms)))
        messages = F.silu(self.message(messages))
        moments = moments + (self.gate(messages)[..., None, :] * terms).sum(2)
        seen = products(self.left(moments), self.right(moments))
        return h + self.update(torch.cat([own, (messages * weights).sum(2), seen], -1)), messages, moments


def products(one: Tensor, other: Tensor) -> Tensor:
    """The scalar products of moments (..., 9, M) of each order, (..., 3 M), which do not change with the axes."""
    each = one * other
    return torch.cat([each[..., start:end, :].sum(-2) for start, end in ORDERS], -1)


def cell_features(lattice: Tensor, count: Tensor) -> Tensor:
    """Lengths over the cube root of the number of atoms, in units of 2 angstrom, cosines of the angles, and the
    logarithm of the number: (B, 7)."""
    sides = parameters(lattice)
    lengths = sides[:, :3] / count.clamp(min=1)[:, None] ** (1 / 3) / 2
    return torch.cat([lengths, torch.cos(torch.deg2rad(sides[:, 3:])), count.clamp(min=1).log()[:, None]], -1)


class Images(NamedTuple):
    """What an atom i sees of an atom j and its images: the difference f of fractional coordinates (B, N, N, 3), unit
    vectors to 27 images in fractional and in Cartesian coordinates (B, N, N, 27, 3), and their distances in shells
    (B, N, N, 27, shells), which end at a cutoff.

    Only the 27 nearest cells are searched, so in a narrow cell the cutoff is 1.5 times its smallest height, beyond
    which they do not see everything.
    """

    f: Tensor
    fractional: Tensor
    cartesian: Tensor
    shells: Tensor


def images(coordinates: Tensor, lattice: Tensor) -> Images:
    """Of atoms at fractional coordinates (B, N, 3) in a lattice (B, 3, 3)."""
    f = coordinates[:, None] - coordinates[:, :, None]
    f = f - f.round()
    fractional = f[..., None, :] + IMAGES(torch, f.dtype, f.device)  # (B, N, N, 27, 3)
    cartesian = fractional @ lattice[:, None, None]
    distance = cartesian.norm(dim=-1)
    cutoff = (1.5 * heights(lattice).amin(-1)).clamp(max=CUTOFF)[:, None, None, None]
    near = (0.5 + 0.5 * torch.cos(math.pi * (distance / cutoff).clamp(max=1))) * (distance > 1e-4)
    length = distance.clamp(min=0.1)[..., None]
    return Images(f, fractional / length, cartesian / length, _shells(distance) * near[..., None])


def pair_features(seen: Images) -> tuple[Tensor, Tensor]:
    """Numbers (B, N, N, 6 waves + shells), and directions in fractional coordinates (B, N, N, shells + waves, 3),
    which turn round with the sign of x_j - x_i.

    Waves sin(2 pi k f), cos(2 pi k f), k = 1, 2, ...; shells: how many images lie at about each distance, an atom's
    own images among them.
    """
    k = 2 * math.pi * torch.arange(1, WAVES + 1, device=seen.f.device, dtype=seen.f.dtype)
    waves = k[:, None] * seen.f[..., None, :]  # (B, N, N, K, 3)
    sines = waves.sin()
    numbers = torch.cat([sines.flatten(-2), waves.cos().flatten(-2), seen.shells.sum(-2)], -1)
    return numbers, torch.cat([seen.shells.mT @ seen.fractional, sines], -2)


def harmonics(seen: Images) -> Tensor:
    """The real spherical harmonics of l = 0, 1 and 2 of the images' directions, summed in each shell: (B, N, N, 9,
    shells). Of each l the sum of squares of one direction is 1."""
    x, y, z = seen.cartesian.unbind(-1)
    root = 3**0.5
    quadrupoles = [root * x * y, root * y * z, root * z * x, root / 2 * (x * x - y * y), z * z - (x * x + y * y) / 2]
    sums: Tensor = torch.stack([torch.ones_like(x), x, y, z, *quadrupoles], -2) @ seen.shells
    return sums


def _shells(distance: Tensor) -> Tensor:
    """Bumps around distances from 0 to the cutoff: (..., shells)."""
    step = CUTOFF / (SHELLS - 1)
    centres = torch.arange(SHELLS, device=distance.device, dtype=distance.dtype)
    return torch.exp(-((distance[..., None] / step - centres).square() / 2))
