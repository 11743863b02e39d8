"""The graphs of a model's networks. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inkwash.systems.export import SIDES, NetworkGraph
from inkwash.systems.export import export as run_export
from inkwash.systems.segmentation.model import SegmentationModel

EXAMPLES = ((2, 2, 3), (1, 4, 1), (3, 1, 1))  # pictures, and their height and width in the least that a network takes


def graphs(model: SegmentationModel) -> Iterator[NetworkGraph]:
    """Of each member encoder-0.onnx.gz, unless the picture stands beside x_t as it is, and network-0.onnx.gz."""
    unit = 2 ** len(model.config["network"]["widths"])
    for number, network in enumerate(model.network.networks):

        def encode(module: Any, picture: Tensor, number: int = number) -> Tensor:
            features: Tensor = module.networks[number].encode(picture)
            return features

        def answer(module: Any, *state: Tensor, number: int = number) -> Tensor:
            found: Tensor = module.networks[number](*state)
            return found

        pictures = [{"picture": torch.randn(n, 3, unit * rows, unit * columns)} for n, rows, columns in EXAMPLES]
        if network.encoder is not None:
            yield NetworkGraph(f"encoder-{number}.onnx.gz", encode, {"picture": SIDES}, pictures)
        axes = {"x": SIDES, "time": (0,), "features": SIDES}
        states = [state_with(network, model.channels, **one) for one in pictures]
        yield NetworkGraph(f"network-{number}.onnx.gz", answer, axes, states)


def state_with(network: Any, channels: int, picture: Tensor) -> dict[str, Tensor]:
    """Inputs of the network beside these pictures."""
    n, _, height, width = picture.shape
    with torch.no_grad():
        features = network.encode(picture)
    return {"x": torch.randn(n, channels, height, width), "time": 1000 * torch.rand(n), "features": features}


export = partial(run_export, load=SegmentationModel.load, graphs=graphs)
