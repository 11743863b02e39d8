"""The network on ONNX Runtime, without torch: the graph that `export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems.restoration.levels import Array
from inkwash.weights.graph import Graph

NETWORK = "network.onnx.gz"


class GraphNetwork:
    """What a `RestorationNetwork` is to a model, of arrays."""

    def __init__(self, folder: Path, config: dict[str, Any], threads: int | None) -> None:
        self.graph, self.patch = Graph(folder, threads, NETWORK), config["patch"]

    def __call__(
        self, x: Array, time: Array, concat: Array, noise_level: Array | None = None, mask: Array | None = None
    ) -> Any:
        return self.graph(x, time, concat, *([] if noise_level is None else [noise_level]))
