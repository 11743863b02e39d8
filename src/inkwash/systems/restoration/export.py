"""The graph of a model's network. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inkwash.systems.export import SIDES, NetworkGraph
from inkwash.systems.export import export as run_export
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.graphs import NETWORK
from inkwash.systems.restoration.levels import COLOURS
from inkwash.systems.restoration.model import RestorationModel
from inkwash.systems.restoration.upscaler import Upscaler

# pictures, and their height and width in patches: of sides that halve evenly, and that do not
EXAMPLES = ((2, 16, 24), (1, 7, 5), (3, 1, 9))


def graphs(model: RestorationModel) -> Iterator[NetworkGraph]:
    axes: dict[str, Any] = {"x": SIDES, "time": (0,), "concat": SIDES}
    if model.network.config["augmented"]:
        axes["noise_level"] = (0,)
    yield NetworkGraph(NETWORK, answer, axes, [example(model.network, *sizes) for sizes in EXAMPLES])


def answer(module: Any, *state: Tensor) -> Tensor:
    found: Tensor = module(*state)
    return found


def example(network: Any, count: int, rows: int, columns: int) -> dict[str, Tensor]:
    """Inputs of the network."""
    size = (rows * network.patch, columns * network.patch)
    inputs = {
        "x": torch.randn(count, COLOURS, *size),
        "time": 1000 * torch.rand(count),
        "concat": torch.randn(count, COLOURS + network.config["missing"], *size),
    }
    return inputs | ({"noise_level": torch.rand(count)} if network.config["augmented"] else {})


export_upscaler = partial(run_export, load=Upscaler.load, graphs=graphs)
export_editor = partial(run_export, load=Editor.load, graphs=graphs)
