"""Networks as ONNX graphs without weights, for `weights.graph`. Needs the extra `export` (onnx, onnxscript)."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.weights.files import atomic
from inkwash.weights.graph import Graph

TOLERANCE = 1e-4  # largest difference to torch with which a graph is written
Inputs = Mapping[str, Tensor]


def check_installed() -> None:
    """UserError without what exports."""
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError("to export a model: pip install 'inkwash[export]'")


class Function(nn.Module):
    """A function of a module as a module, so that every weight has the name "module." + its name in the file."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.module, *inputs)


def write_graph(
    file: Path, module: Function, example: Inputs, axes: Mapping[str, Sequence[int]], others: Sequence[Inputs] = ()
) -> Path:
    """Exports a module into a file .onnx.gz, if it is found equal to torch on the example and on the others.

    axes  of each input, whose lengths stay open in the graph
    """
    dynamic = tuple({axis: torch.export.Dim.DYNAMIC for axis in axes[name]} for name in example)
    program = torch.onnx.export(
        module.eval(),
        tuple(example.values()),
        dynamo=True,
        optimize=False,
        input_names=list(example),
        dynamic_shapes=(dynamic,),
        verbose=False,
    )
    assert program is not None
    with atomic(file) as temporary:
        bare = without_weights(program.model_proto, set(module.state_dict()))
        temporary.write_bytes(gzip.compress(bare, mtime=0))
        graph = Graph(file.parent, 1, temporary.name)
        for case in (example, *others):
            with torch.no_grad():
                expected = module(*case.values())
            found = graph(*(value.numpy() for value in case.values()))
            outputs = (value if isinstance(value, (list, tuple)) else [value] for value in (found, expected))
            worst = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(*outputs, strict=True))
            if not worst < TOLERANCE:
                raise UserError(f"{file}: differs from torch by {worst:.2g}; nothing was written")
    return file


def without_weights(model: Any, names: set[str]) -> bytes:
    """The graph with the named initializers left to be put in at load, and without notes on where it came from."""
    from onnx import TensorProto

    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value="weights")
    for noted in (
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        model.graph,
        model,
    ):
        del noted.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())
