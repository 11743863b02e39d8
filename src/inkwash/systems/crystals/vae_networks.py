"""The network of CDVAE: an encoder to z, what is read off z, and a decoder that scores noisy atoms beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inkwash.systems.crystals.networks import PeriodicNetwork


def pooled(features: Tensor, mask: Tensor) -> Tensor:
    """The mean over the atoms of each crystal, (B, N, W) to (B, W)."""
    real = mask[..., None].to(features)
    return (features * real).sum(1) / real.sum(1)


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


class CrystalVAE(nn.Module):
    """CDVAE's three networks (Xie et al. 2021, 2110.06197), all on `PeriodicNetwork`.

    elements    symbols of the kinds, which are numbers from 0
    atoms       the most of a crystal
    properties  numbers that the predictor on z has learned, perhaps none
    width, layers  of encoder and decoder, each
    latent      numbers of z
    scaled_lengths  whether the lattice head says lengths over the cube root of the number of atoms

    Buffers: the mean and standard deviation of the six numbers of the lattice, (6,), as the head says them, and of the
    properties.
    """

    def __init__(
        self,
        elements: int,
        atoms: int,
        properties: int = 0,
        width: int = 64,
        layers: int = 3,
        latent: int = 64,
        scaled_lengths: bool = True,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "elements": elements, "atoms": atoms, "properties": properties, "width": width, "layers": layers,
            "latent": latent, "scaled_lengths": scaled_lengths,
        }  # fmt: skip
        self.encoder_kinds, self.decoder_kinds = nn.Embedding(elements, width), nn.Embedding(elements, width)
        self.encoder = PeriodicNetwork(width, layers, context=1)
        self.decoder = PeriodicNetwork(width, layers, context=latent + 1)
        self.moments = nn.Linear(width, 2 * latent)
        self.atoms = mlp(latent, width, atoms + 1)
        self.lattice = mlp(latent, width, 6)
        self.composition = mlp(latent, width, elements)
        self.property = mlp(latent, width, properties)
        self.kinds = nn.Linear(width, elements)
        for name, size in (("lattice", 6), ("property", properties)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def encode(self, kinds: Tensor, coordinates: Tensor, lattice: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | crystal), (B, latent) each: kinds (B, N), fractional coordinates
        (B, N, 3), lattice (B, 3, 3), mask (B, N)."""
        none = torch.zeros_like(lattice[:, 0, :1])
        features, _ = self.encoder(self.encoder_kinds(kinds), coordinates, lattice, mask, none)
        mean, log_variance = self.moments(pooled(features, mask)).chunk(2, -1)
        return mean, log_variance.clamp(-20, 10)

    def forward(
        self, x: dict[str, Tensor], time: dict[str, Tensor], z: Tensor, lattice: Tensor, mask: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What a `Denoiser` asks of noisy Cartesian coordinates (B, N, 3) and kinds (B, N): the noise of the former,
        logits (B, N, elements) of the latter. It is told the noise level of the coordinates; that of the kinds stays
        its own guess, since none is known when crystals are generated."""
        real = mask["coordinates"]
        fractional = torch.linalg.solve(lattice.mT, x["coordinates"].mT).mT
        context = torch.cat([z, time["coordinates"][:, None].to(z) / 500 - 1], -1)
        features, vectors = self.decoder(self.decoder_kinds(x["kinds"]), fractional, lattice, real, context)
        return {"coordinates": vectors @ lattice, "kinds": self.kinds(features)}
