"""The graphs of a model's network. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inkwash.systems.detection.graphs import BACKBONE, HEAD
from inkwash.systems.detection.model import DetectionModel
from inkwash.systems.export import SIDES, NetworkGraph
from inkwash.systems.export import export as run_export

# pictures, their height and width in the least that a backbone takes, and boxes
EXAMPLES = ((2, 2, 3, 5), (1, 4, 1, 7), (3, 1, 1, 1))


def graphs(model: DetectionModel) -> Iterator[NetworkGraph]:
    """backbone.onnx.gz, of pictures, and head.onnx.gz: of boxes in noise, or without, and what the backbone saw."""
    pictures = [
        torch.randn(n, 3, model.multiple * rows, model.multiple * columns) for n, rows, columns, _ in EXAMPLES
    ]
    yield NetworkGraph(BACKBONE, backbone, {"picture": SIDES}, [{"picture": one} for one in pictures])
    with torch.no_grad():
        seen = [{f"level_{i}": level for i, level in enumerate(model.network.backbone(one))} for one in pictures]
    axes: dict[str, Any] = dict.fromkeys(seen[0], SIDES)
    if model.config["engine"] == "fcos":
        yield NetworkGraph(HEAD, dense, axes, seen)
    else:
        states = [
            {"x": torch.randn(n, boxes, 4), "time": 1000 * torch.rand(n)} | levels
            for (n, _, _, boxes), levels in zip(EXAMPLES, seen, strict=True)
        ]
        yield NetworkGraph(HEAD, head, {"x": (0, 1), "time": (0,)} | axes, states)


def backbone(module: Any, picture: Tensor) -> tuple[Tensor, ...]:
    return tuple(module.backbone(picture))


def head(module: Any, x: Tensor, time: Tensor, *features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state, found = module(x, time, features)
    return state, found["logits"], found["boxes"]


def dense(module: Any, *features: Tensor) -> tuple[Tensor, Tensor]:
    corners, scores = module.dense(features)
    return corners, scores


export = partial(run_export, load=DetectionModel.load, graphs=graphs)
