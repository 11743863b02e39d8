"""The network of CDVAE: an encoder to z, what is read off z, and a decoder that scores noisy atoms beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from inkwash.systems.crystals.lattice import matrix, parameters
from inkwash.systems.crystals.networks import PeriodicNetwork
from inkwash.training.recipe import Width

FLATTEST = 0.05  # of a cell: its volume over that of a box of its lengths


def pooled(features: Tensor, mask: Tensor) -> Tensor:
    """The mean over the atoms of each crystal, (B, N, W) to (B, W)."""
    real = mask[..., None].to(features)
    return (features * real).sum(1) / real.sum(1)


def to_fractional(cartesian: Tensor, lattice: Tensor) -> Tensor:
    """(B, N, 3) in units of the rows of lattice (B, 3, 3). No device is waited for."""
    inverse: Tensor = torch.linalg.inv_ex(lattice).inverse
    return cartesian @ inverse


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


@dataclass(frozen=True)
class Options:
    """What is CDVAE's own in a recipe, its table [cdvae]; each part that is easily skipped can be left out.

    latent              numbers of z
    kl                  weight of the KL divergence
    nearest_image       coordinates learn the way to the nearest image of the clean atom; else the noise added to it
    toward_composition  kinds are noised towards the composition that z says; else towards any element
    teacher_forcing     in the first half of the training atoms are placed in the true cell, not in the one z says
    scaled_lengths      z says lengths over the cube root of the number of atoms
    integer_composition  atoms begin as the composition rounded to whole numbers; else each is drawn from it
    """

    latent: Width = 64
    kl: Annotated[float, Ge(0), Le(1000)] = 0.01
    nearest_image: bool = True
    toward_composition: bool = True
    teacher_forcing: bool = True
    scaled_lengths: bool = True
    integer_composition: bool = True


class CrystalVAE(nn.Module):
    """CDVAE's three networks (Xie et al. 2021, 2110.06197), encoder and decoder each a `PeriodicNetwork`.

    elements    how many kinds there are; properties: numbers of a crystal that are read off z, perhaps none
    atoms       the most that a crystal has
    options     see `Options`

    Buffers: mean and standard deviation of the six numbers of the lattice that z says, (6,), see `set_scale`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, elements: int, properties: int, width: int, layers: int, atoms: int, **options: Any) -> None:
        super().__init__()
        self.options = Options(**options)
        sizes = {"elements": elements, "properties": properties, "width": width, "layers": layers, "atoms": atoms}
        self.config: dict[str, Any] = sizes | asdict(self.options)
        latent = self.options.latent
        self.symbols = max(2, elements)  # noise of tokens needs two
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))
        self.encoder_kinds = nn.Embedding(self.symbols, width)
        self.encoder = PeriodicNetwork(width, layers, context=1)
        self.moments = nn.Linear(2 * width, 2 * latent)
        self.to_atoms = mlp(latent, width, atoms + 1)
        self.to_lattice = mlp(latent, width, 6)
        self.to_composition = mlp(latent, width, self.symbols)
        self.to_properties = mlp(latent, width, properties) if properties else None
        self.decoder_kinds = nn.Embedding(self.symbols, width)
        self.decoder = PeriodicNetwork(width, layers, context=latent + 1)
        self.to_kinds = nn.Linear(width, self.symbols)

    def set_scale(self, lattice: Tensor, count: Tensor) -> None:
        """Standardises the lattices (n, 3, 3) of these crystals; a number that is one in all of them is only
        shifted."""
        numbers = self._scaled(parameters(lattice.double()), count, -1 / 3)
        std = numbers.std(0, correction=0)
        self.mean.copy_(numbers.mean(0))
        self.std.copy_(torch.where(std < 1e-4, 1.0, std))

    def properties(self, z: Tensor) -> Tensor:
        """What z (B, latent) says of them, standardised, (B, P)."""
        return z[:, :0] if self.to_properties is None else self.to_properties(z)

    def lattice_numbers(self, lattice: Tensor, count: Tensor) -> Tensor:
        """What `to_lattice` should say of lattices (B, 3, 3) of so many atoms: three lengths, perhaps over
        count^(1/3), and three angles in degrees, (B, 6), standardised."""
        return (self._scaled(parameters(lattice), count, -1 / 3) - self.mean) / self.std

    def lattice(self, numbers: Tensor, count: Tensor) -> Tensor:
        """The cell (B, 3, 3) of such numbers. Lengths are at least 1 angstrom; angles that make no cell, or nearly
        none, go halfway to 90 degrees until they do."""
        sides = self._scaled(numbers * self.std + self.mean, count, 1 / 3)
        lengths, angles = sides[:, :3].clamp(1, 1000), sides[:, 3:].clamp(10, 170)
        for _ in range(8):
            cos = torch.cos(torch.deg2rad(angles))
            squared_volume = 1 + 2 * cos.prod(-1) - cos.square().sum(-1)
            angles = torch.where((squared_volume < FLATTEST**2)[:, None], (angles + 90) / 2, angles)
        return matrix(torch.cat([lengths, angles], -1))

    def _scaled(self, sides: Tensor, count: Tensor, power: float) -> Tensor:
        factor = count[:, None].to(sides) ** power if self.options.scaled_lengths else 1.0
        return torch.cat([sides[:, :3] * factor, sides[:, 3:]], -1)

    def encode(self, kinds: Tensor, coordinates: Tensor, lattice: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | crystal), (B, latent) each: kinds (B, N), fractional coordinates
        (B, N, 3), lattice (B, 3, 3), mask (B, N)."""
        none = torch.zeros_like(lattice[:, 0, :1])
        atoms = self.encoder_kinds(kinds)
        features, _ = self.encoder(atoms, coordinates, lattice, mask, none)
        # what there is, beside what the atoms are together: so that elements in new company are still told apart
        mean, log_variance = self.moments(pooled(torch.cat([features, atoms], -1), mask)).chunk(2, -1)
        return mean, log_variance.clamp(-20, 10)

    def forward(
        self, x: dict[str, Tensor], time: dict[str, Tensor], z: Tensor, lattice: Tensor, mask: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What a `Denoiser` asks of noisy Cartesian coordinates (B, N, 3) and kinds (B, N): the noise of the former,
        logits (B, N, elements) of the latter. It is told the noise level of the coordinates; that of the kinds stays
        its own guess, since none is known when crystals are generated."""
        real = mask["coordinates"]
        fractional = to_fractional(x["coordinates"], lattice)
        context = torch.cat([z, time["coordinates"][:, None].to(z) / 500 - 1], -1)
        features, vectors = self.decoder(self.decoder_kinds(x["kinds"]), fractional, lattice, real, context)
        return {"coordinates": vectors @ lattice, "kinds": self.to_kinds(features)}
