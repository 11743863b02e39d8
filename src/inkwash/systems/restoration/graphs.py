"""The network on ONNX Runtime, without torch: the graph that `export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems.restoration.levels import Array
from inkwash.weights.graph import Graph

NETWORK = "network.onnx.gz"


class GraphNetwork:
    """What a `RestorationNetwork` is to a model, of arrays."""

    def __init__(self, folder: Path, config: dict[str, Any], threads: int | None, name: str = NETWORK) -> None:
        self.graph, self.patch = Graph(folder, threads, name), config["patch"]

    def __call__(
        self,
        x: Array,
        time: Array,
        concat: Array | None = None,
        noise_level: Array | None = None,
        mask: Array | None = None,
        label: Array | None = None,
    ) -> Any:
        return self.graph(x, time, *(one for one in (concat, noise_level, label) if one is not None))


def graph_of_stage(number: int) -> str:
    """Of a cascade's stage, from 0."""
    return f"network-{number}.onnx.gz"
