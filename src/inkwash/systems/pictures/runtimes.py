"""Where torch and the ONNX runtime differ, and nowhere else: how a component is loaded, what an array is, and what
networks run within.

Whatever computes them, components are used alike: `unet(x, time, **condition)`, `vae.encode(x)[0]`, `vae.decode(z)`,
`mean_predictor(label)`, `text_encoder.encode(texts, array)`, and each has its `config`.

The ONNX graphs (export.py writes them) hold no weights. They are put in from the same safetensors files that torch
reads, so weights ship once; and no torch is loaded, which alone takes longer than to draw a picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.text import TextCodec, load_tokenizer
from inkwash.errors import UserError, unknown
from inkwash.systems.base import resolve
from inkwash.weights.files import check_weights, load_arrays
from inkwash.weights.shipped import load_json

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

        self.threads = threads or int(os.environ.get("OMP_NUM_THREADS", "1"))
        self.name = f"onnxruntime {onnxruntime.__version__}"

    def load(self, kind: str, folder: Path) -> Any:
        return KINDS[kind].graphs(folder, self.threads)

    def array(self, x: np.ndarray) -> np.ndarray:
        return x

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()


class Graph:
    """An ONNX graph on the weights that lie beside it, as a function of arrays, by position but for a U-Net's
    condition; it answers with one array or a list of them.

    Opened when it is first called. Raises UserError, in one line, for a graph or weights that are missing or do not
    fit each other.
    """

    def __init__(self, folder: Path, threads: int, name: str = "model.onnx") -> None:
        self.file, self.threads = folder / name, threads
        self.weights = next(folder.glob("*.safetensors"), folder / "model.safetensors")
        if not self.file.is_file():
            raise UserError(f"{self.file}: no such file; write it with `inkwash export`, or give --runtime torch")
        check_weights(self.weights)

    @cached_property
    def config(self) -> dict[str, Any]:
        return load_json(self.file.parent / "config.json")

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        data = self.file.read_bytes()
        # an autoencoder's file has two halves; a graph is given what it names
        weights = load_arrays(self.weights).items()
        arrays = {name: a for key, a in weights if (name := f"module.{key}").encode() in data}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), values)
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds have no common base
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self.file} does not fit {self.weights} ({reason:.160}): run `inkwash export` again"
            ) from None

    def __call__(self, *arrays: np.ndarray, **condition: np.ndarray) -> Any:
        inputs = [*arrays, *(condition[name] for name in CONDITION if name in condition)]
        names = [node.name for node in self.session.get_inputs()]
        outputs = self.session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs[0] if len(outputs) == 1 else outputs


def autoencoder_graphs(folder: Path, threads: int) -> Any:
    encoder, decoder = (Graph(folder, threads, name) for name in ("encoder.onnx", "decoder.onnx"))
    return SimpleNamespace(config=decoder.config, encode=lambda x: [encoder(x)], decode=decoder)


def text_graphs(folder: Path, threads: int) -> Any:
    return TextCodec(load_tokenizer(folder / "tokenizer.json"), Graph(folder, threads))


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
    "UNet2DConditionModel": Kind("diffusers", "UNet", f"{UNET}:load_unet", f"{UNET}:save_unet", Graph),
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


def fastest(folders: Iterable[Path], device: str, precision: str) -> str:
    """The runtime for components that lie there, if none is asked for: onnx where it can, since it is the faster."""
    possible = device == "cpu" and precision == "float32" and find_spec("onnxruntime")
    return "onnx" if possible and all(any(folder.glob("*.onnx")) for folder in folders) else "torch"


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
