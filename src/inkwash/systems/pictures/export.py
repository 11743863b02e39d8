"""A model's networks as ONNX graphs without weights, for onnx.py. Needs the extra `export` (onnx, onnxscript)."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.concat import ConcatUNet
from inkwash.networks.unet import load_unet
from inkwash.systems.pictures.networks import load_mean_predictor
from inkwash.systems.pictures.onnx import session
from inkwash.systems.pictures.pipeline import WEIGHTS, part, read_config, text_encoder
from inkwash.weights.files import atomic
from inkwash.weights.shipped import describe, locate

TOLERANCE = 1e-4  # largest difference to torch with which a graph is written


class Called(nn.Module):
    """A function of a module as a module, so that every weight has the name "module." + its name in the file."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.module, *inputs)


def export(name: str | Path) -> list[Path]:
    """Writes the graphs of a model beside its weights, each when it has been found equal to torch; their paths.

    Raises UserError for a model of another kind than words to latents.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError("to export a model: pip install 'inkwash[export]'")
    folder = locate(name)
    info = read_config(folder) if describe(folder).get("system") == "pictures" else None
    place = part(folder, info, "vae") if info else None
    if info is None or place is None:
        raise UserError(
            f"{folder}: only models of pictures with an autoencoder are exported; this one draws by torch"
        )
    words, drawer = text_encoder(folder, info), part(folder, info, "sketch")
    unet, vae, text = load_unet(folder / "unet"), load_autoencoder(place), TextCodec.load(words).network
    sketch = load_mean_predictor(drawer) if drawer else None
    channels, side = unet.config["out_channels"], unet.config["sample_size"]
    width, label = unet.config["cross_attention_dim"], unet.config["projection_class_embeddings_input_dim"]

    def inputs(n: int, length: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(n)
        return {
            "x": torch.randn(n, channels, side, side, generator=rng),
            "time": 1000 * torch.rand(n, generator=rng),
            "context": torch.randn(n, length, width, generator=rng),
            "context_mask": torch.arange(length) < torch.arange(length, length - n, -1)[:, None],
            "label": torch.randn(n, label, generator=rng),
        } | ({} if sketch is None else {"sketch": torch.randn(n, channels, side, side, generator=rng)})

    def drawn(m: nn.Module, *given: Tensor) -> Tensor:
        x, time, *told = given
        return m(torch.cat([x, told.pop()], dim=1) if sketch else x, time, *told)

    def pixels(n: int, _: int) -> dict[str, Tensor]:
        return {"x": torch.randn(n, vae.config["in_channels"], vae.factor * side, vae.factor * side)}

    def pieces(n: int, length: int) -> dict[str, Tensor]:
        return {
            "ids": torch.randint(5, 99, (n, length)),
            "mask": torch.arange(length) < torch.arange(length, length - n, -1)[:, None],
        }

    written = [write(folder / "unet" / "model.onnx", folder / "unet" / WEIGHTS, Called(unet, drawn), inputs)]
    if info.base:  # the rest is its base's
        return written
    weights = folder / "vae" / WEIGHTS
    encode, decode = Called(vae, lambda m, x: m.encode(x)[0]), Called(vae, lambda m, z: m.decode(z))
    z = (vae.config["latent_channels"], side, side)
    written += [
        write(folder / "vae" / "encoder.onnx", weights, encode, pixels),
        write(folder / "vae" / "decoder.onnx", weights, decode, lambda n, _: {"z": torch.randn(n, *z)}),
    ]
    heard = words / "model.onnx"
    if (
        folder in words.parents or folder.parent == words.parent or not heard.exists()
    ):  # else it is another's, and there
        whole = Called(text, lambda m, *inputs: m(*inputs))
        written.append(write(heard, words / "model.safetensors", whole, pieces))
    if sketch is not None:
        file, weights = folder / "sketch" / "model.onnx", folder / "sketch" / "model.safetensors"
        labels = Called(sketch, lambda m, label: m(label))
        written.append(write(file, weights, labels, lambda n, _: {"label": torch.randn(n, label)}))
    if (folder / "upsampler").exists():
        growing = load_unet(folder / "upsampler")
        file, weights = folder / "upsampler" / "model.onnx", folder / "upsampler" / WEIGHTS
        states = growing.config["out_channels"]

        def shown(n: int, _: int) -> dict[str, Tensor]:
            x, small = torch.randn(n, states, 16, 16), torch.randn(n, growing.config["in_channels"] - states, 16, 16)
            return {"x": x, "time": 1000 * torch.rand(n), "small": small, "level": torch.rand(n)}

        written.append(write(file, weights, Called(growing, lambda m, *inputs: ConcatUNet(m)(*inputs)), shown))
    return written


def write(graph: Path, weights: Path, module: Called, inputs: Callable[[int, int], dict[str, Tensor]]) -> Path:
    """Exports a module; `inputs` gives examples of a batch size and a text length. Both stay open in the graph."""
    example = inputs(2, 7)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    lengths = {"context", "context_mask", "ids", "mask"}
    shapes = [{0: batch, 1: length} if name in lengths else {0: batch} for name in example]
    spatial = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    if graph.parent.name == "upsampler":  # it knows no size
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
    with atomic(graph) as file:
        file.write_bytes(without_weights(program.model_proto, set(module.state_dict())))
        run = session(file, weights, 1)
        for case in (example, inputs(3, 12)):
            with torch.no_grad():
                expected = module(*case.values())
            found = run(**{name: value.numpy() for name, value in case.items()})
            pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
            worst = max(float(np.abs(a - b.numpy()).max()) for a, b in pairs)
            if not worst < TOLERANCE:
                raise UserError(f"{graph}: differs from torch by {worst:.2g}; nothing was written")
    return graph


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
