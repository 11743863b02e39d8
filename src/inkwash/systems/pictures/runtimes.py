"""Where torch and the ONNX runtime differ, and nowhere else: how a component is loaded, what an array is, and what
networks run within.

Whatever computes them, components are used alike: `unet(x, time, **condition)`, `vae.encode(x)[0]`, `vae.decode(z)`,
`mean_predictor(label)`, `text_encoder.encode(texts, array)`, and each has its `config`.

The ONNX graphs (export.py writes them) hold no weights. They are put in from the same safetensors files that torch
reads, so weights ship once; and no torch is loaded, which alone takes longer than to draw a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.text import TextCodec, load_tokenizer
from inkwash.errors import UserError, unknown
from inkwash.systems.base import resolve
from inkwash.weights.graph import Graph, default_threads, fastest

RUNTIMES = ("onnx", "torch")
PRECISIONS = ("float32", "bfloat16", "float16")
CONDITION = ("context", "context_mask", "label", "concat", "noise_level")  # in the order of a graph's inputs


class Torch:
    """Everywhere, and what trains."""

    def __init__(self, device: str = "cpu", precision: str = "float32", threads: int | None = None) -> None:
        import torch

        from inkwash.training.placement import device_of

        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if threads:
            torch.set_num_threads(threads)
        self.device = device_of(device)
        self.torch, self.precision = torch, precision
        self.name = f"torch {torch.__version__}"

    @property
    def threads(self) -> int:
        return self.torch.get_num_threads()

    def load(self, kind: str, folder: Path) -> Any:
        return self.place(resolve(KINDS[kind].load)(folder))

    def place(self, component: Any) -> Any:
        """The component, on the device."""
        getattr(component, "network", component).to(self.device)
        return component

    def array(self, x: np.ndarray) -> Any:
        return self.torch.from_numpy(x).to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return self.torch.autocast(self.device.type, getattr(self.torch, self.precision))


class Onnx:
    """On a CPU in float32, the faster one."""

    device: Any = None
    precision = "float32"

    def __init__(self, threads: int | None = None) -> None:
        if not find_spec("onnxruntime"):
            raise UserError("runtime onnx needs onnxruntime: pip install onnxruntime, or give --runtime torch")
        import onnxruntime

        self.threads = threads or default_threads()
        self.name = f"onnxruntime {onnxruntime.__version__}"

    def load(self, kind: str, folder: Path) -> Any:
        return KINDS[kind].graphs(folder, self.threads)

    def array(self, x: np.ndarray) -> np.ndarray:
        return x

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()


class UNetGraph(Graph):
    """A U-Net's, with its condition by name."""

    def __call__(self, *arrays: np.ndarray, **condition: np.ndarray) -> Any:
        return super().__call__(*arrays, *(condition[name] for name in CONDITION if name in condition))


def autoencoder_graphs(folder: Path, threads: int) -> Any:
    encoder, decoder = (Graph(folder, threads, name) for name in ("encoder.onnx.gz", "decoder.onnx.gz"))
    return SimpleNamespace(config=decoder.config, encode=lambda x: [encoder(x)], decode=decoder)


def text_graphs(folder: Path, threads: int) -> Any:
    return TextCodec(load_tokenizer(folder), Graph(folder, threads))


class Kind(NamedTuple):
    """A class of components.

    library, cls  whose it is, and what it is called here; its name in model_index.json is the library's
    load, save    by torch: (folder) -> component, (component, folder)
    graphs        by ONNX: (folder, threads) -> what is used as the component is
    """

    library: str
    cls: str
    load: str
    save: str
    graphs: Callable[[Path, int], Any]


UNET, VAE, TEXT = "inkwash.networks.unet", "inkwash.networks.autoencoder", "inkwash.codecs.text:TextCodec"
MEAN = "inkwash.systems.pictures.networks"
KINDS = {
    "UNet2DConditionModel": Kind("diffusers", "UNet", f"{UNET}:load_unet", f"{UNET}:save_unet", UNetGraph),
    "AutoencoderKL": Kind(
        "diffusers", "Autoencoder", f"{VAE}:load_autoencoder", f"{VAE}:save_autoencoder", autoencoder_graphs
    ),
    "MeanPredictor": Kind(
        "inkwash", "MeanPredictor", f"{MEAN}:load_mean_predictor", f"{MEAN}:save_mean_predictor", Graph
    ),
    "TextCodec": Kind("inkwash", "TextCodec", f"{TEXT}.load", f"{TEXT}.save", text_graphs),
}


def kind_of(component: Any) -> str:
    """The name of a component's class in model_index.json. UserError for one that cannot be written."""
    names = [name for name, kind in KINDS.items() if kind.cls == type(component).__name__]
    if not names or isinstance(getattr(component, "network", component), Graph):
        raise UserError(f"a {type(component).__name__} cannot be saved: load the model with runtime torch")
    return names[0]


def choose(
    folders: Iterable[Path], device: str, precision: str, runtime: str | None, threads: int | None
) -> Torch | Onnx:
    """The runtime of this name, or the fastest."""
    if runtime not in (*RUNTIMES, None):
        raise unknown("runtime", str(runtime), RUNTIMES)
    if (runtime or fastest(folders, device, precision)) == "torch":
        return Torch(device, precision, threads)
    if device != "cpu" or precision != "float32":
        raise UserError(
            f"runtime onnx knows the CPU and float32 only: give --runtime torch for {device}, {precision}"
        )
    return Onnx(threads)
