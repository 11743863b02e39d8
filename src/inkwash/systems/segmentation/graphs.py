"""The networks on ONNX Runtime, without torch: the graphs that `export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.weights.graph import Graph


class GraphNetwork:
    """What a `SegmentationNetwork` is to a model, of arrays."""

    def __init__(self, folder: Path, number: int, condition: str, threads: int | None) -> None:
        self.graph = Graph(folder, threads, f"network-{number}.onnx.gz")
        self.encode: Any = Graph(folder, threads, f"encoder-{number}.onnx.gz") if condition == "sum" else as_it_is

    def __call__(self, x: Any, time: Any, features: Any) -> Any:
        return self.graph(x, time, features)


def as_it_is(picture: Any) -> Any:
    return picture


class GraphMembers:
    """What `Members` is to a model, of arrays."""

    def __init__(self, folder: Path, facts: dict[str, Any], threads: int | None) -> None:
        condition = facts["network"]["condition"]
        self.networks = [GraphNetwork(folder, number, condition, threads) for number in range(facts["members"])]
