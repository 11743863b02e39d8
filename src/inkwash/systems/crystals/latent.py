"""Crystals asked for in the latent space of CDVAE: z goes down the gradient of what its heads say."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.systems.crystals.vae_networks import CrystalVAE

STEPS, RATE = 300, 0.1  # by which a drawn z is moved to what is asked
STRENGTH = 10.0  # of a squared error of standardised properties there: they hold to about a third of their spread


def descend(
    z: Tensor, energy: Callable[[Tensor], Tensor], steps: int, rate: float, snapshots: int = 1
) -> list[Tensor]:
    """z (B, latent) after each of `snapshots` equal parts of `steps` steps of Adam down an energy (B,) of each."""
    moved = z.clone()
    found: list[Tensor] = []
    with torch.enable_grad():
        moved.requires_grad_()
        optimizer = torch.optim.Adam([moved], rate)
        for step in range(1, steps + 1):
            (moved.grad,) = torch.autograd.grad(energy(moved).sum(), moved)
            optimizer.step()
            if step * snapshots // steps > len(found):
                found.append(moved.detach().clone())
    return found


def properties_error(said: Tensor, wanted: Tensor) -> Tensor:
    """The squared errors of properties (B, P), a sum over those that are wanted, not NaN: (B,)."""
    return torch.where(wanted.isnan(), 0, said - wanted.nan_to_num()).square().sum(1)


def matched(
    network: CrystalVAE,
    z: Tensor,
    mask: Tensor,
    properties: Tensor,
    kinds: Tensor | None,
    allowed: Tensor | None,
    guidance: float,
) -> Tensor:
    """z, drawn from the prior, moved to where the heads say what is asked: down

        |z - drawn|^2 / 2 - log p(number of atoms | z) - log p(kinds | z) + guidance 5 |properties(z) - wanted|^2,

    whose minimum is nearly a draw of the posterior ("randomise, then optimise", Bardsley et al. 2014, without the
    noise of what is asked).

    mask (B, N): atoms. properties (B, P): standardised, NaN where nothing is asked. kinds (B, N): those of a formula.
    allowed (elements,): of others the composition has no more than it must.
    """
    drawn, count = z, mask.sum(1)

    def energy(z: Tensor) -> Tensor:
        total = (z - drawn).square().sum(1) / 2 + F.cross_entropy(network.to_atoms(z), count, reduction="none")
        composition = network.to_composition(z).log_softmax(-1)
        if kinds is not None:
            total = total - (composition.gather(1, kinds) * mask).sum(1)
        elif allowed is not None:
            total = total - composition[:, : len(allowed)].masked_fill(~allowed, -torch.inf).logsumexp(1) * count
        return total + guidance * STRENGTH / 2 * properties_error(network.properties(z), properties)

    return descend(z, energy, STEPS, RATE)[-1]
