"""The network on ONNX Runtime, without torch: the graphs that `export` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inkwash.codecs.picture_files import Array
from inkwash.weights.graph import Graph

BACKBONE, HEAD = "backbone.onnx.gz", "head.onnx.gz"


class GraphNetwork:
    """What a `DetectionNetwork` is to a model, of arrays."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        self.pyramid, self.head = (Graph(folder, threads, name) for name in (BACKBONE, HEAD))

    def backbone(self, picture: Array) -> list[Array]:
        found = self.pyramid(picture)
        return found if isinstance(found, list) else [found]

    def __call__(self, x: Array, time: Array, features: Sequence[Array]) -> tuple[Array, dict[str, Array]]:
        state, logits, boxes = self.head(x, time, *features)
        return state, {"logits": logits, "boxes": boxes}

    def dense(self, features: Sequence[Array]) -> Any:
        return self.head(*features)
