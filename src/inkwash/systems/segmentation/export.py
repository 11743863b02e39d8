"""A model's networks as ONNX graphs beside its weights. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inkwash.networks.export import Function, check_installed, write_graph
from inkwash.systems.base import Context, Result
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.request import Export
from inkwash.weights.shipped import locate

SIDES = (0, 2, 3)  # axes that stay open: the batch, height, width
EXAMPLES = ((2, 2, 3), (1, 4, 1), (3, 1, 1))  # pictures, and their height and width in the least that a network takes


def export(requests: list[Export], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        for file in write(locate(request.model)):
            yield Result(of, None, {file.name: file})


def write(folder: Path) -> list[Path]:
    """Writes network-0.onnx and encoder-0.onnx, and those of further members, each when it has been found equal to
    torch; their paths."""
    check_installed()
    model, written = SegmentationModel.load(folder, runtime="torch"), list[Path]()
    unit = 2 ** len(model.config["network"]["widths"])
    for number, network in enumerate(model.network.networks):

        def encode(module: Any, picture: Tensor, number: int = number) -> Tensor:
            features: Tensor = module.networks[number].encode(picture)
            return features

        def answer(module: Any, *state: Tensor, number: int = number) -> Tensor:
            found: Tensor = module.networks[number](*state)
            return found

        pictures = [{"picture": torch.randn(n, 3, unit * rows, unit * columns)} for n, rows, columns in EXAMPLES]
        states = [state_with(network, model.channels, **one) for one in pictures]
        if network.encoder is not None:
            file, function = folder / f"encoder-{number}.onnx", Function(model.network, encode)
            written.append(write_graph(file, function, pictures[0], {"picture": SIDES}, pictures[1:]))
        file, function = folder / f"network-{number}.onnx", Function(model.network, answer)
        axes = {"x": SIDES, "time": (0,), "features": SIDES}
        written.append(write_graph(file, function, states[0], axes, states[1:]))
    return written


def state_with(network: Any, channels: int, picture: Tensor) -> dict[str, Tensor]:
    """Inputs of the network beside these pictures."""
    n, _, height, width = picture.shape
    with torch.no_grad():
        features = network.encode(picture)
    return {"x": torch.randn(n, channels, height, width), "time": 1000 * torch.rand(n), "features": features}
