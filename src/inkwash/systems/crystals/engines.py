"""The ways to draw a crystal; each brings a network, what it learns and how it samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from inkwash.systems.crystals import joint
from inkwash.training.fit import Loss


class Engine(NamedTuple):
    """network(elements, properties, width, layers), loss(network) and sample(network, seeds, mask, properties, ...);
    see `joint`."""

    network: Callable[..., nn.Module]
    loss: Callable[[Any], Loss]
    sample: Callable[..., dict[str, Any]]


ENGINES = {"joint": Engine(joint.JointNetwork, joint.loss, joint.sample)}
