"""A model's networks as ONNX graphs without weights, for runtimes.py. Needs the extra `export` (onnx, onnxscript)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.export import Function, check_installed, write_graph
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.runtimes import kind_of
from inkwash.weights.graph import graphs_in
from inkwash.weights.shipped import describe, locate


def export(name: str | Path) -> list[Path]:
    """Writes the graphs of a model's components beside their weights, each when it has been found equal to torch.

    Returns their paths. Components that lie elsewhere and have theirs already are left alone.
    """
    check_installed()
    folder = locate(name)
    if describe(folder).get("system") != "pictures":
        raise UserError(f"{folder}: only models of pictures are exported")
    pipeline, written = Pipeline.load(folder, runtime="torch"), []
    for key, component in pipeline.components.items():
        path = pipeline.folders[key]
        if path == folder / key or not graphs_in(path):
            graphs = GRAPHS[kind_of(component)](component, pipeline.shape[1])
            written += [write(path / file, *graph) for file, graph in graphs.items()]
    return written


TEXTS = ("context", "context_mask", "ids", "mask")  # inputs (batch, length, ...)
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
    return {"model.onnx.gz": (Function(unet, lambda m, *arrays: m(**dict(zip(names, arrays, strict=True)))), inputs)}


def autoencoder_graphs(vae: Any, side: int) -> dict[str, tuple[Function, Inputs]]:
    z, pixels = vae.config["latent_channels"], vae.factor * side
    encode, decode = Function(vae, lambda m, x: m.encode(x)[0]), Function(vae, lambda m, z: m.decode(z))
    return {
        "encoder.onnx.gz": (encode, lambda n, _: {"x": torch.randn(n, vae.config["in_channels"], pixels, pixels)}),
        "decoder.onnx.gz": (decode, lambda n, _: {"z": torch.randn(n, z, side, side)}),
    }


def text_graphs(codec: TextCodec, _: int) -> dict[str, tuple[Function, Inputs]]:
    def inputs(n: int, length: int) -> dict[str, Tensor]:
        return {"ids": torch.randint(5, 99, (n, length)), "mask": text_mask(n, length)}

    return {"model.onnx.gz": (Function(codec.network, lambda m, *arrays: m(*arrays)), inputs)}


def mean_graphs(predictor: Any, _: int) -> dict[str, tuple[Function, Inputs]]:
    label = predictor.config["label"]
    return {"model.onnx.gz": (Function(predictor, lambda m, x: m(x)), lambda n, _: {"label": torch.randn(n, label)})}


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
    """Batch size and text length stay open in the graph; of a network that knows no size its side, too."""
    sides = (2, 3) if getattr(module.module, "config", {}).get("sample_size", 0) is None else ()
    example = inputs(2, 7)
    axes = {
        name: (0, 1) if name in TEXTS else (0, *sides) if array.ndim == 4 else (0,) for name, array in example.items()
    }
    return write_graph(file, module, example, axes, [inputs(3, 12)])
