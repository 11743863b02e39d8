"""Every layer of every network can be put into another by its name, as adapters do.

A recurrent network (the GRU of TimeGrad) holds its matrices itself: it can be put into another as a whole only.
"""

import copy
import pkgutil
import re
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from inkwash import networks, systems
from inkwash.networks.adapters import Adapted
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.clip import CLIPTextEncoder
from inkwash.networks.export import Function
from inkwash.networks.taesd import TinyDecoder
from inkwash.networks.text import TextEncoder
from inkwash.networks.unet import UNet
from inkwash.systems.crystals.networks import PeriodicNetwork
from inkwash.systems.detection.networks import DetectionNetwork
from inkwash.systems.language.networks import (
    AutoregressiveModel,
    ClassifierNetwork,
    ContinuousDenoiser,
    MaskedDenoiser,
)
from inkwash.systems.pictures.efficientnet import EfficientNetLite0
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.train_autoencoder import Discriminator, frozen
from inkwash.systems.protein.networks import FrameNetwork, ProtDiffNetwork
from inkwash.systems.restoration.networks import CellClassifier, RestorationNetwork
from inkwash.systems.segmentation.networks import Members
from inkwash.systems.series.networks import TimeGrad
from tests.networks.test_unet import CONFIGS, inputs
from tests.systems.language.test_networks import SMALL

LAYERS = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding
TIME, LABEL = torch.tensor([3.0, 812.5]), torch.linspace(-1, 1, 14).reshape(2, 7)
WORDS = torch.tensor([[4, 5, 6, 7, 8, 9], [9, 8, 4, 4, 10, 5]])
SOURCE = {"source": WORDS[:, :5], "source_mask": WORDS[:, :5] != 8}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def read(net: ClassifierNetwork) -> list[Tensor]:
    states = net.states(noise(2, 6, 8), TIME)
    return [*net.field_scores(states), net.tag_scores(states), net.label_scores(states)]


def recurrent(net: TimeGrad) -> Tensor:
    return net(noise(2, 5), TIME / 1000, net.encode(noise(2, 9, 4))[0][:, -1])


def vectors(net: ContinuousDenoiser) -> Tensor:
    if not net.config["improved"]:
        return net.rounded(net(noise(2, 6, 8), TIME, **SOURCE))
    known = torch.where(WORDS > 7, WORDS, -1)
    return net(noise(2, 6, 8), TIME, previous=noise(2, 6, 8), forced=known, **SOURCE)


def masks(net: nn.Module) -> list[Tensor]:
    found = []
    for own in net.networks:
        found.append(own(noise(2, 1, 8, 8), TIME, own.encode(noise(2, 3, 8, 8))))
    return found


def boxes(net: DetectionNetwork) -> list[Tensor]:
    state, found = net(noise(2, 5, 4), TIME, net.backbone(noise(2, 3, 16, 16)))
    return [state, *found.values()]


def cells(net: DetectionNetwork) -> list[Tensor]:
    return [*net.head(net.backbone(noise(2, 3, 16, 16)))]


def crystals(net: PeriodicNetwork) -> tuple[Tensor, Tensor]:
    lattice, mask = 4 * torch.eye(3).expand(2, 3, 3), torch.ones(2, 5, dtype=torch.bool)
    return net(noise(2, 5, 8), noise(2, 5, 3), lattice, mask, noise(2, 3))


BOXES = {"kinds": 2, "widths": [8, 8], "dim": 16, "stages": 2, "pooled": 3}
CONCAT = CONFIGS["timestep label"] | {"in_channels": 7}
CLIP = {
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 24,
    "projection_dim": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 6,
    "eos_token_id": 2,
    "projection": True,
}
READER = {"dim": 8, "fields": [3, 2], "tags": 4, "labels": 5, "symbols": 11, "width": 16, "heads": 2}

# how each is made, and what it answers, by all ways through it
NETWORKS = (
    {
        f"U-Net, {name}": (lambda c=config: UNet(**c), lambda net, n=name: net(**inputs(n, 16, 8)))
        for name, config in CONFIGS.items()
    }
    | {
        f"U-Net of {dims} dimensions": (
            lambda d=dims: UNet(**CONFIGS["label"], dims=d),
            lambda net, d=dims: net(**inputs("label", *[4] * d)),
        )
        for dims in (1, 3)
    }
    | {
        "U-Net beside another picture": (
            lambda: UNet(**CONCAT),
            lambda net: net(
                noise(2, 4, 8, 8), TIME, noise(2, 6, 12), concat=noise(2, 3, 8, 8), noise_level=TIME / 1000
            ),
        ),
        "autoencoder": (
            lambda: Autoencoder(block_out_channels=(8, 16), norm_num_groups=4),
            lambda net: [*net.encode(noise(2, 3, 8, 8)), net.decode(noise(2, 4, 4, 4))],
        ),
        "discriminator": (lambda: Discriminator(4), lambda net: net(noise(2, 4, 16, 16))[0]),
        "EfficientNet": (EfficientNetLite0, lambda net: net.classify(noise(2, 3, 32, 32))),
        "mean predictor": (lambda: MeanPredictor(7, 3, 4, hidden=8), lambda net: net(LABEL)),
        "text encoder": (
            lambda: TextEncoder(11, 8, 16, layers=2, heads=2, length=6, output=12),
            lambda net: net(WORDS, WORDS != 5),
        ),
        "CLIP's text encoder": (lambda: CLIPTextEncoder(**CLIP), lambda net: net(WORDS)),
        "TAESD's decoder": (TinyDecoder, lambda net: net(noise(1, 4, 2, 2))),
        "TimeGrad, dilated": (lambda: TimeGrad(5, 4), recurrent),
        "TimeGrad, dense": (lambda: TimeGrad(5, 4, noise="dense"), recurrent),
        "vectors of words": (lambda: ContinuousDenoiser(**SMALL), vectors),
        "vectors of words, free": (lambda: ContinuousDenoiser(improved=False, **SMALL), vectors),
        "masked words": (lambda: MaskedDenoiser(**SMALL), lambda net: net(WORDS, TIME, **SOURCE)),
        "next word": (lambda: AutoregressiveModel(**SMALL), lambda net: net(WORDS, **SOURCE)),
        "classifier": (lambda: ClassifierNetwork(**READER), read),
        "crystals": (lambda: PeriodicNetwork(8, 2, 3), crystals),
        "crystals, angles": (lambda: PeriodicNetwork(8, 2, 3, 4), crystals),
        "backbone": (lambda: FrameNetwork(8, 4, 2), lambda net: net(noise(2, 12, 3), TIME / 1000)),
        "boxes": (lambda: DetectionNetwork(**BOXES), boxes),
        "boxes, FCOS": (lambda: DetectionNetwork(head="fcos", **BOXES), cells),
        "picture beside another": (
            lambda: RestorationNetwork(missing=True, augmented=True, widths=(16, 16)),
            lambda net: net(noise(2, 3, 8, 8), TIME, noise(2, 4, 8, 8), TIME / 1000),
        ),
        "picture of a kind": (
            lambda: RestorationNetwork(widths=(16, 16), source=False, classes=7),
            lambda net: net(noise(2, 3, 8, 8), TIME, label=LABEL),
        ),
        "picture of a kind beside another": (
            lambda: RestorationNetwork(augmented=True, widths=(16, 16), classes=7),
            lambda net: net(noise(2, 3, 8, 8), TIME, noise(2, 3, 8, 8), TIME / 1000, label=LABEL),
        ),
        "kinds of cells": (lambda: CellClassifier(3), lambda net: net(noise(2, 3, 32, 32))),
        "masks": (lambda: Members({"widths": [8, 8], "growth": 4}, 2), masks),
        "backbone of the paper": (  # begins with short steps
            lambda: ProtDiffNetwork(8, 2),
            lambda net: 1e4 * net(noise(2, 4, 3), TIME),
        ),
    }
)


class Within(nn.Module):
    """What the layer within it answers, times a factor."""

    def __init__(self, layer: nn.Module, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = layer, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.layer(x)


class SameNames(Within):
    """With the layer's parameters under their own names."""

    def __init__(self, layer: nn.Module, factor: float) -> None:
        super().__init__(layer, factor)
        self.__dict__["layer"] = self._modules.pop("layer")
        self._parameters = layer._parameters


def wrapped(network: nn.Module, kind: type[Within], factor: float = 1.0) -> nn.Module:
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LAYERS):
            network.set_submodule(name, kind(layer, factor))
    return network


def made(name: str) -> nn.Module:
    """The network with random weights, also where training begins with zeros."""
    torch.manual_seed(0)
    network = NETWORKS[name][0]().eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def answers(name: str, network: nn.Module) -> list[Tensor]:
    found = NETWORKS[name][1](network)
    parts = [found] if isinstance(found, Tensor) else list(found)
    return [value for part in parts for value in (part.values() if isinstance(part, dict) else [part])]


def test_every_network_is_tried():
    names = [f"inkwash.networks.{info.name}" for info in pkgutil.iter_modules(networks.__path__)]
    found = [info for info in pkgutil.iter_modules(systems.__path__) if info.ispkg]  # a room may have several systems
    rooms = [f"inkwash.systems.{info.name}.networks" for info in found]
    names += [name for name in rooms if find_spec(name)]
    modules = [pkgutil.resolve_name(name) for name in names]
    ours = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    ours = {kind for kind in ours if issubclass(kind, nn.Module) and kind.__module__.startswith("inkwash")}
    tried = {type(module) for make, _ in NETWORKS.values() for module in make().modules()}
    ours -= {Adapted, Function}  # a weight's change, and what an export calls a network by: no networks
    assert not [kind for kind in ours if not any(issubclass(other, kind) for other in tried)]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_within_the_identity_every_layer_answers_the_same_from_the_same_file(name):
    network = made(name)
    before, file = answers(name, network), network.state_dict()
    for kind in (Within, SameNames):
        torch.testing.assert_close(answers(name, wrapped(network, kind)), before)
    inner = wrapped(network, Within).state_dict()
    assert [re.sub(r"\blayer\.(?=\w+$)", "", key) for key in inner] == list(file)
    other = wrapped(NETWORKS[name][0]().eval(), SameNames)
    other.load_state_dict(file)  # its names and its shapes
    assert list(other.state_dict()) == list(file)
    torch.testing.assert_close(answers(name, other), before)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_no_layer_is_passed_by(name):
    """Each times 1.1 is the network whose layers all have 1.1 times the weights, and not the network itself."""
    network = made(name)
    before, grown = answers(name, network), copy.deepcopy(network)
    for parameter in {p for layer in grown.modules() if isinstance(layer, LAYERS) for p in layer.parameters()}:
        parameter *= 1.1
    expected, larger, calls = answers(name, grown), wrapped(network, Within, 1.1), set()
    wraps = {module for module in larger.modules() if isinstance(module, Within)}
    for wrap in wraps:
        wrap.register_forward_hook(lambda wrap, args, out: calls.add(wrap))
    torch.testing.assert_close(answers(name, larger), expected, rtol=1e-4, atol=1e-5)
    assert calls == wraps
    assert all((one - other).abs().max() > 1e-4 for one, other in zip(before, expected, strict=True))


def test_a_frozen_discriminator_still_teaches_what_it_judges():
    torch.manual_seed(0)
    net, x = Discriminator(4), noise(2, 4, 16, 16).requires_grad_()
    learning, judging = net(x), frozen(net)(x)
    torch.testing.assert_close(judging, learning)
    (expected,) = torch.autograd.grad(learning[0].sum(), x, retain_graph=True)
    judging[0].sum().backward()
    torch.testing.assert_close(x.grad, expected)
    assert all(parameter.grad is None for parameter in net.parameters())
    learning[0].sum().backward()
    assert all(parameter.grad.any() for parameter in net.parameters())
