"""A model's networks as ONNX graphs without weights, for runtimes.py. Needs the extra `export` (onnx, onnxscript)."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.runtimes import Graph, kind_of
from inkwash.weights.files import atomic
from inkwash.weights.shipped import describe, locate

TOLERANCE = 1e-4  # largest difference to torch with which a graph is written


class Function(nn.Module):
    """A function of a module as a module, so that every weight has the name "module." + its name in the file."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.module, *inputs)


def export(name: str | Path) -> list[Path]:
    """Writes the graphs of a model's components beside their weights, each when it has been found equal to torch.

    Returns their paths. Components that lie elsewhere and have theirs already are left alone.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError("to export a model: pip install 'inkwash[export]'")
    folder = locate(name)
    if describe(folder).get("system") != "pictures":
        raise UserError(f"{folder}: only models of pictures are exported")
    pipeline, written = Pipeline.load(folder, runtime="torch"), []
    for key, component in pipeline.components.items():
        path = pipeline.folders[key]
        if path == folder / key or not any(path.glob("*.onnx")):
            graphs = GRAPHS[kind_of(component)](component, pipeline.shape[1])
            written += [write(path / file, module, inputs) for file, (module, inputs) in graphs.items()]
    return written


Inputs = Callable[[int, int], dict[str, Tensor]]  # examples of a batch size and a text length, by name


def unet_graphs(unet: Any, _: int) -> dict[str, tuple[Function, Inputs]]:
    config, side = unet.config, unet.config["sample_size"] or 16
    channels = config["out_channels"]

    def inputs(n: int, length: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(n)

        def state(channels: int) -> Tensor:
            return torch.randn(n, channels, side, side, generator=rng)

        example = {"x": state(channels), "time": 1000 * torch.rand(n, generator=rng)}
        if config["class_embed_type"] == "projection":
            example["context"] = torch.randn(n, length, config["cross_attention_dim"], generator=rng)
            example["context_mask"] = text_mask(n, length)
            example["label"] = torch.randn(n, config["projection_class_embeddings_input_dim"], generator=rng)
        if concat_channels := config["in_channels"] - channels:
            example["concat"] = state(concat_channels)
        if config["class_embed_type"] == "timestep":
            example["noise_level"] = torch.rand(n, generator=rng)
        return example

    names = list(inputs(1, 2))
    return {"model.onnx": (Function(unet, lambda m, *arrays: m(**dict(zip(names, arrays, strict=True)))), inputs)}


def autoencoder_graphs(vae: Any, side: int) -> dict[str, tuple[Function, Inputs]]:
    z, pixels = vae.config["latent_channels"], vae.factor * side
    encode, decode = Function(vae, lambda m, x: m.encode(x)[0]), Function(vae, lambda m, z: m.decode(z))
    return {
        "encoder.onnx": (encode, lambda n, _: {"x": torch.randn(n, vae.config["in_channels"], pixels, pixels)}),
        "decoder.onnx": (decode, lambda n, _: {"z": torch.randn(n, z, side, side)}),
    }


def text_graphs(codec: TextCodec, _: int) -> dict[str, tuple[Function, Inputs]]:
    def inputs(n: int, length: int) -> dict[str, Tensor]:
        return {"ids": torch.randint(5, 99, (n, length)), "mask": text_mask(n, length)}

    return {"model.onnx": (Function(codec.network, lambda m, *arrays: m(*arrays)), inputs)}


def mean_graphs(predictor: Any, _: int) -> dict[str, tuple[Function, Inputs]]:
    label = predictor.config["label"]
    return {"model.onnx": (Function(predictor, lambda m, x: m(x)), lambda n, _: {"label": torch.randn(n, label)})}


GRAPHS = {
    "UNet2DConditionModel": unet_graphs,
    "AutoencoderKL": autoencoder_graphs,
    "TextCodec": text_graphs,
    "MeanPredictor": mean_graphs,
}


def text_mask(n: int, length: int) -> Tensor:
    """A mask (n, length) of texts, each a piece shorter than the one before."""
    return torch.arange(length) < torch.arange(length, length - n, -1)[:, None]


def write(file: Path, module: Function, inputs: Inputs) -> Path:
    """Exports a module into a file; batch size and text length stay open in the graph."""
    example = inputs(2, 7)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    lengths = {"context", "context_mask", "ids", "mask"}
    shapes = [{0: batch, 1: length} if name in lengths else {0: batch} for name in example]
    spatial = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    if getattr(module.module, "config", {}).get("sample_size", 0) is None:  # it knows no size
        shapes = [
            shape | spatial if example[name].ndim == 4 else shape for name, shape in zip(example, shapes, strict=True)
        ]
    program = torch.onnx.export(
        module.eval(),
        tuple(example.values()),
        dynamo=True,
        optimize=False,
        input_names=list(example),
        dynamic_shapes=(tuple(shapes),),
        verbose=False,
    )
    assert program is not None
    with atomic(file) as temporary:
        temporary.write_bytes(without_weights(program.model_proto, set(module.state_dict())))
        graph = Graph(file.parent, 1, temporary.name)
        for case in (example, inputs(3, 12)):
            with torch.no_grad():
                expected = module(*case.values())
            found = graph(*(value.numpy() for value in case.values()))
            pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
            worst = max(float(np.abs(a - b.numpy()).max()) for a, b in pairs)
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
