"""What CDVAE's encoder is for: crystals decoded again as they are, or on the way to a lower property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inkwash.errors import UserError, unknown
from inkwash.systems.crystals import cdvae
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.latent import descend
from inkwash.systems.crystals.model import PAIRS, CrystalModel
from inkwash.systems.crystals.train import encode, knows
from inkwash.systems.crystals.vae_networks import CrystalVAE


def reconstruct(model: CrystalModel, crystals: Sequence[Crystal], seed: int = 0, **how: Any) -> list[Crystal]:
    """Each crystal encoded as the mean of q(z | crystal) and decoded, with seeds seed, seed + 1, ...; `how` as in
    `cdvae.decode`.

    Raises UserError for a model of another engine, and for crystals that it does not know.
    """
    return _decode(model, latents(model, crystals), seed, **how)


def optimise(
    model: CrystalModel,
    crystals: Sequence[Crystal],
    name: str,
    seed: int = 0,
    *,
    updates: int = 5000,
    snapshots: int = 10,
    **how: Any,
) -> list[list[Crystal]]:
    """Of each crystal the decoded snapshots of its z on the way down a property, by the model's own opinion.

    As published: z goes down the gradient of the predictor on z that was trained with the model, by Adam at 1e-3, and
    nothing holds it where crystals are (2110.06197, section 5.3). The figure to trust is what a judge says that had
    no part in it.

    Raises UserError as `reconstruct`, and for a property that the model has not learned.
    """
    if name not in model.properties:
        raise unknown("property", name, model.properties)
    z, column = latents(model, crystals), list(model.properties).index(name)
    network: Any = model.network
    found = descend(z, lambda z: network.properties(z)[:, column], updates, 1e-3, snapshots)
    decoded = [_decode(model, moved, seed, **how) for moved in found]
    return [list(each) for each in zip(*decoded, strict=True)]


@torch.no_grad()
def latents(model: CrystalModel, crystals: Sequence[Crystal]) -> Tensor:
    """The mean of q(z | crystal), (n, latent). Raises UserError as `reconstruct`."""
    network = model.network
    if not isinstance(network, CrystalVAE):
        raise UserError("only a model of the engine cdvae encodes crystals: train one, with engine = 'cdvae'")
    for place, crystal in enumerate(crystals, 1):
        if not knows(model, crystal):
            raise UserError(
                f"crystal {place}{f', {crystal.name}' if crystal.name else ''}: it has more atoms than the "
                f"model has seen, or another element; it knows {', '.join(sorted(model.elements))}"
            )
    table = {key: value.to(model.device) for key, value in encode(model, crystals).items()}
    mean, _ = network.encode(*(table[key] for key in ("kinds", "coordinates", "lattice", "mask")))
    return mean


def _decode(model: CrystalModel, z: Tensor, seed: int, **how: Any) -> list[Crystal]:
    network: Any = model.network
    made: list[Crystal] = []
    for part in torch.split(z, max(1, PAIRS // max(model.counts) ** 2)):
        mask = cdvae.likeliest_mask(network, part)
        seeds = [(seed + len(made) + i) % 2**64 for i in range(len(part))]
        crystals = model._crystals(cdvae.decode(network, part, seeds, mask, **how))
        rows = zip(crystals, mask.sum(1).tolist(), strict=True)
        made += [
            crystal._replace(coordinates=crystal.coordinates[:n], numbers=crystal.numbers[:n]) for crystal, n in rows
        ]
    return made
