"""The graphs of models' networks. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from inkwash.systems.export import SIDES, NetworkGraph
from inkwash.systems.export import export as run_export
from inkwash.systems.restoration.cascade import Cascade
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.graphs import NETWORK, graph_of_stage
from inkwash.systems.restoration.levels import COLOURS
from inkwash.systems.restoration.model import RestorationModel
from inkwash.systems.restoration.upscaler import Upscaler

# pictures, and their height and width in patches: of sides that halve evenly, and that do not
EXAMPLES = ((2, 16, 24), (1, 7, 5), (3, 1, 9))


def graphs(model: RestorationModel) -> Iterator[NetworkGraph]:
    yield graph(NETWORK, model.network, lambda network: network)


def cascade_graphs(model: Cascade) -> Iterator[NetworkGraph]:
    for k, stage in enumerate(model.stages):
        yield graph(graph_of_stage(k), stage.network, itemgetter(k))


def graph(name: str, network: Any, of: Callable[[Any], Any]) -> NetworkGraph:
    """of: gives this network of the model's."""
    examples = [example(network, *sizes) for sizes in EXAMPLES]

    def answer(module: Any, *inputs: Tensor) -> Tensor:
        found: Tensor = of(module)(**dict(zip(examples[0], inputs, strict=True)))
        return found

    axes = {key: SIDES if value.ndim == len(SIDES) + 1 else (0,) for key, value in examples[0].items()}
    return NetworkGraph(name, answer, axes, examples)


def example(network: Any, count: int, rows: int, columns: int) -> dict[str, Tensor]:
    """Inputs of the network."""
    size, config = (rows * network.patch, columns * network.patch), network.config
    inputs = {"x": torch.randn(count, COLOURS, *size), "time": 1000 * torch.rand(count)}
    if config["source"]:
        inputs["concat"] = torch.randn(count, COLOURS + config["missing"], *size)
    if config["augmented"]:
        inputs["noise_level"] = torch.rand(count)
    if classes := config["classes"]:
        inputs["label"] = torch.eye(classes)[torch.arange(count) % classes]
    return inputs


export_upscaler = partial(run_export, load=Upscaler.load, graphs=graphs)
export_editor = partial(run_export, load=Editor.load, graphs=graphs)
export_cascade = partial(run_export, load=Cascade.load, graphs=cascade_graphs)
