"""The ways to draw a crystal; each brings a network, what it learns and how it samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from inkwash.systems.crystals import cdvae, joint
from inkwash.systems.crystals.vae_networks import CrystalVAE
from inkwash.training.fit import Loss


class Engine(NamedTuple):
    """network(elements, properties, width, layers, ...), loss(network) and sample(network, seeds, mask, properties,
    ...), in so many steps unless it is said; see `joint`."""

    network: Callable[..., nn.Module]
    loss: Callable[[Any], Loss]
    sample: Callable[..., dict[str, Any]]
    steps: int


ENGINES = {
    "joint": Engine(joint.JointNetwork, joint.loss, joint.sample, joint.STEPS),
    "cdvae": Engine(CrystalVAE, cdvae.loss, cdvae.sample, cdvae.LEVELS),
}
